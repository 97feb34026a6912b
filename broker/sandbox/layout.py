"""Where a sandbox keeps what; all of it lies in one folder, and the reusable roots in a cache beside it."""

import os
from dataclasses import dataclass
from pathlib import Path

CREDENTIALS = {"lambda-a": "lambda", "lambda-b": "lambda", "vast-a": "vast"}
"""Credential → kind of emulated provider."""
PORTS = {"lambda": 8080, "vast": 8081}
"""Kind → the port of its API, at the sandbox's cloud address."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`directory`: the sandbox; `cache`: what may be used again by the next one."""

    directory: Path
    cache: Path

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def run(self) -> Path:
        """What lies in /run/broker of the controller host."""
        return self.directory / "ctl" / "run" / "broker"

    @property
    def state(self) -> Path:
        """What lies in /var/lib/broker of the controller host."""
        return self.directory / "ctl" / "state"

    @property
    def homes(self) -> Path:
        return self.directory / "home"

    @property
    def etc_slurm(self) -> Path:
        return self.directory / "etc-slurm"

    @property
    def scratch(self) -> Path:
        """Mount points of the hosts' own roots."""
        return self.directory / "hosts"

    @property
    def control(self) -> Path:
        """The emulated provider's control socket."""
        return self.directory / "cloud" / "control.sock"

    @property
    def supervisor(self) -> Path:
        """The supervisor's process id on this machine and when it was started."""
        return self.directory / "supervisor"

    @property
    def parts(self) -> Path:
        """What the supervisor started: one JSON object, name → process id inside the sandbox."""
        return self.directory / "parts.json"

    @property
    def ready(self) -> Path:
        return self.directory / "ready"

    @property
    def instance_root(self) -> Path:
        return self.cache / "instance-root"


def layout(directory: Path | None = None) -> Layout:
    """The sandbox of this working directory, or the one that BROKER_SANDBOX names."""
    chosen = directory or Path(os.environ.get("BROKER_SANDBOX") or ".sandbox")
    return Layout(directory=chosen.absolute(), cache=chosen.absolute().parent / ".cache")
