"""Hosts of the sandbox: each with its own network, processes, mounts and name, on one bridge that stands for the internet."""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.core.errors import BrokerError
from broker.sandbox.emulators.lambda_instance import private_address
from broker.sandbox.emulators.machines import MachineSpec
from broker.templating import shipped

BRIDGE = "internet"
NETWORK = "203.0.113"
"""RFC 5737's documentation network: it exists only inside the sandbox's own network namespace."""
CLOUD = f"{NETWORK}.1"
CONTROLLER = f"{NETWORK}.2"
LOCAL_NODE = f"{NETWORK}.3"
_FIRST_INSTANCE = 16


@dataclass(frozen=True, kw_only=True)
class Host:
    """A running host. `pid`: its first process, as seen in the sandbox's process namespace."""

    name: str
    address: str
    pid: int
    process: "subprocess.Popen[bytes]"

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, to be run inside the host."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--uts", "--ipc", "--pid", "--", *argv]

    def stop(self) -> None:
        """End every process of the host; its network and mounts go with it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(120)


def make_bridge() -> None:
    """The internet of the sandbox; its own address is the provider's API."""
    for argv in (
        ["ip", "link", "set", "lo", "up"],
        # An address of its own: else it takes its lowest port's, changes with every machine that comes and goes, and
        # whoever remembers the old one (ARP) cannot reach the API for half a minute.
        ["ip", "link", "add", BRIDGE, "address", "02:00:00:00:00:01", "type", "bridge"],
        ["ip", "address", "add", f"{CLOUD}/24", "dev", BRIDGE],
        ["ip", "link", "set", BRIDGE, "up"],
    ):
        _run(argv)


def start_host(
    *, kind: str, name: str, address: str, lower: Path, scratch: Path, environment: Mapping[str, str], log: Path
) -> Host:
    """Start a host and give it its address. BrokerError: it ended while it was set up (its log is named)."""
    scratch.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"),
                *("--propagation", "private", "sh", str(shipped("templates", "sandbox", "host.sh"))),
                *(kind, str(lower), str(scratch), name),
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        )
    pid = _child_of(process, log)
    _connect(pid, address)
    if process.stdin is None:
        raise BrokerError(f"host {name}: no standard input")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"go\n")
        process.stdin.close()
    return Host(name=name, address=address, pid=pid, process=process)


class EmulatedMachines:
    """Real hosts behind the emulated provider's instances."""

    def __init__(self, root: Path, scratch: Path, log: Path) -> None:
        self._root = root
        self._scratch = scratch
        self._log = log
        self._hosts: dict[str, Host] = {}
        self._addresses: dict[str, str] = {}
        self._next = _FIRST_INSTANCE
        self._stopped: set[str] = set()
        self._lock = threading.Lock()

    def address(self, instance_id: str) -> str:
        """The next free public address; BrokerError when 238 instances live at once."""
        with self._lock:
            for _ in range(_FIRST_INSTANCE, 255):
                candidate = f"{NETWORK}.{self._next}"
                self._next = self._next + 1 if self._next < 254 else _FIRST_INSTANCE
                if candidate not in self._addresses.values():
                    self._addresses[instance_id] = candidate
                    return candidate
        raise BrokerError("the sandbox's cloud has no public address left")

    def start(self, spec: MachineSpec) -> None:
        """Boot the host in the background, as a cloud does."""
        threading.Thread(target=self._boot, args=(spec,), name=f"boot-{spec.id[:8]}").start()

    def stop(self, instance_id: str) -> None:
        """Power off, in the background: a host with a hung mount takes its time, and the API must not wait for it."""
        with self._lock:
            self._stopped.add(instance_id)
            host = self._hosts.pop(instance_id, None)
            self._addresses.pop(instance_id, None)
        threading.Thread(target=self._end, args=(instance_id, host), name=f"end-{instance_id[:8]}").start()

    def _end(self, instance_id: str, host: Host | None) -> None:
        if host is not None:
            host.stop()
        shutil.rmtree(self._scratch / f"{instance_id}.seed", ignore_errors=True)

    def _boot(self, spec: MachineSpec) -> None:
        seed = self._seed(spec)
        with self._lock:
            if spec.id in self._stopped:
                return
            address = self._addresses[spec.id]
        host = start_host(
            kind="instance",
            name=spec.hostname,
            address=address,
            lower=self._root,
            scratch=self._scratch / spec.id,
            environment={"SEED": str(seed)},
            log=self._log / f"instance-{spec.id[:8]}.log",
        )
        with self._lock:
            late = spec.id in self._stopped
            if not late:
                self._hosts[spec.id] = host
        if late:
            host.stop()

    def _seed(self, spec: MachineSpec) -> Path:
        """The files that make the common root this instance's own."""
        seed = self._scratch / f"{spec.id}.seed"
        for folder in ("etc", "home/ubuntu/.ssh", "var/lib/cloud"):
            (seed / folder).mkdir(parents=True, exist_ok=True)
        (seed / "etc" / "emulated-gpu").write_text(f"NAME='{spec.gpu}'\nMIB={spec.gpu_mib}\nCOUNT={spec.gpus}\n")
        if not spec.ssh:
            (seed / "etc" / "emulated-no-ssh").touch()
        home = seed / ("root" if spec.user == "root" else f"home/{spec.user}")
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        (home / ".ssh/authorized_keys").write_text(spec.public_key + "\n")
        if spec.ssh_port != 22:
            # As behind a host's address that passes this port on to the VM's 22.
            (seed / "etc/ssh/sshd_config.d").mkdir(parents=True, exist_ok=True)
            (seed / "etc/ssh/sshd_config.d/port.conf").write_text(f"Port {spec.ssh_port}\n")
        user_data = seed / "var/lib/cloud/user-data"
        user_data.touch(0o600)
        user_data.write_text(spec.user_data)
        return seed


def _child_of(process: "subprocess.Popen[bytes]", log: Path) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(500):
        if process.poll() is not None:
            break
        # The fork may still wear unshare's name: only once it is sh are its namespaces its own.
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "sh":
                return int(child)
        time.sleep(0.01)
    raise BrokerError(f"a host of the sandbox ended while it was set up; see {log}")


def port_of(address: str) -> str:
    """The name of a host's port on the bridge."""
    return f"host{address.rpartition('.')[2]}"


def _connect(pid: int, address: str) -> None:
    outer = port_of(address)
    with contextlib.suppress(BrokerError):
        _run(["ip", "link", "delete", outer])
    _run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
    _run(["ip", "link", "set", outer, "master", BRIDGE, "up"])
    inside = ["nsenter", "--target", str(pid), "--net", "--", "ip"]
    _run([*inside, "link", "set", "lo", "up"])
    _run([*inside, "address", "add", f"{address}/24", "dev", "eth0"])
    if int(address.rpartition(".")[2]) >= _FIRST_INSTANCE:
        _run([*inside, "address", "add", f"{private_address(address)}/24", "dev", "eth0"])
    _run([*inside, "link", "set", "eth0", "up"])


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise BrokerError(f"{' '.join(argv)}: {done.stderr.strip()}")
