"""What an offer costs, and how many devices of it there are, at each moment of a replay: constant, or from a recording."""

import bisect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broker.simulate.text_file import opened
from broker.simulate.trace import Unreadable

# Two snapshots further apart than this: nothing is known between them, and nothing is sold.
_LONGEST_SILENCE_H = 6.0


@dataclass(frozen=True, kw_only=True)
class Supply:
    """Steps: from `times[i]` hours on, `prices[i]` USD a device and hour, and `devices[i]` of them (0: sold out).

    A recording begins again when its `period_h` hours are over; None: its last step lasts.
    """

    times: tuple[float, ...]
    prices: tuple[float, ...]
    devices: tuple[float, ...]
    period_h: float | None = None

    def at(self, hour: float) -> tuple[float, float]:
        """Price and devices."""
        index = self._index(hour)
        return self.prices[index], self.devices[index]

    def usd(self, start: float, end: float) -> float:
        """What a device costs over the hours between, at each moment's price."""
        return sum((until - since) * self.prices[index] for since, until, index in self._steps(start, end))

    def sold_out_at(self, start: float, end: float) -> float | None:
        """The first moment between at which there are none; None: there are some all along."""
        return next(
            (max(since, start) for since, _, index in self._steps(start, end) if self.devices[index] <= 0), None
        )

    def _index(self, hour: float) -> int:
        return bisect.bisect_right(self.times, hour % self.period_h if self.period_h else hour) - 1

    def _steps(self, start: float, end: float) -> Iterator[tuple[float, float, int]]:
        while start < end:
            index = self._index(start)
            period = self.period_h
            turn = start // period * period if period else 0.0
            last = index + 1 == len(self.times)
            following = turn + (self.times[index + 1] if not last else period or float("inf"))
            # At a step's very end the division may still see the step before.
            following = following if following > start else start + 1e-9
            yield start, min(following, end), index
            start = following


def constant(usd_per_device_hour: float, devices: float) -> Supply:
    return Supply(times=(0.0,), prices=(usd_per_device_hour,), devices=(devices,))


def recorded(path: Path, usd_per_device_hour: float, devices: float, provider: str | None) -> Supply:
    """A recording of Prime Intellect snapshots (`provider` names whose) or of spot probes.

    In the first the price is that provider's cheapest; both say when there is none. Unreadable: neither of them.
    """
    if provider is None:
        return _probes(path, usd_per_device_hour, devices)
    times: list[float] = []
    prices: list[float] = []
    there: list[float] = []
    first: datetime | None = None
    with opened(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                snapshot = json.loads(line)
                at = datetime.fromisoformat(snapshot["timestamp"])
                offer = snapshot["by_provider"].get(provider)
                price = float(offer["min"]) if offer else (prices[-1] if prices else usd_per_device_hour)
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise Unreadable(f"{path}: line {number} is no snapshot of offers: {exc}") from exc
            first = first or at
            hour = (at - first).total_seconds() / 3600
            if times and hour <= times[-1]:
                continue
            if times and hour - times[-1] > _LONGEST_SILENCE_H:
                times.append(times[-1] + _LONGEST_SILENCE_H)
                prices.append(prices[-1])
                there.append(0.0)
            times.append(hour)
            prices.append(price)
            there.append(devices if offer else 0.0)
    return _recording(path, times, prices, there)


def _probes(path: Path, usd: float, devices: float) -> Supply:
    with opened(path) as text:
        try:
            document = json.load(text)
            gap_h = float(document["metadata"]["gap_seconds"]) / 3600
            counts = [float(count) for count in document["data"]]
        except (ValueError, KeyError, TypeError) as exc:
            raise Unreadable(f"{path}: no spot probes ({{metadata: {{gap_seconds}}, data: […]}}): {exc}") from exc
    if not counts or gap_h <= 0:
        raise Unreadable(f"{path}: spot probes need a gap above 0 s and at least one count")
    times, there = [0.0], [devices if counts[0] > 0 else 0.0]
    for tick, count in enumerate(counts):
        now = devices if count > 0 else 0.0
        if now != there[-1]:
            times.append(tick * gap_h)
            there.append(now)
    supply = Supply(times=tuple(times), prices=(usd,) * len(times), devices=tuple(there))
    return Supply(times=supply.times, prices=supply.prices, devices=supply.devices, period_h=len(counts) * gap_h)


def _recording(path: Path, times: Sequence[float], prices: Sequence[float], there: Sequence[float]) -> Supply:
    if len(times) < 2:
        raise Unreadable(f"{path}: a recording needs at least two snapshots")
    # The last snapshot holds as long as the one before it did.
    period = times[-1] + (times[-1] - times[-2])
    return Supply(times=tuple(times), prices=tuple(prices), devices=tuple(there), period_h=period)
