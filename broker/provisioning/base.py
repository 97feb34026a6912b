"""The seam to a machine. `SshShell` and `FakeShell` stand behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that must lie on the machine before a step runs."""

    local: Path
    remote: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """A POSIX sh script for root, safe to repeat. `stdin` may be a secret: it never shows in argv, logs or repr."""

    name: str
    script: str = field(repr=False)
    timeout_s: float
    stdin: bytes | None = field(default=None, repr=False)
    upload: Upload | None = None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step that ended well printed: `outputs` are its `@out key=value` lines, `text` is all the rest."""

    outputs: Mapping[str, str]
    text: str


class Shell(Protocol):
    """One connection to one machine. Every method raises NodeUnreachable when the connection is lost."""

    def run(self, step: Step) -> StepResult:
        """Run the step's script as root and wait for its end. StepFailed: it ended badly or took longer than its limit.

        The step's upload is the caller's affair (`run.run_step`).
        """

    def put(self, upload: Upload) -> None:
        """Stream a local file to the machine, mode 0600, root's; a partial file is never left under its name."""

    def close(self) -> None:
        """End the connection; daemons the steps started live on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OpenShell(Protocol):
    """Opens a Shell: `ssh.open_shell`, or `FakeMachines` in tests."""

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
        """`host_key`: the machine's public key, `ssh-ed25519 AAAA…`; any other is refused, except `other_host_key`.

        `other_host_key`: the key that the step `host_key_made` reported, while it is not known whether the machine
        answers with it already. What the machine prints is appended to `transcript`. NodeUnreachable.
        """


def parse_output(lines: list[str]) -> StepResult:
    """Part a script's lines into its outputs and the rest."""
    outputs: dict[str, str] = {}
    text: list[str] = []
    for line in lines:
        if line.startswith("@out ") and "=" in line:
            key, _, value = line.removeprefix("@out ").partition("=")
            outputs[key] = value
        else:
            text.append(line)
    return StepResult(outputs=outputs, text="\n".join(text))


def failure_text(step: Step, code: int, lines: list[str]) -> str:
    """How a failed step is told to people: its name, how it ended, and the end of what it said."""
    said = [line for line in lines if line.strip() and not line.startswith("@out ")]
    how = f"took longer than {step.timeout_s:.0f} s" if code == TOO_LONG else f"ended with {code}"
    return f"step {step.name} {how}: " + ("; ".join(said[-4:]) if said else "it printed nothing")


TOO_LONG = 124
"""What coreutils' `timeout` exits with."""
