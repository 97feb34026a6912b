"""What is replayed: jobs, in seconds after the trace's beginning."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from broker.core.errors import BrokerError


class Unreadable(BrokerError):
    """A file that is no trace, or no intensities: the text says which line and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceJob:
    """`devices` are GPUs or processors, as the trace counts; `limit_s` what the user asked for, None: not said."""

    id: str
    submitted_s: float
    length_s: float
    devices: int
    limit_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """A line that gave no job. `reason` is a class of reasons, so that they can be counted."""

    number: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Trace:
    """`jobs` in the order of their submission (ties: of the file); `origin`: the moment of second 0, None: not said."""

    jobs: tuple[TraceJob, ...]
    bad_lines: tuple[BadLine, ...] = ()
    origin: datetime | None = None


def made(jobs: Iterable[TraceJob], bad: Iterable[BadLine], origin: datetime | None, name: str) -> Trace:
    """The trace of what was read. Unreadable: not one line was a job."""
    ordered, left_out = sorted(jobs, key=lambda job: job.submitted_s), tuple(bad)
    if not ordered:
        said = "; ".join(f"{reason} ({count} lines)" for reason, count in reasons(left_out)[:3])
        raise Unreadable(f"{name}: no line is a job{': ' + said if said else ', the file is empty'}")
    return Trace(jobs=tuple(ordered), bad_lines=left_out, origin=origin)


def reasons(bad: Iterable[BadLine]) -> list[tuple[str, int]]:
    """How many lines gave no job for which reason, the commonest first."""
    counted = Counter(line.reason for line in bad)
    return sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
