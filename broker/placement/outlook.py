"""What is thought about a grid zone's carbon intensity from now on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol


class Outlook(Protocol):
    """Hours count from the moment of the plan. g/kWh, averages of the zone; which kind is the caller's affair."""

    def integral(self, start_h: float, end_h: float) -> float:
        """Intensity summed over the hours between, g·h/kWh; `0 <= start_h <= end_h`, however far."""
        ...

    def error(self, lead_h: float) -> float:
        """Standard error of the mean intensity of a window that begins in `lead_h`, beside one that begins now: from
        the forecast's own past errors, g/kWh. 0: it is known."""
        ...


@dataclass(frozen=True, kw_only=True)
class HourlyOutlook:
    """Hour values from `begun_h` hours before now on, repeated from `period` hours on for ever.

    With `period` = 24 the last known day stands for all that follow: persistence.
    """

    values: tuple[float, ...]
    begun_h: float
    period: int
    errors: tuple[float, ...]
    """By whole hours of lead; the last one holds for all later ones."""
    sums: tuple[float, ...]
    """What has summed up before each hour; `hourly` fills it in."""

    def integral(self, start_h: float, end_h: float) -> float:
        return self._until(end_h) - self._until(start_h)

    def error(self, lead_h: float) -> float:
        return self.errors[min(int(lead_h), len(self.errors) - 1)]

    def _until(self, at_h: float) -> float:
        at = at_h + self.begun_h
        count = len(self.values)
        if at < count:
            hour = int(at)
            return self.sums[hour] + (at - hour) * self.values[hour]
        first = count - self.period
        turns, rest = divmod(at - first, self.period)
        hour = first + int(rest)
        turn = self.sums[count] - self.sums[first]
        return turns * turn + self.sums[hour] + (rest - int(rest)) * self.values[hour]


@dataclass(frozen=True, slots=True)
class Later:
    """`of`, seen `by_h` hours later."""

    of: Outlook
    by_h: float

    def integral(self, start_h: float, end_h: float) -> float:
        return self.of.integral(start_h + self.by_h, end_h + self.by_h)

    def error(self, lead_h: float) -> float:
        return self.of.error(lead_h)


def hourly(
    values: Sequence[float], *, begun_h: float = 0.0, period: int | None = None, errors: Sequence[float] = (0.0,)
) -> HourlyOutlook:
    """An outlook of hour values, the first of which began `begun_h` hours ago (below 1); what follows them repeats the
    last `period` of them (None: all)."""
    if not values or not 0 <= begun_h < 1 or not all(math.isfinite(value) for value in values):
        raise ValueError("an outlook needs finite values, the first of which holds now")
    return HourlyOutlook(
        values=tuple(values),
        begun_h=begun_h,
        period=min(period or len(values), len(values)),
        errors=tuple(errors),
        sums=(0.0, *accumulate(values)),
    )
