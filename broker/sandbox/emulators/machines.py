"""Where an emulated provider's instances get their hosts."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """What an instance's host is made of. `gpu` is the name its nvidia-smi prints; `user` logs in with `public_key`."""

    id: str
    hostname: str
    public_key: str
    user_data: str
    gpu: str
    gpu_mib: int
    gpus: int
    ssh: bool
    user: str = "ubuntu"
    ssh_port: int = 22


class Machines(Protocol):
    """Real hosts in the sandbox, none in tests of the API and in benches."""

    def address(self, instance_id: str) -> str:
        """Reserve a public address. BrokerError: none is left."""

    def start(self, spec: MachineSpec) -> None:
        """Power on; returns at once."""

    def stop(self, instance_id: str) -> None:
        """Power off and forget."""


class NoMachines:
    """Instances that are only rows."""

    def __init__(self) -> None:
        self._count = 0

    def address(self, instance_id: str) -> str:
        self._count += 1
        return f"192.0.2.{self._count % 254 + 1}"

    def start(self, spec: MachineSpec) -> None: ...

    def stop(self, instance_id: str) -> None: ...
