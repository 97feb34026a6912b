"""What a source is. README.md says what each of these promises."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol, runtime_checkable

from broker.core.readings import AverageIntensity, EnergyPrice, Series
from broker.signals.fetch import Fetched
from broker.signals.forecast import Observation
from broker.signals.net_load import NetLoad


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a source knows of a past day, as far as it covers it."""

    averages: Series[AverageIntensity]
    observations: tuple[Observation, ...]


class Source(Protocol):
    """`zones`: those it is asked for. `refresh`: how often it says something new; `lag`: how old the newest is then."""

    @property
    def name(self) -> str: ...
    @property
    def zones(self) -> frozenset[str]: ...
    @property
    def refresh(self) -> timedelta: ...
    @property
    def lag(self) -> timedelta: ...


@runtime_checkable
class AverageSource(Source, Protocol):
    """Measured average intensity up to now. SignalError."""

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]: ...


@runtime_checkable
class ObservedSource(Source, Protocol):
    """What a forecast by net load learns from. SignalError."""

    def observations(self, zone: str, now: datetime) -> Fetched[list[Observation]]: ...


@runtime_checkable
class PastSource(Source, Protocol):
    """Whole past days, for what was not watched. `day` is UTC's; SignalError."""

    def past(self, zone: str, day: date, now: datetime) -> Fetched[Past]: ...


@runtime_checkable
class OutlookSource(Source, Protocol):
    """Demand and net demand to come. SignalError."""

    def outlook(self, zone: str, now: datetime) -> Fetched[list[NetLoad]]: ...


@runtime_checkable
class ForecastSource(Source, Protocol):
    """Average intensity to come, as the source itself forecasts it. SignalError."""

    def forecast(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]: ...


@runtime_checkable
class PriceSource(Source, Protocol):
    """Wholesale prices, yesterday's to tomorrow's. SignalError."""

    def prices(self, zone: str, now: datetime) -> Fetched[Series[EnergyPrice]]: ...
