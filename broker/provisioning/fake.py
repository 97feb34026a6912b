"""Machines in memory, for tests of the reconcilers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.core.demand import Shape
from broker.core.errors import NodeUnreachable, StepFailed
from broker.provisioning.base import Shell, Step, StepResult, Upload, failure_text

_WG_KEY = "bm9kZSdzIHdpcmVndWFyZCBrZXkgZm9yIHRlc3RzISE="


def facts_of(shape: Shape, gpu: str | None = None, epoch: float | None = None) -> dict[str, str]:
    """What the step `facts` prints on a machine that fits `shape` exactly. `gpu`: the name nvidia-smi says instead."""
    name = gpu or f"NVIDIA {shape.accelerator}"
    gpus = (
        {f"gpu_{number}": f"{name}, 196608" for number in range(shape.accelerator_count)} if shape.accelerator else {}
    )
    return {
        **gpus,
        "gpus": str(len(gpus)),
        "cpus": str(shape.cpus),
        "memory_mib": str(shape.memory_gib * 1024),
        "disk_free_mib": str(shape.disk_gib * 1024),
        "missing": "",
        "arch": "x86_64",
        "epoch": str(int(time.time() if epoch is None else epoch)),
    }


@dataclass
class FakeMachine:
    """One machine. `outputs`, `failures`, `unreachable` make it another; `ran` and `uploads` tell what was done.

    `failures`: step name → (exit code, what it says), or an exception to raise. A failure stays until it is removed.
    """

    host_key: str | None = None
    """None: any pin is accepted."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: dict[str, tuple[int, str] | Exception] = field(default_factory=dict)
    unreachable: str | None = None
    ran: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    connections: int = 0

    def answer(self, step: Step) -> StepResult:
        if self.unreachable is not None:
            raise NodeUnreachable(self.unreachable)
        failure = self.failures.get(step.name)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            raise StepFailed(failure_text(step, failure[0], failure[1].splitlines()))
        self.ran.append(step.name)
        return StepResult(outputs=self.outputs.get(step.name, _DEFAULTS.get(step.name, {})), text="")


_DEFAULTS: Mapping[str, dict[str, str]] = {
    "host_key_made": {"public_key": "ssh-ed25519 AAAAfakeHostKey"},
    "host_key": {"public_key": "ssh-ed25519 AAAAfakeHostKey"},
    "overlay": {"public_key": _WG_KEY},
    "home_key": {"public_key": "ssh-ed25519 AAAAfakeHomeKey"},
}


class FakeShell:
    """A connection to a FakeMachine."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self.closed = False

    def run(self, step: Step) -> StepResult:
        """See `Shell.run`."""
        return self.machine.answer(step)

    def put(self, upload: Upload) -> None:
        """See `Shell.put`."""
        if self.machine.unreachable is not None:
            raise NodeUnreachable(self.machine.unreachable)
        self.machine.uploads.append(upload.remote)

    def close(self) -> None:
        """See `Shell.close`."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FakeMachines:
    """An OpenShell: address → machine. An address that is not there does not answer."""

    def __init__(self, machines: Mapping[str, FakeMachine]) -> None:
        self.machines = dict(machines)

    def __call__(
        self,
        *,
        address: str,
        port: int,
        user: str,
        key_file: Path,
        host_key: str,
        transcript: Path,
        other_host_key: str | None = None,
    ) -> Shell:
        """See `OpenShell`."""
        machine = self.machines.get(address)
        if machine is None or machine.unreachable is not None:
            raise NodeUnreachable(f"{user}@{address}:{port}: {machine.unreachable if machine else 'no answer'}")
        if machine.host_key is not None and machine.host_key not in (host_key, other_host_key):
            raise NodeUnreachable(f"{user}@{address}:{port} answers with another host key (not yet ours?)")
        machine.connections += 1
        return FakeShell(machine)
