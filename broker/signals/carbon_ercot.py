"""ERCOT's dashboards: fuel mix and storage, five minutes each, yesterday and today. No key; reachable from the US only."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from broker.core.errors import SignalUnreadable
from broker.core.readings import AverageIntensity, Scope, Series
from broker.signals.bodies import epoch_ms, json_of, number, reading
from broker.signals.cache import Body
from broker.signals.factors import for_zone
from broker.signals.fetch import Ask, Fetch, Fetched
from broker.signals.forecast import Observation, observations
from broker.signals.mix import Fuel, Mix
from broker.signals.production import series_of

T = TypeVar("T")

ZONE = "US-TEX-ERCO"
NAME = "ercot_dashboards"
_BASE = "https://www.ercot.com/api/1/services/read/dashboards"
_STEP = timedelta(minutes=5)
_HOUR = timedelta(hours=1)

_FUELS = {
    "Coal and Lignite": Fuel.COAL,
    "Hydro": Fuel.HYDRO,
    "Natural Gas": Fuel.GAS,
    "Nuclear": Fuel.NUCLEAR,
    "Other": Fuel.OTHER,
    "Power Storage": Fuel.STORAGE,
    # Two columns since 2026, the first of them below nought.
    "Power Storage Charging": Fuel.STORAGE,
    "Power Storage Discharging": Fuel.STORAGE,
    "Solar": Fuel.SOLAR,
    "Wind": Fuel.WIND,
}


class ErcotDashboards:
    """`www.ercot.com/api/1/services/read/dashboards`: undocumented, and changed without notice before."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(minutes=5)
    lag = timedelta(minutes=5)

    def __init__(self, fetch: Fetch, scope: Scope = Scope.DIRECT) -> None:
        self._fetch = fetch
        self._factors = for_zone(ZONE, scope)

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """Yesterday and today. What Texas makes is what it uses, but for some hundred MW over its DC ties."""

        def parse(body: Body) -> Series[AverageIntensity]:
            return series_of(
                fuel_mix(body.content), zone=ZONE, source=NAME, factors=self._factors, fetched_at=body.fetched_at
            )

        return self._dashboard("fuel-mix", parse)

    def observations(self, zone: str, now: datetime) -> Fetched[list[Observation]]:
        """The hours of yesterday and today: net load as the mix shows it, and what was emitted."""
        mixes = self.mixes(zone, now)
        return Fetched(observations(mixes.value, self._factors.grams_per_kwh), mixes.fetched_at, mixes.trouble)

    def mixes(self, zone: str, now: datetime) -> Fetched[list[Mix]]:
        """Generation by fuel, yesterday and today."""
        return self._dashboard("fuel-mix", lambda body: fuel_mix(body.content))

    def _dashboard(self, name: str, parse: Callable[[Body], T]) -> Fetched[T]:
        def checked(body: Body) -> T:
            with reading(f"{self.name} {name}.json"):
                return parse(body)

        return self._fetch(Ask(url=f"{_BASE}/{name}.json", fresh_for=self.refresh), checked)


def fuel_mix(body: bytes) -> list[Mix]:
    """`fuel-mix.json` of any year. Its stamps lie some seconds before the end of their interval, and one interval may come
    under two of them with its fuels shared out: they are rounded and put together. An interval that lacks a fuel is left out.
    """
    what = f"{NAME} fuel-mix.json"
    document = json_of(body, what)
    expected = {str(name) for name in document["types"]}
    strange = expected - _FUELS.keys()
    if strange:
        raise SignalUnreadable(f"{what}: a fuel we do not know: {', '.join(sorted(strange))[:100]}")
    intervals: dict[datetime, dict[str, float]] = {}
    for stamps in document["data"].values():
        for stamp, fuels in sorted(stamps.items()):
            at = _five_minutes(datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S%z"))
            intervals.setdefault(at, {}).update(_megawatts(fuels, what))
    # Storage comes and goes; without wind or coal the interval would be wrong.
    needed = {name for name in expected if _FUELS[name] is not Fuel.STORAGE}
    return [
        Mix(start=at - _STEP, end=at, megawatts=_by_fuel(megawatts))
        for at, megawatts in sorted(intervals.items())
        if needed <= megawatts.keys()
    ]


def storage(body: bytes) -> list[tuple[datetime, float]]:
    """`energy-storage-resources.json`: end of each five minutes and net output in MW, below nought while charging.

    By `epoch`: on the long day two rows are stamped 02:00.
    """
    document = json_of(body, f"{NAME} energy-storage-resources.json")
    found: dict[datetime, float] = {}
    for day in ("previousDay", "currentDay"):
        for row in document[day]["data"]:
            output = number(row["netOutput"])
            if output is not None:
                found[epoch_ms(row["epoch"])] = output
    return sorted(found.items())


def loads(body: bytes) -> list[tuple[datetime, float, bool]]:
    """`loadForecastVsActual.json`: end of each hour of three days, load in MW, and whether it is only forecast."""
    document = json_of(body, f"{NAME} loadForecastVsActual.json")
    found = []
    for day in ("previousDay", "currentDay", "nextDay"):
        for row in document[day]["data"]:
            measured = number(row.get("systemLoad"))
            forecast = number(row.get("currentLoadForecast"))
            value = measured if measured is not None else forecast
            if value is not None:
                found.append((epoch_ms(row["epoch"]), value, measured is None))
    return sorted(found)


def _by_fuel(megawatts: Mapping[str, float]) -> dict[Fuel, float]:
    found: dict[Fuel, float] = {}
    for name, mw in megawatts.items():
        found[_FUELS[name]] = found.get(_FUELS[name], 0.0) + mw
    return found


def _megawatts(fuels: Mapping[str, Any], what: str) -> dict[str, float]:
    found = {}
    for name, said in fuels.items():
        if name not in _FUELS:
            raise SignalUnreadable(f"{what}: a fuel we do not know: {name[:40]}")
        mw = number(said["gen"])
        if mw is not None:
            found[name] = mw
    return found


def _five_minutes(at: datetime) -> datetime:
    step = _STEP.total_seconds()
    return datetime.fromtimestamp(round(at.timestamp() / step) * step, UTC)
