"""The sandbox as a whole: up, down, and what may be done in it meanwhile."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from broker.core.errors import BrokerError
from broker.provisioning.templates import render as render_bootstrap
from broker.sandbox import hosts, prepare
from broker.sandbox.emulators.faults import faults_from
from broker.sandbox.layout import CREDENTIALS, PORTS, layout
from broker.templating import render, shipped

_USERS = frozenset({"root", "alice", "bob", "broker"})
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The sandbox's first process waits until it is on record: were `up` killed before, nobody could find it to end it.
_FIRST = 'read -r go || exit 1; "$@" </dev/null & wait $!'
# A loaded machine with a cold disk; on a quiet one `up` takes a quarter of it.
_UP_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class PartStatus:
    name: str
    pid: int | None
    alive: bool


class Sandbox:
    """One sandbox, in `directory` (default: BROKER_SANDBOX or `.sandbox` here)."""

    def __init__(self, directory: Path | None = None, say: Callable[[str], None] | None = None) -> None:
        self.layout = layout(directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201  # progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(
        self,
        *,
        boot_seconds: float = 3.0,
        limits: str = "published",
        suspend_time_s: int = 20,
        dead_man_s: int = 120,
        resume_timeout_s: int = 300,
        nodes: int = 8,
        faults: Sequence[Mapping[str, Any]] = (),
        database: str = "sqlite",
    ) -> None:
        """Start everything and wait until it answers. BrokerError: it is up already, or a part did not come.

        `database`: where the ledger lies, `sqlite` or `postgres`. `nodes`: how many names the shape h100 has.
        """
        prepare.check_machine()
        if database == "postgres":
            prepare.postgres_programs()
        try:
            faults_from(list(faults))
        except ValueError as exc:
            raise BrokerError(str(exc)) from exc
        if self.is_up():
            raise BrokerError(f"the sandbox in {self.layout.directory} is up already; `broker sandbox down` ends it")
        began = time.monotonic()
        if self.down():
            self._say("sandbox: one that was interrupted while it started is ended first")
        shutil.rmtree(self.layout.log, ignore_errors=True)
        try:
            self._lay_out(
                limits=limits,
                database=database,
                suspend_time_s=suspend_time_s,
                dead_man_s=dead_man_s,
                resume_timeout_s=resume_timeout_s,
                nodes=nodes,
            )
            with prepare.alone(self.layout, self._say):
                prepare.instance_root(self.layout, self._say)
                prepare.database(self.layout, self._say)
                if database == "postgres":
                    prepare.postgres(self.layout, self._say)
                prepare.node_bundle(self.layout, self._say)
            self._start({"boot_seconds": boot_seconds, "limits": limits, "faults": list(faults), "database": database})
        except BaseException:  # Ctrl-C, too: half a sandbox is of no use to anybody
            self.down()
            raise
        self._say(f"sandbox: up after {time.monotonic() - began:.1f} s")

    def down(self) -> bool:
        """End everything and remove all but the logs; whether there was something. BrokerError: a process survived."""
        prepare.check_root()
        first = self._supervisor()
        if first is not None:
            namespace = str(Path(f"/proc/{first}/ns/pid").readlink())
            os.kill(first, signal.SIGKILL)
            limit = time.monotonic() + 20
            while left := _processes_in(namespace):
                if time.monotonic() > limit:
                    raise BrokerError(f"processes of the sandbox survived: {left}")
                time.sleep(0.05)
        if self._process is not None:
            if self._process.stdin is not None:  # it still waits to be put on record
                self._process.stdin.close()
            self._process.wait(20)
            self._process = None
        self._clear()
        return first is not None

    def is_up(self) -> bool:
        """Started, and everything answered once."""
        return self._supervisor() is not None and self.layout.ready.exists()

    def command(self, user: str, argv: Sequence[str]) -> list[str]:
        """`argv`, to be run on the login host as `user` in their home. BrokerError: not up, or no such user."""
        prepare.check_root()
        first = self._supervisor()
        if first is None:
            raise BrokerError("the sandbox is not up; `broker sandbox up` starts it")
        if user not in _USERS:
            raise BrokerError(f"the sandbox has no user {user!r}; it has {', '.join(sorted(_USERS))}")
        inner = self._pids()["host-ctl"]
        home = {"root": "/root", "broker": "/var/lib/broker"}.get(user, f"/home/{user}")
        return [
            *("nsenter", "--target", str(first), "--mount", "--net", "--uts", "--ipc", "--pid", "--"),
            *("nsenter", "--target", str(inner), "--mount", "--net", "--uts", "--ipc", "--pid", "--"),
            *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"),
            *("env", "-i", f"HOME={home}", f"USER={user}", f"LOGNAME={user}", f"PATH={_PATH}", "LANG=C.UTF-8"),
            *(f"TERM={os.environ.get('TERM', 'dumb')}", "SHELL=/bin/bash", "PYTHONDONTWRITEBYTECODE=1"),
            *("sh", "-c", 'cd && exec "$@"', "sh", *argv),
        ]

    def run(
        self, user: str, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        """Run `argv` on the login host as `user` and wait for its end."""
        return subprocess.run(
            self.command(user, argv), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start_program(self, user: str, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start `argv` on the login host as `user`, its output in `stdout`; the caller waits for its end."""
        return subprocess.Popen(self.command(user, argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def bill(self) -> list[dict[str, Any]]:
        """The emulated providers' own bills."""
        rows: list[dict[str, Any]] = self._ask("GET", "/bill")
        return rows

    def instances(self) -> list[str]:
        """Ids of the instances that cost money now."""
        ids: list[str] = self._ask("GET", "/living")
        return ids

    def faults(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the fault script."""
        self._ask("POST", "/faults", list(rows))

    def vanish(self, instance_id: str) -> None:
        """The provider loses a machine."""
        self._ask("POST", f"/vanish/{instance_id}")

    def take_away(self, instance_id: str) -> None:
        """Lambda announces that it takes a machine away: it is `preempted` now, and off some seconds later. A bid at Vast is
        outbid: off without notice, and on again by itself some seconds later unless it is ended."""
        self._ask("POST", f"/preempt/{instance_id}")

    def cut(self, address: str) -> None:
        """Nothing reaches the host at `address` any more, nor leaves it. BrokerError: there is no such host."""
        self._link(address, "down")

    def heal(self, address: str) -> None:
        """The host at `address` can be reached again."""
        self._link(address, "up")

    def parts(self) -> list[PartStatus]:
        """What was started, and whether it lives."""
        prepare.check_root()
        first = self._supervisor()
        if first is None:
            return []
        return [
            PartStatus(name=name, pid=pid, alive=self._lives(first, pid)) for name, pid in sorted(self._pids().items())
        ]

    def nodes(self) -> dict[str, str]:
        """Slurm's nodes and their states, in Slurm's own words. BrokerError: slurmctld does not answer."""
        try:
            done = self.run("root", ["sinfo", "--noheader", "--Node", "--format=%N %T"], timeout=15)
        except subprocess.TimeoutExpired as exc:
            raise BrokerError("sinfo on the login host: no answer in 15 s") from exc
        if done.returncode != 0:
            raise BrokerError(f"sinfo on the login host: {' '.join(done.stderr.split())}")
        return dict(line.split() for line in done.stdout.splitlines())

    def is_alive(self, part: str) -> bool:
        """Whether a part's process lives."""
        return any(status.alive for status in self.parts() if status.name == part)

    def signal(self, part: str, number: int) -> None:
        """Send a signal to a part's process. BrokerError: no such part."""
        prepare.check_root()
        first, pids = self._supervisor(), self._pids()
        if first is None or part not in pids:
            raise BrokerError(f"the sandbox has no part {part!r}; it has {', '.join(sorted(pids)) or 'none'}")
        kill = ["nsenter", "--target", str(first), "--pid", "--mount", "--", "kill", f"-{number}", str(pids[part])]
        subprocess.run(kill, check=False, capture_output=True, timeout=10)

    def start(self, part: str) -> None:
        """Start a part that has ended again, and wait until it lives. BrokerError: it lives, or it did not come."""
        prepare.check_root()
        first = self._supervisor()
        if first is None:
            raise BrokerError("the sandbox is not up")
        if self.is_alive(part):
            raise BrokerError(f"{part} lives; end it first")
        told = len(self._supervisor_lines())
        before = self._pids().get(part)
        (self.layout.directory / "restart").write_text(part)
        for child in Path(f"/proc/{first}/task/{first}/children").read_text().split():
            os.kill(int(child), signal.SIGHUP)
        limit = time.monotonic() + 70
        while self._pids().get(part) == before:
            for line in self._supervisor_lines()[told:]:
                name, _, reason = line.partition("\t")
                if name == "FAILED":
                    raise BrokerError(reason)
            if time.monotonic() > limit:
                raise BrokerError(f"{part} did not come back; see {self.layout.log / part}.log")
            time.sleep(0.05)

    def log_tail(self, part: str, lines: int = 5) -> list[str]:
        """The end of a part's log."""
        log = self.layout.log / f"{part}.log"
        return log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []

    def _lay_out(self, **values: object) -> None:
        where = self.layout
        for folder in (where.directory, where.run, where.state, where.homes, where.etc_slurm, where.scratch, where.log):
            folder.mkdir(parents=True, exist_ok=True)
        where.scratch.chmod(0o700)
        where.log.chmod(0o1777)
        text = render(
            "sandbox/broker.toml",
            credentials=CREDENTIALS,
            ports=PORTS,
            controller=hosts.CONTROLLER,
            cloud=hosts.CLOUD,
            **values,
        )
        etc_broker = where.directory / "etc-broker"
        prepare.write(etc_broker / "broker.toml", text, 0o640)
        for name in CREDENTIALS:
            prepare.write(etc_broker / f"{name}.key", secrets.token_urlsafe(32), 0o640)
        prepare.write(
            etc_broker / "export-sshd.conf",
            render_bootstrap(
                "export-sshd.conf",
                listen_address="10.77.0.1",
                port=2022,
                host_key_file="/etc/ssh/broker-export.key",
                pid_file="/run/broker-export-sshd.pid",
                exports="/var/lib/broker-exports",
            ),
        )
        key = where.etc_slurm / ".munge.key"
        prepare.write(key, "", 0o400)
        key.write_bytes(secrets.token_bytes(128))
        for name in ("slurm.conf", "slurmdbd.conf"):
            shutil.copy(shipped("templates", "sandbox", name), where.etc_slurm / name)
        addresses = {"ctl": hosts.CONTROLLER, "local-1": hosts.LOCAL_NODE, "cloud": hosts.CLOUD}
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        prepare.write(where.directory / "hosts.txt", "\n".join(lines) + "\n")

    def _start(self, options: dict[str, Any]) -> None:
        where = self.layout
        progress = where.log / "supervisor.log"
        progress.write_text("")
        with progress.open("ab") as output:
            process = self._process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc"),
                    *("--propagation", "private", "sh", "-c", _FIRST, "sh"),
                    *(sys.executable, "-m", "broker.sandbox.supervisor", str(where.directory), json.dumps(options)),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        limit = time.monotonic() + _UP_SECONDS
        told = 0
        while True:
            if process.stdin is not None and (child := children.read_text().split()):
                where.supervisor.write_text(f"{child[0]} {_started(int(child[0]))}")
                process.stdin.write(b"go\n")
                process.stdin.close()
                process.stdin = None
            lines = self._supervisor_lines()
            for line in lines[told:]:
                name, _, seconds = line.partition("\t")
                if name == "FAILED":
                    raise BrokerError(f"the sandbox did not come up: {seconds} (logs: {where.log})")
                self._say(f"sandbox: {name:<40} {seconds:>5} s")
            told = len(lines)
            if where.ready.exists():
                return
            if process.poll() is not None or time.monotonic() > limit:
                tail = "; ".join(progress.read_text(errors="replace").splitlines()[-4:])
                raise BrokerError(f"the sandbox did not come up: {tail} (logs: {where.log})")
            time.sleep(0.1)

    def _supervisor_lines(self) -> list[str]:
        """What the supervisor said so far: NAME, a tab, and seconds or, when NAME is FAILED, the reason."""
        progress = self.layout.log / "supervisor.log"
        return [line for line in progress.read_text(errors="replace").splitlines() if "\t" in line]

    def _supervisor(self) -> int | None:
        """The sandbox's first process; None when it is not up, also when its number now belongs to another process."""
        try:
            pid, started = self.layout.supervisor.read_text().split()
            return int(pid) if _started(int(pid)) == started else None
        except (OSError, ValueError):
            return None

    def _link(self, address: str, state: str) -> None:
        """Bridge port of a host: the host itself keeps its interface, as behind a cut cable."""
        prepare.check_root()
        first = self._supervisor()
        if first is None:
            raise BrokerError("the sandbox is not up")
        port = hosts.port_of(address)
        done = subprocess.run(
            ["nsenter", "--target", str(first), "--net", "--", "ip", "link", "set", port, state],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        if done.returncode != 0:
            raise BrokerError(f"no host of the sandbox has the address {address}: {done.stderr.strip()}")

    def _pids(self) -> dict[str, int]:
        try:
            pids: dict[str, int] = json.loads(self.layout.parts.read_text())
        except FileNotFoundError:
            return {}
        return pids

    def _lives(self, first: int, pid: int) -> bool:
        probe = ["nsenter", "--target", str(first), "--pid", "--mount", "--", "kill", "-0", str(pid)]
        return subprocess.run(probe, capture_output=True, check=False, timeout=10).returncode == 0

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.layout.control)), timeout=10) as http:
                answer = http.request(method, f"http://cloud{path}", json=body)
        except httpx.HTTPError as exc:
            raise BrokerError(f"the emulated cloud does not answer: {exc}; is the sandbox up?") from exc
        if answer.is_error:
            raise BrokerError(f"the emulated cloud refuses {path}: {answer.text}")
        return answer.json()

    def _clear(self) -> None:
        if not self.layout.directory.exists():
            return
        for path in self.layout.directory.iterdir():
            if path != self.layout.log:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _started(pid: int) -> str:
    """When the process was started, in clock ticks since boot: with its number it names one process for ever."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _processes_in(namespace: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal() and str((path / "ns" / "pid").readlink()) == namespace:
                found.append(int(path.name))
    return found
