"""A zone's signal from the best link that holds: the operator, then EIA-930 and others, then profiles, then the year's mean.

`Signals` is the room's door. What a source does wrong ends here: `now`, `ahead` and `prices` never raise, they say why.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from broker.core.errors import SignalError
from broker.core.readings import AverageIntensity, Boundary, EnergyPrice, Quality, Scope, Series
from broker.signals import annual
from broker.signals.base import (
    AverageSource,
    ForecastSource,
    ObservedSource,
    OutlookSource,
    Past,
    PastSource,
    PriceSource,
    Source,
)
from broker.signals.fetch import Fetched
from broker.signals.forecast import Observation, from_net_load, hourly, same_hour
from broker.signals.memory import Memory

log = logging.getLogger("broker.signals")

T = TypeVar("T")

USABLE = timedelta(hours=6)
"""A measured value may stand for the present that long. Longer, and it is the other end of the day's curve; shorter, and EIA's
ordinary delays make every zone static."""
_HOUR = timedelta(hours=1)
_HORIZON_H = 48
_REVISED = timedelta(days=4)
"""CAISO's files change for some days after theirs."""
_ENOUGH_H = 12
"""Hours of a day: a local day covers two of UTC's."""


class Link(StrEnum):
    """Which link of the chain holds, best first."""

    LIVE = "live"
    """Measured, and as new as the source is when it is well."""
    FORECAST = "forecast"
    """The operator's or a paid source's forecast, or ours out of the operator's net load."""
    LATE = "late"
    """Measured, older than that, and not older than six hours."""
    YESTERDAY = "yesterday"
    LAST_WEEK = "last_week"
    ANNUAL = "annual"
    UNKNOWN = "unknown"
    """Then a policy behaves as if carbon did not matter, and says why."""


