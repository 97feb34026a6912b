"""What is thought about a grid zone's carbon intensity from now on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol


class Outlook(Protocol):
    """Hours count from the moment of the plan. g/kWh, averages of the zone; which kind is the caller's affair."""

    def until(self, at_h: float) -> float:
        """Intensity summed up to `at_h`, g·h/kWh, however far ahead; only differences mean anything: see `integral`."""
        ...

    def error(self, lead_h: float) -> float:
        """Standard error of the mean intensity of a window that begins in `lead_h`, beside one that begins now: from
        the forecast's own past errors, g/kWh. 0: it is known."""
        ...


def integral(of: Outlook, start_h: float, end_h: float) -> float:
    """Intensity summed over the hours between, g·h/kWh; `0 <= start_h <= end_h`."""
    return of.until(end_h) - of.until(start_h)


@dataclass(frozen=True, slots=True)
class HourlyOutlook:
    """Hour values from `begun_h` hours before now on, their last `period` repeated for ever.

    With `period` = 24 the last known day stands for all that follow: persistence.
    """

    values: tuple[float, ...]
    begun_h: float
    period: int
    errors: tuple[float, ...]
    """By whole hours of lead; the last one holds for all later ones."""
    sums: tuple[float, ...]
    """What has summed up before each hour; `hourly` fills it in."""

    def until(self, at_h: float) -> float:
        at = at_h + self.begun_h
        hour = int(at)
        count = len(self.values)
        if hour < count:
            return self.sums[hour] + (at - hour) * self.values[hour]
        first = count - self.period
        turns, rest = divmod(at - first, self.period)
        hour = first + int(rest)
        turn = self.sums[count] - self.sums[first]
        return turns * turn + self.sums[hour] + (rest - int(rest)) * self.values[hour]

    def error(self, lead_h: float) -> float:
        return self.errors[min(int(lead_h), len(self.errors) - 1)]

    def later(self, by_h: float) -> "HourlyOutlook":
        """The same, seen `by_h` hours later."""
        return HourlyOutlook(self.values, self.begun_h + by_h, self.period, self.errors, self.sums)


def hourly(
    values: Sequence[float], *, begun_h: float = 0.0, period: int | None = None, errors: Sequence[float] = (0.0,)
) -> HourlyOutlook:
    """An outlook of hour values, the first of which began `begun_h` hours ago (below 1); what follows them repeats the
    last `period` of them (None: all)."""
    if not values or not 0 <= begun_h < 1 or not all(math.isfinite(value) for value in values):
        raise ValueError("an outlook needs finite values, the first of which holds now")
    return HourlyOutlook(
        tuple(values),
        begun_h,
        min(period or len(values), len(values)),
        tuple(errors),
        (0.0, *accumulate(values)),
    )
