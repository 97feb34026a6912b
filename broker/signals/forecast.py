"""Intensity of the hours to come: as yesterday, or from the net load that the operator forecasts.

Everything here knows only what was over at `now`: what it is handed beyond that is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.readings import AverageIntensity, Quality, Series
from broker.signals.mix import Fuel, Mix, tonnes_per_hour
from broker.signals.net_load import NetLoad

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_PAST = timedelta(days=28)
"""What a fit looks back on. Shorter, and a week of storms is all it knows; longer, and it is last season's grid."""
_NEEDED = 48
"""Hours below which a curve is not fitted."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One past hour or less: what was needed, what of it wind and sun did not give, what was emitted (t/h)."""

    start: datetime
    end: datetime
    load_mw: float
    net_load_mw: float
    tonnes_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Emissions (t/h) as a parabola of net load, seen between `low` and `high` MW."""

    constant: float
    slope: float
    bend: float
    low: float
    high: float

    def at(self, net_load_mw: float) -> float:
        """Never below nought, and never beyond what was seen: a parabola means nothing there."""
        x = min(max(net_load_mw, self.low), self.high)
        return max(0.0, self.constant + self.slope * x + self.bend * x * x)


def same_hour(past: Series[AverageIntensity], hours: int, now: datetime, days: int = 1) -> list[AverageIntensity]:
    """The next `hours` hours, each as the latest known hour a whole number of `days` before it that was over at `now`.

    An hour without such a reading is left out. `days` 1: as yesterday; 7: as last week.
    """
    known = {reading.start: reading for reading in hourly(past.until(now))}
    first = now.replace(minute=0, second=0, microsecond=0)
    earliest = min(known, default=first)
    found = []
    for start in (first + number * _HOUR for number in range(hours)):
        back = start - days * _DAY
        while back >= earliest and (back + _HOUR > now or back not in known):
            back -= days * _DAY
        if back in known:
            gone = (start - back) // _DAY
            found.append(
                _of(known[back], start, start + _HOUR, known[back].value, Quality.PROFILE, f"as {gone} d before")
            )
    return found


def from_net_load(
    past: Sequence[Observation], ahead: Iterable[NetLoad], like: AverageIntensity, now: datetime
) -> list[AverageIntensity]:
    """The intervals of `ahead` whose hour is not over at `now`: emissions by the curve of the last 28 days, over the load.

    `like`: a reading of the same zone, scope and boundary as `past`. Empty: the past is too short for a curve.
    """
    curve = fit([seen for seen in past if now - _PAST <= seen.start and seen.end <= now])
    if curve is None:
        return []
    return [
        _of(like, hour.start, hour.end, 1000 * curve.at(hour.net_load_mw) / hour.load_mw, Quality.FORECAST, "net load")
        for hour in ahead
        if hour.start.replace(minute=0, second=0, microsecond=0) + _HOUR > now and hour.load_mw > 0
    ]


def fit(seen: Sequence[Observation]) -> Curve | None:
    """Least squares. None: too few hours, or all with the same net load."""
    hours = sum(((row.end - row.start) / _HOUR for row in seen), 0.0)
    if hours < _NEEDED:
        return None
    low, high = min(row.net_load_mw for row in seen), max(row.net_load_mw for row in seen)
    middle, half = (low + high) / 2, (high - low) / 2
    if half < 1.0:
        return None
    # Scaled to [-1, 1]: sums of fourth powers of megawatts would leave nothing of the small terms.
    powers = [0.0] * 5
    sides = [0.0] * 3
    for row in seen:
        x, weight = (row.net_load_mw - middle) / half, (row.end - row.start) / _HOUR
        for power in range(5):
            powers[power] += weight * x**power
        for power in range(3):
            sides[power] += weight * x**power * row.tonnes_per_hour
    solved = _solve([[powers[i + j] for j in range(3)] for i in range(3)], sides)
    if solved is None:
        return None
    a, b, c = solved
    return Curve(
        constant=a - b * middle / half + c * (middle / half) ** 2,
        slope=b / half - 2 * c * middle / half**2,
        bend=c / half**2,
        low=low,
        high=high,
    )


def observations(mixes: Iterable[Mix], grams_per_kwh: Mapping[Fuel, float]) -> list[Observation]:
    """Whole hours of mixes. What is made stands for the load: for zones that trade little."""
    seen = []
    for mix in mixes:
        renewable = sum(max(0.0, mix.megawatts.get(fuel, 0.0)) for fuel in (Fuel.WIND, Fuel.SOLAR))
        seen.append(
            Observation(
                start=mix.start,
                end=mix.end,
                load_mw=mix.supply_mw,
                net_load_mw=mix.supply_mw - renewable,
                tonnes_per_hour=tonnes_per_hour(mix, grams_per_kwh),
            )
        )
    return hours_of(seen)


def hourly(series: Series[AverageIntensity]) -> list[AverageIntensity]:
    """Means of whole hours, weighted by the length of what they hold; hours of which less than half is known are left out."""
    parts: dict[datetime, list[AverageIntensity]] = {}
    for reading in series:
        parts.setdefault(reading.start.replace(minute=0, second=0, microsecond=0), []).append(reading)
    found = []
    for start, readings in parts.items():
        seconds = [(reading.end - reading.start).total_seconds() for reading in readings]
        if sum(seconds) >= _HOUR.total_seconds() / 2:
            mean = sum(r.value * s for r, s in zip(readings, seconds, strict=True)) / sum(seconds)
            last = readings[-1]
            found.append(_of(last, start, start + _HOUR, mean, last.quality, None))
    return found


def hours_of(seen: Iterable[Observation]) -> list[Observation]:
    """Means of whole hours; hours of which less than half is known are left out."""
    parts: dict[datetime, list[Observation]] = {}
    for row in seen:
        parts.setdefault(row.start.replace(minute=0, second=0, microsecond=0), []).append(row)
    found = []
    for start, rows in sorted(parts.items()):
        seconds = [(row.end - row.start).total_seconds() for row in rows]
        if sum(seconds) < _HOUR.total_seconds() / 2:
            continue
        load, net, tonnes = (
            sum(value * s for value, s in zip(values, seconds, strict=True)) / sum(seconds)
            for values in zip(*((row.load_mw, row.net_load_mw, row.tonnes_per_hour) for row in rows), strict=True)
        )
        found.append(Observation(start=start, end=start + _HOUR, load_mw=load, net_load_mw=net, tonnes_per_hour=tonnes))
    return found


def _of(
    like: AverageIntensity, start: datetime, end: datetime, value: float, quality: Quality, how: str | None
) -> AverageIntensity:
    return AverageIntensity(
        zone=like.zone,
        start=start,
        end=end,
        value=value,
        scope=like.scope,
        boundary=like.boundary,
        source=f"{like.source}, {how}" if how else like.source,
        fetched_at=like.fetched_at,
        quality=quality,
        issued_at=like.issued_at,
        is_estimated=like.is_estimated or how is not None,
    )


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Gauss with the largest pivot; None: no one solution."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(rows[line][column]))
        if abs(rows[pivot][column]) < 1e-9:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for line in range(column + 1, size):
            share = rows[line][column] / rows[column][column]
            rows[line] = [own - share * other for own, other in zip(rows[line], rows[column], strict=True)]
    found = [0.0] * size
    for line in reversed(range(size)):
        rest = sum(rows[line][column] * found[column] for column in range(line + 1, size))
        found[line] = (rows[line][size] - rest) / rows[line][line]
    return found
