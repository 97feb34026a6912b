"""What a replay came to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of one number a job."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One job's. Hours count from the trace's beginning; `wait_h` as in `Outcome`."""

    id: str
    submitted_h: float
    devices: int
    run_h: float
    wait_h: float
    usd: float
    carbon_kg: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Totals over the jobs that were replayed. `normalized_carbon`: beside the same jobs started at once.

    `mean_wait_h`: from submission to start; a job that is suspended counts once for each of its pieces, as the published
    table does. `left_out`: jobs that were not replayed, by reason. `wait_h` is the time between a job's submission and its end in
    which it did not run; `slowdown` that time and the run together, over the run, runs below ten minutes counting as ten.
    """

    world: str
    policy: str
    jobs: int
    left_out: dict[str, int]
    carbon_kg: float
    normalized_carbon: float
    cost_usd: float
    cost_by: dict[str, float]
    device_hours: float
    mean_wait_h: float
    wait_h: Spread
    slowdown: Spread
    results: tuple[Result, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    """What only this world knows."""


def spread(values: Sequence[float]) -> Spread:
    """Mean and percentiles, between two values in proportion; of nothing: zeros."""
    ordered = sorted(values) or [0.0]
    return Spread(
        mean=math.fsum(ordered) / len(ordered),
        p50=_percentile(ordered, 0.50),
        p90=_percentile(ordered, 0.90),
        p99=_percentile(ordered, 0.99),
        max=ordered[-1],
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
