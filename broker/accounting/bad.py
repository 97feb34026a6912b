"""A line that gave no row, and why."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """`number` counts from 1 in `source`; `reason` is a class of reasons, so that they can be counted."""

    source: str
    number: int
    reason: str


def reasons(bad: Iterable[BadLine]) -> list[tuple[str, int]]:
    """How many lines are bad for which reason, the commonest first."""
    return sorted(Counter(line.reason for line in bad).items(), key=lambda entry: (-entry[1], entry[0]))
