"""The machines behind SSH, the hub's peers and the exported homes: they live on when the daemon dies."""

import base64
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from broker.core.errors import NodeUnreachable, StepFailed
from broker.privileged.fake import FakeAsUser, FakeNet, home_of
from broker.provisioning.base import StepResult
from broker.provisioning.keys import new_host_key
from broker.reconcile.sign import Sign
from broker.sandbox.emulators.machines import MachineSpec

USERS = ("alice", "bob")


@dataclass(eq=False)
class Machine:
    """One instance's host. `ssh_from`, `overlay_from`: unreachable before that time (seconds of the world's clock)."""

    id: str
    address: str
    label: str
    on: bool = False
    spec: MachineSpec | None = None
    host_key: str | None = None
    made_key: str | None = None
    overlay_key: str | None = None
    home_key: str | None = None
    slurmd: str | None = None
    """The node that its slurmd says it is."""
    mounted: str | None = None
    """Whose home lies there."""
    ssh_from: float = 0.0
    overlay_from: float = 0.0
    steps: dict[str, int] = field(default_factory=dict)
    breaks_at: str | None = None
    """The step that fails on it, for ever."""


class Machines:
    """`Machines` of the emulated cloud, and what the daemon's shells do on them."""

    def __init__(self, lock: threading.RLock, seconds: Callable[[], float], addresses: dict[str, str]) -> None:
        self._lock = lock
        self._seconds = seconds
        self.node_of = {address: node for node, address in addresses.items()}
        self.net = FakeNet()
        self.as_user = FakeAsUser(*(home_of(user, 1001 + number) for number, user in enumerate(USERS)))
        self.all: dict[str, Machine] = {}
        self.controller_answers: Callable[[], bool] = lambda: True
        self.processes_end: Callable[[Machine], None] = lambda machine: None
        """Told when what runs on a machine is ended there."""
        self.faults: list[tuple[str, str]] = []
        """Each is for the next machine powered on: ("breaks", step) or ("cut", seconds)."""

    # --- the cloud's side

    def address(self, instance_id: str) -> str:
        with self._lock:
            number = len(self.all)
            address = f"198.{18 + number // 65025}.{number // 255 % 255}.{number % 255}"
            self.all[address] = Machine(id=instance_id, address=address, label="")
            return address

    def start(self, spec: MachineSpec) -> None:
        with self._lock:
            machine = self._by_id(spec.id)
            machine.spec, machine.on, machine.label = spec, True, spec.hostname
            machine.host_key = _public_half(spec.user_data)
            if self.faults:
                kind, value = self.faults.pop(0)
                if kind == "breaks":
                    machine.breaks_at = value
                else:
                    machine.ssh_from = self._seconds() + float(value)

    def stop(self, instance_id: str) -> None:
        with self._lock:
            machine = self._by_id(instance_id)
            machine.on, machine.slurmd, machine.mounted = False, None, None
            self.processes_end(machine)

    def _by_id(self, instance_id: str) -> Machine:
        return next(machine for machine in self.all.values() if machine.id == instance_id)

    # --- what others see of them

    def behind(self, node: str) -> Machine | None:
        """The machine whose slurmd slurmctld reaches at the node's address."""
        with self._lock:
            for machine in self.all.values():
                if machine.on and machine.slurmd == node and self.overlay_node(machine) == node:
                    return machine
        return None

    def overlay_node(self, machine: Machine) -> str | None:
        """The node whose address the machine's key holds at the hub; None: fenced, or cut off."""
        if machine.overlay_key is None or not machine.on or self._seconds() < machine.overlay_from:
            return None
        for address, key in self.net.by_address.items():
            if key == machine.overlay_key:
                return self.node_of.get(address)
        return None

    def reaches_home(self, machine: Machine, user: str) -> bool:
        """Whether what runs there for `user` can still write to their home."""
        if machine.mounted != user or self.overlay_node(machine) is None:
            return False
        return any(
            exported == user and key == machine.home_key for (exported, _), (key, _) in self.as_user.keys.items()
        )

    # --- the daemon's side, through the door

    def knock(self, address: IPv4Address) -> Sign:
        """What a connection to slurmd at an overlay address tells."""
        node = self.node_of.get(str(address))
        with self._lock:
            held = [machine for machine in self.all.values() if machine.on and self.overlay_node(machine) == node]
            if node is None or not held:
                return Sign.SILENT
            return Sign.ALIVE if held[0].slurmd == node else Sign.REFUSED

    def connect(self, address: str, host_key: str, other_host_key: str | None) -> None:
        with self._lock:
            machine = self._reached(address)
            if machine.host_key not in (host_key, other_host_key):
                raise NodeUnreachable(f"{address} answers with another host key")

    def put(self, address: str, remote: str) -> None:
        with self._lock:
            self._reached(address)

    def run(self, address: str, name: str, script: str) -> StepResult:
        with self._lock:
            machine = self._reached(address)
            machine.steps[name] = machine.steps.get(name, 0) + 1
            if machine.breaks_at == name:
                raise StepFailed(f"step {name} ended with 1: the machine is broken there")
            deed = getattr(self, f"_{name}", None)
            return StepResult(outputs=deed(machine, script) if deed else {}, text="")

    def _reached(self, address: str) -> Machine:
        machine = self.all.get(address)
        if machine is None or not machine.on or machine.spec is None or not machine.spec.ssh:
            raise NodeUnreachable(f"{address}: no answer")
        if self._seconds() < machine.ssh_from:
            raise NodeUnreachable(f"{address}: cut off")
        return machine

    def _host_key_made(self, machine: Machine, script: str) -> dict[str, str]:
        machine.made_key = machine.made_key or new_host_key()[1]
        return {"public_key": machine.made_key}

    def _host_key(self, machine: Machine, script: str) -> dict[str, str]:
        if machine.made_key is None:
            raise StepFailed("step host_key: there is no key yet")
        machine.host_key = machine.made_key
        return {"public_key": machine.made_key}

    def _facts(self, machine: Machine, script: str) -> dict[str, str]:
        spec = machine.spec
        if spec is None:
            raise StepFailed("step facts: there is no machine")
        gpus = {f"gpu_{number}": f"{spec.gpu}, {spec.gpu_mib}" for number in range(spec.gpus)}
        return {
            **gpus,
            "gpus": str(spec.gpus),
            "cpus": "26",
            "memory_mib": str(225 * 1024),
            "disk_free_mib": str(1000 * 1024),
            "missing": "",
            "arch": "x86_64",
            "epoch": str(int(self._seconds())),
        }

    def _overlay(self, machine: Machine, script: str) -> dict[str, str]:
        machine.overlay_key = machine.overlay_key or base64.b64encode(secrets.token_bytes(32)).decode()
        return {"public_key": machine.overlay_key, "listen_port": "51820"}

    def _peers_met(self, machine: Machine, script: str) -> dict[str, str]:
        met = [other.overlay_key for other in self.all.values() if other.on and other.overlay_key is not None]
        return {"met": " ".join(key for key in met if key in script)}

    def _overlay_up(self, machine: Machine, script: str) -> dict[str, str]:
        if self.overlay_node(machine) is None:
            raise StepFailed("step overlay_up: the hub does not answer")
        return {}

    def _home_key(self, machine: Machine, script: str) -> dict[str, str]:
        machine.home_key = machine.home_key or new_host_key()[1]
        return {"public_key": machine.home_key}

    def _slurmd(self, machine: Machine, script: str) -> dict[str, str]:
        found = re.search(r"-N (\S+)", script)
        if found is None or self.overlay_node(machine) is None or not self.controller_answers():
            raise StepFailed("step slurmd: slurmd did not come up in 60 s")
        machine.slurmd = found[1]
        return {}

    def _home_mount(self, machine: Machine, script: str) -> dict[str, str]:
        user = re.search(r"source=(\w+)@", script)
        if user is None or user[1] not in USERS:
            raise StepFailed("step home_mount: for whom?")
        if machine.mounted not in (None, user[1]):
            self.processes_end(machine)  # what another user's job left behind goes first
        machine.mounted = user[1]
        if not self.reaches_home(machine, user[1]):
            machine.mounted = None
            raise StepFailed(f"step home_mount: sshfs {user[1]}: no home is exported to this key")
        return {}

    def _job_end(self, machine: Machine, script: str) -> dict[str, str]:
        if machine.mounted is not None and f"!= {machine.mounted} ]" in script:
            self.processes_end(machine)
            machine.mounted = None
        return {}

    def _drain(self, machine: Machine, script: str) -> dict[str, str]:
        self.processes_end(machine)
        machine.slurmd, machine.mounted = None, None
        return {}


def _public_half(user_data: str) -> str | None:
    found = re.search(r"-----BEGIN OPENSSH PRIVATE KEY-----.*?-----END OPENSSH PRIVATE KEY-----\n?", user_data, re.S)
    if found is None:
        return None
    key = load_ssh_private_key(found[0].encode() + b"\n", password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