@dataclass(frozen=True, kw_only=True)
class Now:
    """The present's intensity. `reading` None: unknown. `age`: since the end of what was measured, nought for forecasts.

    `why`: what the links before said, in their order.
    """

    zone: str
    link: Link
    reading: AverageIntensity | None
    age: timedelta
    why: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """The hours to come, of one link, one scope and one boundary. Empty with `Link.UNKNOWN`."""

    zone: str
    link: Link
    series: Series[AverageIntensity]
    why: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Wholesale prices; empty: no source for them here, or none that answers."""

    zone: str
    series: Series[EnergyPrice]
    why: tuple[str, ...] = ()


class Signals:
    """`sources` in their order of preference. Threads may share it: it keeps nothing but files."""

    def __init__(
        self, sources: Sequence[Source], memory: Memory, clock: Callable[[], datetime], scope: Scope = Scope.DIRECT
    ) -> None:
        self.sources = tuple(sources)
        self._memory = memory
        self._clock = clock
        self._scope = scope

    def zones(self) -> list[str]:
        """Every zone that a source names."""
        return sorted({zone for source in self.sources for zone in source.zones})

    def now(self, zone: str) -> Now:
        """The present's intensity by the first link that holds. Never raises."""
        now, why = self._clock(), _Why()
        late: list[AverageIntensity] = []
        for source in [s for s in self._for(zone) if isinstance(s, AverageSource)]:
            answer = why.ask(source.average, zone, now)
            newest = answer.value.until(now + _HOUR).last() if answer is not None else None
            if newest is None:
                newest = self._memory.read(zone, source.name).averages.last()
            if newest is None:
                continue
            if newest.age(now) <= source.lag + 3 * source.refresh:
                return self._now(zone, Link.LIVE, newest, now, why)
            why.add(f"{source.name}: its newest is of {newest.end:%Y-%m-%d %H:%M} UTC")
            late.append(newest)
        if ahead := self._forecast(zone, now, why):
            first = ahead.series.at(now)
            if first is not None:
                return self._now(zone, Link.FORECAST, first, now, why)
        late = [reading for reading in late if reading.age(now) <= USABLE]
        if late:
            return self._now(zone, Link.LATE, min(late, key=lambda reading: reading.age(now)), now, why)
        for link, readings in self._profiles(zone, now, 1):
            if readings:
                return self._now(zone, link, readings[0], now, why)
        if (mean := self._annual(zone, now)) is not None:
            return self._now(zone, Link.ANNUAL, mean, now, why)
        return Now(zone=zone, link=Link.UNKNOWN, reading=None, age=timedelta(0), why=why.said(zone, self.sources))

    def ahead(self, zone: str, hours: int = _HORIZON_H) -> Ahead:
        """The next `hours` hours by the first link that holds. Never raises."""
        now, why = self._clock(), _Why()
        if found := self._forecast(zone, now, why):
            end = now.replace(minute=0, second=0, microsecond=0) + hours * _HOUR
            readings = tuple(reading for reading in found.series if reading.start < end)
            return Ahead(zone=zone, link=found.link, series=Series(readings), why=why.lines())
        for link, profile in self._profiles(zone, now, hours):
            if profile:
                return Ahead(zone=zone, link=link, series=Series(tuple(profile)), why=why.lines())
        return Ahead(zone=zone, link=Link.UNKNOWN, series=Series(()), why=why.said(zone, self.sources))

    def prices(self, zone: str) -> Prices:
        """Prices by the first source that has them. Never raises."""
        now, why = self._clock(), _Why()
        for source in [s for s in self._for(zone) if isinstance(s, PriceSource)]:
            answer = why.ask(source.prices, zone, now)
            if answer is not None and len(answer.value):
                return Prices(zone=zone, series=answer.value, why=why.lines())
        return Prices(zone=zone, series=Series(()), why=why.said(zone, self.sources))

    def refresh(self, zone: str) -> list[str]:
        """Ask every source of the zone and remember its hours. Returns what went wrong; never raises."""
        now, why = self._clock(), _Why()
        for source in self._for(zone):
            averages = why.ask(source.average, zone, now) if isinstance(source, AverageSource) else None
            seen = why.ask(source.observations, zone, now) if isinstance(source, ObservedSource) else None
            if isinstance(source, OutlookSource):
                why.ask(source.outlook, zone, now)
            if isinstance(source, ForecastSource):
                why.ask(source.forecast, zone, now)
            if isinstance(source, PriceSource):
                why.ask(source.prices, zone, now)
            if averages is not None or seen is not None:
                hours = averages.value if averages is not None else None
                self._remember(zone, source.name, hours, seen.value if seen is not None else (), now, why)
            if isinstance(source, PastSource):
                self._catch_up(source, zone, now, why)
        return list(why.lines())

    def _catch_up(self, source: PastSource, zone: str, now: datetime, why: "_Why") -> None:
        """One past day of the last four weeks that was not watched, or not read again since it was revised. Each minute another
        one has its turn, so that a day which the source lacks too holds up no other.
        """
        known = self._memory.read(zone, source.name)
        watched = Counter(hour.start.date() for hour in known.observations)
        settled = Counter(hour.start.date() for hour in known.averages if hour.fetched_at >= hour.start + _REVISED)
        days = [(now - timedelta(days=back)).date() for back in range(2, 29)]
        revised = (now - _REVISED - timedelta(days=1)).date()
        missing = [day for day in days if watched[day] < _ENOUGH_H or (day <= revised and settled[day] < _ENOUGH_H)]
        if not missing:
            return
        turn = missing[int(now.timestamp() // 60) % len(missing)]

        def ask(zone: str, now: datetime) -> Fetched[Past]:
            return source.past(zone, turn, now)

        past = why.ask(ask, zone, now)
        if past is not None:
            self._remember(zone, source.name, past.value.averages, past.value.observations, now, why)

    def _remember(
        self,
        zone: str,
        source: str,
        averages: Series[AverageIntensity] | None,
        seen: Iterable[Observation],
        now: datetime,
        why: "_Why",
    ) -> None:
        try:
            self._memory.add(zone, source, hourly(averages) if averages is not None else (), seen, now)
        except SignalError as exc:
            why.add(str(exc))

    def _forecast(self, zone: str, now: datetime, why: "_Why") -> Ahead | None:
        """By the operator's net load, else by whoever forecasts intensity itself."""
        for observed in [s for s in self._for(zone) if isinstance(s, ObservedSource)]:
            known = self._memory.read(zone, observed.name)
            like = known.averages.last()
            if like is None:
                continue
            for source in [s for s in self._for(zone) if isinstance(s, OutlookSource)]:
                answer = why.ask(source.outlook, zone, now)
                if answer is None:
                    continue
                found = from_net_load(known.observations, answer.value, like, now)
                if found:
                    return Ahead(zone=zone, link=Link.FORECAST, series=Series(tuple(hourly(Series(tuple(found))))))
                why.add(f"{source.name}: no forecast, {observed.name} has too few hours behind it")
        for forecaster in [s for s in self._for(zone) if isinstance(s, ForecastSource)]:
            said = why.ask(forecaster.forecast, zone, now)
            readings = tuple(reading for reading in said.value if reading.end > now) if said is not None else ()
            if readings:
                return Ahead(zone=zone, link=Link.FORECAST, series=Series(readings))
        return None

    def _profiles(self, zone: str, now: datetime, hours: int) -> list[tuple[Link, list[AverageIntensity]]]:
        found = []
        for link, days, oldest in ((Link.YESTERDAY, 1, 2), (Link.LAST_WEEK, 7, 14)):
            for source in [s for s in self._for(zone) if isinstance(s, AverageSource)]:
                past = self._memory.read(zone, source.name).averages
                recent = Series(tuple(hour for hour in past if hour.start >= now - timedelta(days=oldest)))
                found.append((link, same_hour(recent, hours, now, days)))
        return found

    def _annual(self, zone: str, now: datetime) -> AverageIntensity | None:
        mean = annual.known().get(zone)
        if mean is None:
            return None
        start = now.replace(minute=0, second=0, microsecond=0)
        return AverageIntensity(
            zone=zone,
            start=start,
            end=start + _HOUR,
            value=mean.grams_per_kwh[self._scope],
            scope=self._scope,
            boundary=Boundary.PRODUCTION,
            source=f"mean of {mean.year}",
            fetched_at=now,
            quality=Quality.STATIC,
            is_estimated=True,
        )

    def _now(self, zone: str, link: Link, reading: AverageIntensity, now: datetime, why: "_Why") -> Now:
        return Now(zone=zone, link=link, reading=reading, age=reading.age(now), why=why.lines())

    def _for(self, zone: str) -> list[Source]:
        return [source for source in self.sources if zone in source.zones]


class _Why:
    """What the links that did not hold said."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        if line not in self._lines:
            self._lines.append(line)

    def ask(self, question: Callable[[str, datetime], Fetched[T]], zone: str, now: datetime) -> Fetched[T] | None:
        try:
            answer = question(zone, now)
        except SignalError as exc:
            self.add(str(exc))
            return None
        if answer.trouble is not None:
            self.add(f"{answer.trouble}; its answer of {answer.fetched_at:%Y-%m-%d %H:%M} UTC is used")
        return answer

    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def said(self, zone: str, sources: Sequence[Source]) -> tuple[str, ...]:
        if self._lines:
            return self.lines()
        return ("no source is configured",) if not sources else (f"no configured source speaks of {zone}",)
