"""Measured signals of a grid zone. Averages, marginals and prices are types of their own, so that no sum can mix them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from math import isfinite
from typing import ClassVar, Generic, TypeVar


class Scope(StrEnum):
    """What is counted: the stack only, or fuel and building of the plant too. The two differ by 60-70 g/kWh on one grid."""

    DIRECT = "direct"
    LIFECYCLE = "lifecycle"


class Boundary(StrEnum):
    """Whose power: what the zone makes, or what it uses (imports charged, exports credited)."""

    PRODUCTION = "production"
    CONSUMPTION = "consumption"


class Quality(StrEnum):
    """How a value came about, best first."""

    MEASURED = "measured"
    PROVISIONAL = "provisional"
    FORECAST = "forecast"
    PROFILE = "profile"
    STATIC = "static"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One value of one zone over [`start`, `end`), in UTC. `zone` is an Electricity Maps key such as `US-CAL-CISO`.

    `source` says who published it and by which file; `issued_at` when they did (None: they do not say); `is_estimated`
    that they filled it in. ValueError: no such interval or no such number.
    """

    quantity: ClassVar[str]
    unit: ClassVar[str]

    zone: str
    start: datetime
    end: datetime
    value: float | Decimal
    source: str
    fetched_at: datetime
    quality: Quality
    issued_at: datetime | None = None
    is_estimated: bool = False

    def __post_init__(self) -> None:
        for name in ("start", "end", "fetched_at"):
            at: datetime = getattr(self, name)
            if at.utcoffset() != timedelta(0):
                raise ValueError(f"{name} {at} is not in UTC")
        if self.end <= self.start:
            raise ValueError(f"an interval from {self.start} to {self.end}")
        if not isfinite(self.value):
            raise ValueError(f"{self.value} is no number")

    def age(self, now: datetime) -> timedelta:
        """How long ago what it speaks of was over; nought for the present and the future."""
        return max(timedelta(0), now - self.end)


@dataclass(frozen=True, kw_only=True)
class AverageIntensity(Reading):
    """Emissions of all power in the zone, in g of CO2e a kWh. Below nought only where exports are credited."""

    quantity: ClassVar[str] = "average_intensity"
    unit: ClassVar[str] = "g/kWh"

    value: float
    scope: Scope
    boundary: Boundary


@dataclass(frozen=True, kw_only=True)
class MarginalIntensity(Reading):
    """Emissions of one kWh more, in g of CO2e. It may lie far above the average; the two never share an axis."""

    quantity: ClassVar[str] = "marginal_intensity"
    unit: ClassVar[str] = "g/kWh"

    value: float


@dataclass(frozen=True, kw_only=True)
class EnergyPrice(Reading):
    """Wholesale price of power for a MWh in `currency`. It may be negative."""

    quantity: ClassVar[str] = "energy_price"
    unit: ClassVar[str] = "1/MWh"

    value: Decimal
    currency: str

    def an_hour_of(self, kilowatts: Decimal) -> Decimal:
        """What `kilowatts` cost for an hour, in `currency`; below nought when the price is. Unrounded."""
        return self.value * kilowatts / 1000


R = TypeVar("R", bound=Reading)


@dataclass(frozen=True)
class Series(Generic[R]):
    """Readings of one zone and one kind in order of time, without overlap; there may be gaps.

    ValueError: zones, kinds, scopes, boundaries or currencies are mixed, or two readings speak of one moment.
    """

    readings: tuple[R, ...]

    def __post_init__(self) -> None:
        for name in ("zone", "scope", "boundary", "currency"):
            found = {str(getattr(reading, name)) for reading in self.readings if hasattr(reading, name)}
            if len(found) > 1:
                raise ValueError(f"a series with more than one {name}: {', '.join(sorted(found))}")
        if len({type(reading) for reading in self.readings}) > 1:
            raise ValueError("a series of more than one kind of reading")
        for before, after in pairwise(self.readings):
            if after.start < before.end:
                raise ValueError(f"two readings for {after.start.isoformat()}")

    def __len__(self) -> int:
        return len(self.readings)

    def __iter__(self) -> Iterator[R]:
        return iter(self.readings)

    def at(self, moment: datetime) -> R | None:
        """The reading whose interval holds `moment`; None: a gap."""
        return next((reading for reading in self.readings if reading.start <= moment < reading.end), None)

    def until(self, moment: datetime) -> "Series[R]":
        """What was over by `moment`."""
        return Series(tuple(reading for reading in self.readings if reading.end <= moment))

    def since(self, moment: datetime) -> "Series[R]":
        """What begins at `moment` or later."""
        return Series(tuple(reading for reading in self.readings if reading.start >= moment))

    def last(self) -> R | None:
        """The latest reading; None: there is none."""
        return self.readings[-1] if self.readings else None


def in_order(readings: Sequence[R]) -> Series[R]:
    """A series of readings that stand in any order. Of two for one interval the one issued later stays, else the later listed."""
    newest: dict[datetime, R] = {}
    for reading in readings:
        known = newest.get(reading.start)
        if known is None or _issued(reading) >= _issued(known):
            newest[reading.start] = reading
    return Series(tuple(newest[start] for start in sorted(newest)))


def _issued(reading: Reading) -> datetime:
    return reading.issued_at or datetime.min.replace(tzinfo=UTC)
