"""A site with a real slurmctld in namespaces of its own, its Slurm side installed by `broker slurm-conf --install`."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from click.testing import CliRunner

from broker.cli.offline.slurm_conf import slurm_conf

T = TypeVar("T")
HERE = Path(__file__).parent
HUB = "10.77.0.1"

_SLURM_CONF = """\
ClusterName=rig
SlurmctldHost=ctl
SlurmUser=slurm
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/slurmd/%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
SlurmctldDebug=debug
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
KillWait=2
NodeName=local-1 NodeAddr=10.77.9.1 Port=7000 CPUs=2 RealMemory=500 State=UNKNOWN
PartitionName=local Nodes=local-1 Default=YES State=UP
include broker.conf
"""

_BROKER_TOML = """\
[site]
cluster = "rig"
spool_dir = "{folder}/spool"
[slurm]
conf = "{folder}/etc/slurm.conf"
plugin_dir = "{folder}/etc/broker"
resume_timeout_s = 120
suspend_timeout_s = 3
suspend_time_s = 600
[overlay]
cidr = "10.77.0.0/16"
endpoint = "192.0.2.1:51820"
[[shape]]
name = "h100"
partition = "h100"
gpu = "H100"
gpu_count = 2
cpus = 2
memory_gib = 1
disk_gib = 1
nodes = 4
[[shape]]
name = "late"
partition = "late"
cpus = 1
memory_gib = 1
disk_gib = 1
nodes = 1
[provider.lambda-a]
kind = "lambda"
api_key_file = "{folder}/key"
"""

ADDRESSES = {**{f"h100-{n}": f"10.77.0.{n + 1}" for n in range(1, 5)}, "late-1": "10.77.0.6"}


_CLIENT = """
import pickle, sys
from broker.slurm.client import CommandClient
method, arguments, conf, timeout = pickle.load(sys.stdin.buffer)
try:
    answer = getattr(CommandClient(conf, timeout), method)(*arguments)
except Exception as exc:
    answer = exc
