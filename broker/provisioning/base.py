"""The seam to a machine. `SshShell` and `FakeShell` stand behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

OnOutput = Callable[[str], None]
"""Takes each line a machine prints, without its newline; the daemon keeps them as the lease's console log."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that must lie on the machine before a step runs."""

    local: Path
    remote: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """A POSIX sh script for root that is safe to repeat. `stdin` may be a secret: it never shows in argv, logs or repr."""

    name: str
    script: str = field(repr=False)
    timeout_s: float
    stdin: bytes | None = field(default=None, repr=False)
    upload: Upload | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step's script ended. `code` 124: it took longer than its `timeout_s`."""

    code: int
    output: str


class Shell(Protocol):
    """One connection to one machine. Every method raises NodeUnreachable when the connection is lost."""

    def run(self, step: Step) -> Outcome:
        """Run the step's script as root and wait for its end; the step's upload is the caller's affair."""

    def put(self, upload: Upload) -> None:
        """Stream a local file to the machine, mode 0600, root's; a partial file is never left under its name."""

    def close(self) -> None:
        """End the connection; daemons the steps started live on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
