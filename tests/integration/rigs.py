"""Parts of the join's rig, for tests that `in_namespaces` runs: a controller host, and machines beside it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.sandbox import prepare
from broker.sandbox.layout import Layout

HERE = Path(__file__).parent

NET_ADMIN = (
    *("setpriv", "--reuid", "brokertest", "--regid", "brokertest", "--clear-groups"),
    *("--inh-caps", "-all,+net_admin", "--ambient-caps", "-all,+net_admin", "--bounding-set", "-all,+net_admin"),
)
"""An ordinary user with one capability."""


def instance_root(work: Path) -> Path:
    """The root of the sandbox's instances, which has no Slurm; it is made when this checkout has none yet."""
    layout = Layout(directory=work / "prepare", cache=HERE.parents[1] / ".cache")
    layout.log.mkdir(parents=True)
    prepare.instance_root(layout, lambda _line: None)
    return layout.instance_root


def in_namespaces(module: str, work: Path, **more: str) -> None:
    """Run the tests of `module` as root of namespaces of their own; whatever they start ends with them."""
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts", "--ipc"]
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-q", str(HERE / module)]
    environment = {**os.environ, "BROKER_RIG": str(work), "PYTHONPATH": str(HERE.parents[1]), **more}
    done = subprocess.run(
        [*command, *pytest], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def sh(script: str, **keywords: Any) -> str:
    """A script's standard output; it must end well."""
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=False, **keywords)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(holds: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Wait for a state."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what or holds}"
        time.sleep(0.05)


LIBRARY = Path("/run/rig-library")
PYTHON = (
    "env",
    f"PYTHONPATH={LIBRARY}",
    "PYTHONDONTWRITEBYTECODE=1",
    shutil.which("python3", path="/usr/bin") or sys.executable,
)
"""The system's Python and a copy of our package: ordinary users may have no way into this checkout or its environment."""


class Controller:
    """The controller host: users alice and bob, an overlay hub, the two privileged domains, an export sshd."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.daemons: list[subprocess.Popen[bytes]] = []
        sh("mount --make-rprivate /; mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/sshd /run/broker /run/munge")
        work.mkdir()
        for part in ("core", "privileged"):
            shutil.copytree(HERE.parents[1] / "broker" / part, LIBRARY / "broker" / part)
        shutil.copy(HERE.parents[1] / "broker" / "__init__.py", LIBRARY / "broker")
        sh("ip link set lo up; ip link add internet type bridge; ip address add 203.0.113.1/24 dev internet")
        sh("ip link set internet up; hostname ctl")
        self._accounts()

    def _accounts(self) -> None:
        """The real files stay as they are: changed copies are mounted over them, in this mount namespace only."""
        added = {
            "passwd": [
                "alice:x:1001:1001:Alice:/home/alice:/bin/bash",
                "bob:x:1002:1002::/home/bob:/bin/bash",
                "brokertest:x:990:990::/nonexistent:/usr/sbin/nologin",
            ],
            "group": ["alice:x:1001:", "bob:x:1002:", "science:x:1010:alice", "brokertest:x:990:"],
            "shadow": ["alice:!:19000:0:99999:7:::", "bob:!:19000:0:99999:7:::"],
        }
        for name, lines in added.items():
            names = {line.split(":")[0] for line in lines}
            kept = [line for line in Path("/etc", name).read_text().splitlines() if line.split(":")[0] not in names]
            copy = self.work / name
            copy.write_text("\n".join([*kept, *lines]) + "\n")
            copy.chmod(0o640 if name == "shadow" else 0o644)
            sh(f"mount --bind {copy} /etc/{name}")
        sh("mount -t tmpfs -o mode=755 tmpfs /home; mkdir -m 700 /home/alice /home/bob")
        sh("echo secret >/home/bob/diary; chown 1001:1001 /home/alice; chown -R 1002:1002 /home/bob")

    def start(self, *command: str, **keywords: Any) -> subprocess.Popen[bytes]:
        log = (self.work / f"{Path(command[0]).name}-{len(self.daemons)}.log").open("wb")
        with log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **keywords)
        self.daemons.append(process)
        return process

    def hub(self) -> str:
        """A hub at 10.77.0.1, run by the unprivileged domain's user; its public key.

        wireguard-go leaves when its control socket changes owner, so it must be started by whoever will use it.
        """
        sh(
            f"""
            (umask 077; wg genkey >{self.work}/hub.key)
            mknod -m 666 {self.work}/tun c 10 200; mount --bind {self.work}/tun /dev/net/tun
            install -d -o brokertest /run/wireguard
            {" ".join(NET_ADMIN)} wireguard-go broker0 >{self.work}/hub.log 2>&1
            wg set broker0 private-key {self.work}/hub.key listen-port 51820
            ip address add 10.77.0.1/24 dev broker0; ip link set broker0 mtu 1380 up
            """
        )
        return sh(f"wg pubkey <{self.work}/hub.key").strip()

    def net_domain(self) -> Path:
        """broker-net as an ordinary user with one capability."""
        sh("chown brokertest /run/broker")
        path = Path("/run/broker/net.sock")
        self.start(
            *NET_ADMIN,
            *(*PYTHON, "-m", "broker.privileged.net", "--socket", str(path), "--interface", "broker0"),
            *("--cidr", "10.77.0.0/24", "--allow-user", "brokertest"),
        )
        until(path.exists, what="broker-net's socket")
        return path

    def as_user_domain(self) -> Path:
        path, exports = Path("/run/broker/as-user.sock"), self.work / "exports"
        self.start(
            *(*PYTHON, "-m", "broker.privileged.as_user", "--socket", str(path), "--exports", str(exports)),
            *("--allow-user", "brokertest"),
        )
        until(path.exists, what="broker-as-user's socket")
        return path

    def export_sshd(self) -> str:
        """The public half of its host key."""
        from broker.provisioning.templates import render  # noqa: PLC0415

        key = self.work / "export_host_key"
        sh(f"ssh-keygen -q -t ed25519 -N '' -f {key}")
        config = self.work / "export-sshd.conf"
        config.write_text(
            render(
                "export-sshd.conf",
                listen_address="10.77.0.1",
                port=2022,
                host_key_file=key,
                pid_file=self.work / "export-sshd.pid",
                exports=self.work / "exports",
            )
        )
        self.start("/usr/sbin/sshd", "-D", "-e", "-f", str(config))
        until(lambda: "10.77.0.1:2022" in sh("ss -ltn"), what="the export sshd")
        return " ".join(key.with_suffix(".pub").read_text().split()[:2])

    def stop(self) -> None:
        for process in self.daemons:
            process.terminate()
        for process in self.daemons:
            process.wait(10)
        # For whoever looks into a failure: the folder in memory goes with the namespaces.
        kept = os.environ["BROKER_RIG"]
        sh(f"cd {self.work}; find . -name '*.log' -size +0 -exec cp --parents -t {kept} {{}} + || true")


class Machine:
    """A rented machine at 203.0.113.<number>; ubuntu's key and the one-use host key are given to it."""

    def __init__(self, work: Path, number: int, gpus: str, public_key: str, user_data: str) -> None:
        root = os.environ["BROKER_INSTANCE_ROOT"]
        self.address = f"203.0.113.{number}"
        self.name = f"m{number}"
        self.work = work / self.name
        self.work.mkdir()
        for file, text in (("gpus", gpus), ("authorized_keys", public_key), ("user-data", user_data)):
            (self.work / file).write_text(f"{text}\n")
        sh(
            f"""
            ip netns add {self.name}
            ip link add {self.name} type veth peer name eth0 netns {self.name}
            ip link set {self.name} master internet up
            ip -n {self.name} link set lo up
            ip -n {self.name} address add {self.address}/24 dev eth0
            ip -n {self.name} link set eth0 up
            """
        )
        with (self.work / "console.log").open("wb") as console:
            self.process = subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/{self.name}", "unshare", "--mount", "--uts", "--pid", "--ipc"),
                    *("--fork", "--kill-child", "bash", str(HERE / "machine.sh"), root, str(self.work)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )

    @property
    def root(self) -> str:
        """The machine's root folder, seen from outside."""
        child = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]
        return f"/proc/{child}/root"

    def inside(self, script: str) -> str:
        """Run a script as the machine's root."""
        child = self.root.split("/")[2]
        done = subprocess.run(
            [
                "nsenter",
                "--target",
                child,
                "--mount",
                "--uts",
                "--pid",
                "--net",
                "--root",
                "--wd=/",
                "sh",
                "-euc",
                script,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