sys.stdout.buffer.write(pickle.dumps(answer))
"""


class SlurmSite:
    """Starts on creation; `close` ends every process, mount and namespace of it and removes its folder.

    `prefix`: where another Slurm than the host's is installed.
    """

    def __init__(self, prefix: Path | None = None) -> None:
        self._prefix = prefix
        # Not pytest's own folder: SlurmUser has to reach this one.
        self.folder = Path(tempfile.mkdtemp(prefix="broker-slurm-"))
        self.folder.chmod(0o755)
        self.intents, self.jobs = self.folder / "spool/intents", self.folder / "spool/jobs"
        self.config = self.folder / "broker.toml"
        self._process: subprocess.Popen[str] | None = None
        try:
            self._prepare()
            self._knock = os.open(self.folder / "spool/knock", os.O_RDONLY | os.O_NONBLOCK)
            self._start()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        etc = self.folder / "etc"
        etc.mkdir()
        (etc / "slurm.conf").write_text(_SLURM_CONF.format(folder=self.folder))
        self.config.write_text(_BROKER_TOML.format(folder=self.folder))
        (self.folder / "key").write_text("no-key\n")
        (self.folder / "key").chmod(0o600)
        for folder in (self.intents, self.jobs):
            folder.mkdir(parents=True)
            shutil.chown(folder, "slurm", "root")
            folder.chmod(0o2770)
        os.mkfifo(self.folder / "spool/knock")
        shutil.chown(self.folder / "spool/knock", "root", "slurm")
        (self.folder / "spool/knock").chmod(0o620)
        done = self.broker("--install", str(etc / "broker"), "--json")
        answer = json.loads(done)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{HUB} ctl\n10.77.9.1 local-1\n{answer['hosts']}")
        fragment = etc / "broker.conf"
        text = fragment.read_text()
        # Several slurmd on one host; and one partition whose machines are always too late.
        text = re.sub(r"(NodeName=h100-\S+ )", r"\1Port=[7001-7004] ", text)
        text = re.sub(r"(PartitionName=late .*)ResumeTimeout=\d+", r"\1ResumeTimeout=2", text)
        fragment.write_text(text)

    def _start(self) -> None:
        addresses = [HUB, "10.77.9.1", *ADDRESSES.values()]
        self._process = subprocess.Popen(
            [HERE / "slurm_rig.sh", self.folder, *addresses],
            env={**os.environ, "SLURM_PREFIX": str(self._prefix or "")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self.log()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._inside = int(children.split()[0])

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            os.close(self._knock)
        shutil.rmtree(self.folder)

    def broker(self, *words: str, code: int = 0) -> str:
        """`broker slurm-conf` with this site's configuration."""
        result = CliRunner().invoke(slurm_conf, ["--config", str(self.config), *words], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        assert result.return_value == code, result.output
        return result.stdout

    def command(self, *words: str, env: dict[str, str] | None = None) -> list[str]:
        """The argument list that runs `words` inside."""
        settings = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SLURM_CONF": f"{self.folder}/etc/slurm.conf",
            **(env or {}),
        }
        sets = [f"{key}={value}" for key, value in settings.items()]
        return ["nsenter", f"--target={self._inside}", "--all", "env", "-i", *sets, *words]

    def try_(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=30, check=False)

    def run(self, *words: str) -> str:
        done = self.try_(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *words: str) -> int:
        return int(self.run("sbatch", "--parsable", "--output=/dev/null", *words))

    def state(self, job: int) -> str:
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def client(self, method: str, *arguments: object, timeout: float = 10.0) -> Any:
        """What `CommandClient` answers inside; its errors are raised here."""
        wanted = pickle.dumps((method, arguments, self.folder / "etc/slurm.conf", timeout))
        done = subprocess.run(
            self.command(sys.executable, "-c", _CLIENT), input=wanted, capture_output=True, timeout=60, check=True
        )
        answer = pickle.loads(done.stdout)  # noqa: S301  # from our own script
        if isinstance(answer, Exception):
            raise answer
        return answer

    def slurmctld_pid(self) -> str:
        return self.run("cat", "/run/slurmctld.pid")

    def forgets_waiters(self) -> bool:
        """Whether this release runs no PrologSlurmctld again that ended with the slurmctld before."""
        release = self.run("scontrol", "--version").split()[1]
        return tuple(int(part) for part in release.split(".")[:2]) >= (25, 11)

    def start_slurmctld(self) -> None:
        self.run("slurmctld", "-f", f"{self.folder}/etc/slurm.conf")
        wait_for(lambda: "UP" in self.try_("scontrol", "ping").stdout, "slurmctld", self.log)

    def boot(self, node: str) -> None:
        """What the join does last: slurmd, its configuration fetched from slurmctld."""
        (self.folder / "slurmd" / node).mkdir(exist_ok=True)
        self.run("slurmd", "-b", "-N", node, "--conf-server", f"{HUB}:6817")

    def intent(self, verb: str, node: str) -> dict[str, object]:
        """The first intent of `verb` that names `node`; waits for it."""
        return wait_for(lambda: self._intent(verb, node), f"a {verb} intent for {node}", self.log)

    def _intent(self, verb: str, node: str) -> dict[str, object] | None:
        for path in sorted(self.intents.glob(f"*-{verb}.json")):
            body: dict[str, object] = json.loads(path.read_text())
            if node in self.run("scontrol", "show", "hostnames", str(body["nodes"])).split():
                return body
        return None

    def knocks(self) -> int:
        """How often somebody knocked since the last call."""
        try:
            return len(os.read(self._knock, 4096))
        except BlockingIOError:
            return 0

    def log(self) -> str:
        path = self.folder / "log/slurmctld.log"
        return path.read_text()[-4000:] if path.exists() else "no slurmctld.log"


def wait_for(look: Callable[[], T | None], what: str, explain: Callable[[], str], limit_s: float = 15.0) -> T:
    """The first answer of `look` that is neither None nor False."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if answer := look():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {limit_s} s\n{explain()}")
