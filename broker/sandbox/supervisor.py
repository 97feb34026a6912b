"""Runs inside the sandbox's own namespaces and starts its parts in order. When its first process ends, all of it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from broker.core.errors import BrokerError
from broker.sandbox import hosts, prepare
from broker.sandbox.emulators.control import Cloud, control_api, set_faults
from broker.sandbox.emulators.lambda_cloud import LambdaCloud
from broker.sandbox.emulators.lambda_http import public_api
from broker.sandbox.emulators.vast_cloud import VastCloud
from broker.sandbox.emulators.vast_http import vast_api
from broker.sandbox.hosts import EmulatedMachines, Host, start_host
from broker.sandbox.layout import CREDENTIALS, PORTS, Layout, layout
from broker.sandbox.parts import Part, controller_parts, local_parts
from broker.templating import shipped

CHECKOUT = Path(__file__).resolve().parents[2]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Supervisor:
    """Starts the parts, keeps their process ids in `parts.json`, and starts one again when asked to (`start PART`)."""

    def __init__(self, where: Layout, options: dict[str, object]) -> None:
        self._where = where
        self._options = options
        self._hosts: dict[str, Host] = {}
        self._pids: dict[str, int] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def run(self) -> None:
        """Bring everything up, say `ready`, then serve until killed. BrokerError: a part did not come."""
        self._step("network", hosts.make_bridge)
        self._step("clouds (emulated Lambda and Vast.ai)", self._start_cloud)
        self._step("login host ctl", lambda: self._start_site("ctl", hosts.CONTROLLER))
        for part in self._controller_parts()[:4]:
            self._start(part)
        self._step("overlay hub", self._make_hub)
        self._step("Slurm configuration", self._configure_slurm)
        for part in self._controller_parts()[4:]:
            self._start(part)
        self._step("accounts", self._make_accounts)
        self._step("local node", self._start_local_node)
        self._where.ready.write_text("")

    def restart(self, name: str) -> None:
        """Start a part that has ended again. BrokerError: no such part, or it did not come."""
        known = {part.name: part for part in (*self._controller_parts(), *local_parts(self._inside))}
        if name not in known:
            raise BrokerError(f"no part {name!r} can be started; {', '.join(sorted(known))} can")
        self._start(known[name])

    def _controller_parts(self) -> list[Part]:
        postgres = prepare.postgres_programs() if self._options.get("database") == "postgres" else None
        return controller_parts(self._where, CHECKOUT, self._inside, postgres)

    def _start_cloud(self) -> None:
        machines = EmulatedMachines(self._where.instance_root, self._where.scratch, self._where.log)
        boot_seconds, limits = float(str(self._options["boot_seconds"])), str(self._options["limits"])
        lambda_cloud = LambdaCloud(self._keys("lambda"), machines, time.time, boot_seconds=boot_seconds, limits=limits)
        vast_cloud = VastCloud(self._keys("vast"), machines, time.time, boot_seconds=boot_seconds, limits=limits)
        set_faults((lambda_cloud, vast_cloud), self._options["faults"])
        self._where.control.parent.mkdir(mode=0o700, exist_ok=True)
        self._where.control.unlink(missing_ok=True)
        control = control_api(lambda_cloud, vast_cloud)
        servers = (
            uvicorn.Config(public_api(lambda_cloud), host=hosts.CLOUD, port=PORTS["lambda"], log_level="warning"),
            uvicorn.Config(vast_api(vast_cloud), host=hosts.CLOUD, port=PORTS["vast"], log_level="warning"),
            uvicorn.Config(control, uds=str(self._where.control), log_level="warning"),
        )
        for config in servers:
            threading.Thread(target=uvicorn.Server(config).run, daemon=True).start()
        for cloud in (lambda_cloud, vast_cloud):
            threading.Thread(target=_tick, args=(cloud,), daemon=True).start()
        _wait(self._where.control.exists, "the emulated clouds", 20)

    def _keys(self, kind: str) -> dict[str, str]:
        folder = self._where.directory / "etc-broker"
        return {(folder / f"{name}.key").read_text().strip(): name for name, its in CREDENTIALS.items() if its == kind}

    def _start_site(self, name: str, address: str) -> None:
        where = self._where
        binds = {
            CHECKOUT: CHECKOUT,
            Path(sys.base_prefix): Path(sys.base_prefix),
            where.directory: where.directory,
            where.homes: Path("/home"),
            where.etc_slurm: Path("/etc/slurm"),
            where.log: Path("/var/log/sandbox"),
            where.directory / "hosts.txt": Path("/etc/hosts"),
        }
        if name == "ctl":
            binds |= {
                where.run: Path("/run/broker"),
                where.state: Path("/var/lib/broker"),
                where.directory / "etc-broker": Path("/etc/broker"),
            }
        self._hosts[name] = start_host(
            kind="site",
            name=name,
            address=address,
            lower=Path("/"),
            scratch=where.scratch / name,
            environment={"BINDS": "\n".join(f"{source}:{target}" for source, target in binds.items())},
            log=where.log / f"host-{name}.log",
        )
        self._pids[f"host-{name}"] = self._hosts[name].pid
        self._save()
        own_root = '[ "$(findmnt -n -o FSTYPE /)" = overlay ] && [ ! -e /.old/proc ]'
        _wait(lambda: self._inside(name, ["sh", "-c", own_root]), f"host {name}", 20)
        self._must(name, ["sh", str(shipped("templates", "sandbox", "site.sh")), str(CHECKOUT)])

    def _make_hub(self) -> None:
        script = (
            "wg set broker0 listen-port 51820 private-key /run/hub.key && "
            "ip address add 10.77.0.1/16 dev broker0 && ip link set broker0 mtu 1380 up"
        )
        self._must("ctl", ["sh", "-c", script])

    def _configure_slurm(self) -> None:
        """As an admin would: install, then add the one line and the hosts it asks for."""
        conf = [str(CHECKOUT / ".venv" / "bin" / "broker"), "slurm-conf", "--config", "/etc/broker/broker.toml"]
        self._must("ctl", [*conf, "--install", "/etc/slurm/broker"])
        with (self._where.etc_slurm / "slurm.conf").open("a") as slurm_conf:
            slurm_conf.write("include broker.conf\n")
        facts = json.loads(self._must("ctl", [*conf, "--json"]))
        with (self._where.directory / "hosts.txt").open("a") as hosts_file:
            hosts_file.write(facts["hosts"])

    def _make_accounts(self) -> None:
        for words in (
            ("add", "account", "lab", "Description=lab", "Organization=lab"),
            ("add", "user", "alice,bob", "Account=lab"),
            ("add", "user", "broker", "Account=lab", "AdminLevel=Admin"),
        ):
            self._must("ctl", ["sacctmgr", "-i", *words])

    def _start_local_node(self) -> None:
        self._start_site("local-1", hosts.LOCAL_NODE)
        for part in local_parts(self._inside):
            self._start(part)

    def _start(self, part: Part) -> None:
        log = self._where.log / f"{part.name}.log"

        def start() -> None:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    self._hosts[part.host].command(part.command()),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=_environment(),
                    start_new_session=True,
                )
            _wait(lambda: part.ready() or _ended(process, part, log), part.name, 60)
            with self._lock:
                self._pids[part.name] = _innermost(process.pid)
            self._save()

        self._step(part.name, start)

    def _inside(self, host: str, argv: Sequence[str]) -> bool:
        done = subprocess.run(
            self._hosts[host].command(argv), capture_output=True, env=_environment(), timeout=30, check=False
        )
        return done.returncode == 0

    def _must(self, host: str, argv: Sequence[str]) -> str:
        done = subprocess.run(
            self._hosts[host].command(argv),
            capture_output=True,
            env=_environment(),
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join(f"{done.stdout} {done.stderr}".split())
            raise BrokerError(f"{' '.join(argv[:3])} … on {host}: {said[-600:]}")
        return done.stdout

    def _step(self, name: str, do: Callable[[], None]) -> None:
        began = time.monotonic()
        do()
        print(f"{name}\t{time.monotonic() - began:.1f}", flush=True)  # noqa: T201  # `up` reads these lines

    def _save(self) -> None:
        with self._lock:
            part = self._where.parts.with_suffix(".part")
            part.write_text(json.dumps(self._pids))
            part.rename(self._where.parts)


def main() -> None:
    """`python -m broker.sandbox.supervisor DIRECTORY OPTIONS-AS-JSON`, in namespaces of its own."""
    supervisor = Supervisor(layout(Path(sys.argv[1])), json.loads(sys.argv[2]))
    try:
        supervisor.run()
    except BrokerError as exc:
        print(f"FAILED\t{exc}", flush=True)  # noqa: T201
        sys.exit(1)
    requests = Path(sys.argv[1]) / "restart"
    while True:
        # `broker sandbox` asks for a part by writing its name here and sending SIGHUP.
        signal.sigwait({signal.SIGHUP})
        try:
            supervisor.restart(requests.read_text().strip())
        except BrokerError as exc:
            print(f"FAILED\t{exc}", flush=True)  # noqa: T201


def _tick(cloud: Cloud) -> None:
    while True:
        cloud.tick()
        time.sleep(0.1)


def _environment() -> dict[str, str]:
    return {"PATH": _PATH, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "SLURM_CONF": "/etc/slurm/slurm.conf"}


def _ended(process: "subprocess.Popen[bytes]", part: Part, log: Path) -> bool:
    if process.poll() is None:
        return False
    tail = "; ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
    raise BrokerError(f"{part.name} ended with {process.returncode} while it started: {tail} (see {log})")


def _innermost(pid: int) -> int:
    """The program itself below nsenter and unshare."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{pid}/comm").read_text().strip() not in {"nsenter", "unshare"}:
            break
        pid = int(children[0])
    return pid


def _wait(reached: Callable[[], bool], what: str, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > limit:
            raise BrokerError(f"{what} is not ready after {seconds:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    os.umask(0o022)
    main()
