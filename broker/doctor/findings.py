"""What a check says: how the thing stands, what was seen, and the mend."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from broker.core.errors import BrokerError

AS_ROOT = "run it as root"


class Unseen(BrokerError):
    """What a check needs could not be had, which another check tells: this one is skipped."""


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`seen`: the fact in words. `mend`: a command or a line to paste; None where nothing is to be mended."""

    status: Status
    name: str
    seen: str
    mend: str | None = None
    section: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """`look` may act on nothing but its own sockets; it raises PermissionError where this user may not look."""

    section: str
    name: str
    look: Callable[[], Iterable[Finding]]


def ok(name: str, seen: str) -> Finding:
    return Finding(status=Status.OK, name=name, seen=seen)


def warn(name: str, seen: str, mend: str) -> Finding:
    return Finding(status=Status.WARN, name=name, seen=seen, mend=mend)


def fail(name: str, seen: str, mend: str) -> Finding:
    return Finding(status=Status.FAIL, name=name, seen=seen, mend=mend)


def skipped(name: str, seen: str, mend: str | None = None) -> Finding:
    """Not looked at, and why; `mend`: how it can be looked at."""
    return Finding(status=Status.SKIPPED, name=name, seen=seen, mend=mend)


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run every check and keep their order. A check that cannot look, or that breaks, is a finding itself."""
    # In threads: a broken site makes half of them wait for a time-out.
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [finding for found in pool.map(_looked, checks) for finding in found]


def _looked(check: Check) -> list[Finding]:
    try:
        found = list(check.look())
    except PermissionError as exc:
        found = [skipped(check.name, f"{exc.filename or 'it'} may not be looked at by this user", AS_ROOT)]
    except Unseen as exc:
        found = [skipped(check.name, str(exc))]
    except BrokerError as exc:
        found = [fail(check.name, str(exc), "the message says it; then run `broker doctor` again")]
    except Exception as exc:  # the others must be looked at whatever one of them met
        seen = f"the check itself broke: {type(exc).__name__}: {exc}"
        found = [fail(check.name, seen, "look at it by hand, and report this line: it is a bug of broker")]
    return [replace(finding, section=check.section) for finding in found]
