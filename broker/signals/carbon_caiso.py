"""CAISO Today's Outlook: CO2, demand, fuel mix now; net demand for seven days. No key; some countries are blocked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from broker.core.errors import SignalUnreadable
from broker.core.readings import AverageIntensity, Boundary, Quality, Scope, Series, in_order
from broker.signals.base import Past
from broker.signals.bodies import csv_rows, number, reading
from broker.signals.cache import Body
from broker.signals.factors import for_zone
from broker.signals.fetch import Ask, Fetch, Fetched
from broker.signals.forecast import Observation, hours_of
from broker.signals.local_time import PACIFIC, day_labels, stamps
from broker.signals.mix import Fuel, Mix
from broker.signals.mix import intensity as mix_intensity
from broker.signals.net_load import NetLoad

T = TypeVar("T")

ZONE = "US-CAL-CISO"
NAME = "caiso_outlook"
_BASE = "https://www.caiso.com/outlook"
_STEP = timedelta(minutes=5)

_FUELS = {
    "solar": Fuel.SOLAR,
    "wind": Fuel.WIND,
    "geothermal": Fuel.GEOTHERMAL,
    "biomass": Fuel.BIOMASS,
    "biogas": Fuel.BIOMASS,
    "small hydro": Fuel.HYDRO,
    "coal": Fuel.COAL,
    "nuclear": Fuel.NUCLEAR,
    "natural gas": Fuel.GAS,
    "large hydro": Fuel.HYDRO,
    "batteries": Fuel.STORAGE,
    "imports": Fuel.IMPORTS,
    "other": Fuel.OTHER,
}
_MAY_BE_ABSENT = {"batteries"}  # older files have none


class CaisoOutlook:
    """The files of `www.caiso.com/outlook`, five minutes each."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(minutes=5)
    lag = timedelta(minutes=5)

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """Today so far. Direct emissions of what California uses: imports charged, exports credited, as CAISO counts."""
        tonnes = self._file("current", "co2", lambda body: emissions(body.content, None, body.as_of(now)))
        megawatts = self._file("current", "demand", lambda body: demands(body.content, None, body.as_of(now)))
        fetched_at = min(tonnes.fetched_at, megawatts.fetched_at)
        with reading(self.name):
            series = intensity(tonnes.value, megawatts.value, fetched_at)
        return Fetched(series, fetched_at, tonnes.trouble or megawatts.trouble)

    def past(self, zone: str, day: date, now: datetime) -> Fetched[Past]:
        """California's day of that date. Its files are still revised for weeks: a later call may say otherwise."""
        folder = f"history/{day:%Y%m%d}"
        tonnes = self._file(folder, "co2", lambda body: emissions(body.content, day, now))
        loads = self._file(folder, "netdemand", lambda body: net_demands(body.content, day, now))
        fetched_at = min(tonnes.fetched_at, loads.fetched_at)
        with reading(self.name):
            series = intensity(tonnes.value, {load.start: load.load_mw for load in loads.value}, fetched_at)
            seen = observed(series, loads.value)
        return Fetched(Past(averages=series, observations=tuple(seen)), fetched_at, tonnes.trouble or loads.trouble)

    def outlook(self, zone: str, now: datetime) -> Fetched[list[NetLoad]]:
        """Demand and net demand of the past hours and of the next seven days."""
        return self._file("current", "rtm_forecast_7day", lambda body: seven_days(body.content))

    def observations(self, zone: str, now: datetime) -> Fetched[list[Observation]]:
        """The hours of today: net demand as measured, and what was emitted."""
        intensities, loads = self.average(zone, now), self.outlook(zone, now)
        return Fetched(
            observed(intensities.value, [row for row in loads.value if not row.is_forecast]),
            min(intensities.fetched_at, loads.fetched_at),
            intensities.trouble or loads.trouble,
        )

    def _file(self, folder: str, name: str, parse: Callable[[Body], T]) -> Fetched[T]:
        return _file(self._fetch, folder, name, parse)


class CaisoMix:
    """The fuel mix of the same place, for when it says no CO2: our factors, and 428 g/kWh for what is imported."""

    name = "caiso_mix"
    zones = frozenset({ZONE})
    refresh = timedelta(minutes=5)
    lag = timedelta(minutes=5)

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """Today so far. Direct emissions of what California makes and imports; exports are not credited."""
        grams = for_zone(ZONE, Scope.DIRECT).grams_per_kwh

        def parse(body: Body) -> Series[AverageIntensity]:
            mixes = fuel_mix(body.content, None, body.as_of(now))
            found = [(mix, mix_intensity(mix, grams)) for mix in mixes]
            return in_order(
                [_reading(mix.start, value, self.name, body.fetched_at) for mix, value in found if value is not None]
            )

        return _file(self._fetch, "current", "fuelsource", parse)


def intensity(
    tonnes: Mapping[datetime, float], megawatts: Mapping[datetime, float], fetched_at: datetime
) -> Series[AverageIntensity]:
    """`emissions` over `demands`, where both say something."""
    return in_order(
        [
            _reading(start, 1000 * tonnes[start] / megawatts[start], NAME, fetched_at)
            for start in tonnes.keys() & megawatts.keys()
            if megawatts[start] > 0
        ]
    )


def observed(series: Iterable[AverageIntensity], loads: Iterable[NetLoad]) -> list[Observation]:
    """Whole hours of what `intensity` and the net demand say about the same five minutes."""
    net = {load.start: load for load in loads}
    return hours_of(
        Observation(
            start=five.start,
            end=five.end,
            load_mw=net[five.start].load_mw,
            net_load_mw=net[five.start].net_load_mw,
            tonnes_per_hour=five.value * net[five.start].load_mw / 1000,
        )
        for five in series
        if five.start in net
    )


def emissions(body: bytes, day: date | None, now: datetime) -> dict[datetime, float]:
    """Tonnes of CO2 an hour from each five minutes on, from `co2.csv`. Imports are below nought while exporting."""
    rows = csv_rows(body, f"{NAME} co2.csv", ["time"])
    columns = [name for name in rows[0] if name.endswith("co2")] if rows else []
    if rows and not columns:
        raise SignalUnreadable(f"{NAME} co2.csv: no column ends in CO2; its format has changed")
    return _by_time(rows, columns, day, now)


def demands(body: bytes, day: date | None, now: datetime) -> dict[datetime, float]:
    """Demand in MW from each five minutes on, from `demand.csv` or `netdemand.csv`."""
    return _by_time(csv_rows(body, f"{NAME} demand.csv", ["time", "current demand"]), ["current demand"], day, now)


def net_demands(body: bytes, day: date | None, now: datetime) -> list[NetLoad]:
    """Demand and net demand of one day, from `netdemand.csv`."""
    rows = csv_rows(body, f"{NAME} netdemand.csv", ["time", "current demand", "net demand"])
    load, net = (_by_time(rows, [name], day, now) for name in ("current demand", "net demand"))
    return [
        NetLoad(start=at, end=at + _STEP, load_mw=load[at], net_load_mw=net[at], is_forecast=False)
        for at in sorted(load.keys() & net.keys())
    ]


def fuel_mix(body: bytes, day: date | None, now: datetime) -> list[Mix]:
    """Generation by fuel, from `fuelsource.csv`: solar a little below nought at night, batteries while charging, imports
    while exporting.
    """
    rows = csv_rows(body, f"{NAME} fuelsource.csv", ["time", *(name for name in _FUELS if name not in _MAY_BE_ABSENT)])
    present = [name for name in _FUELS if rows and name in rows[0]]
    strange = [name for name in (rows[0] if rows else {}) if name not in _FUELS and name != "time"]
    if strange:
        # A new fuel that we left out would be missing from the emissions.
        raise SignalUnreadable(f"{NAME} fuelsource.csv: a fuel we do not know: {', '.join(strange)[:100]}")
    mixes = []
    for at, row in _timed(rows, present, day, now):
        megawatts: dict[Fuel, float] = {}
        for name in present:
            fuel = _FUELS[name]
            megawatts[fuel] = megawatts.get(fuel, 0.0) + float(row[name])
        mixes.append(Mix(start=at, end=at + _STEP, megawatts=megawatts))
    return mixes


def seven_days(body: bytes) -> list[NetLoad]:
    """`rtm_forecast_7day.csv`: measured where it says so, else the day-ahead forecast; labels are ends of intervals."""
    forecast = ("day-ahead demand forecast", "day-ahead net demand forecast")
    rows = csv_rows(body, f"{NAME} rtm_forecast_7day.csv", ["time", "demand", "net demand", *forecast])
    found = []
    for end, row in zip(stamps([row["time"] for row in rows], "%m/%d/%Y %H:%M", PACIFIC), rows, strict=True):
        measured = [number(row[name]) for name in ("demand", "net demand")]
        load, net = measured if None not in measured else [number(row[name]) for name in forecast]
        if end is not None and load is not None and net is not None:
            found.append(
                NetLoad(start=end - _STEP, end=end, load_mw=load, net_load_mw=net, is_forecast=None in measured)
            )
    return found


def _file(fetch: Fetch, folder: str, name: str, parse: Callable[[Body], T]) -> Fetched[T]:
    def checked(body: Body) -> T:
        with reading(f"{NAME} {name}.csv"):
            return parse(body)

    # CloudFront serves old copies unless the query differs: one that changes with each refresh period.
    return fetch(Ask(url=f"{_BASE}/{folder}/{name}.csv", fresh_for=_STEP, bust=_STEP), checked)


def _reading(start: datetime, value: float, source: str, fetched_at: datetime) -> AverageIntensity:
    return AverageIntensity(
        zone=ZONE,
        start=start,
        end=start + _STEP,
        value=value,
        scope=Scope.DIRECT,
        boundary=Boundary.CONSUMPTION,
        source=source,
        fetched_at=fetched_at,
        quality=Quality.PROVISIONAL,
    )


def _by_time(
    rows: Sequence[dict[str, str]], columns: Sequence[str], day: date | None, now: datetime
) -> dict[datetime, float]:
    return {at: sum(float(row[name]) for name in columns) for at, row in _timed(rows, columns, day, now)}


def _timed(
    rows: Sequence[dict[str, str]], columns: Sequence[str], day: date | None, now: datetime
) -> list[tuple[datetime, dict[str, str]]]:
    """The rows that say something, with their moments; future rows of today's file are blank."""
    labels = [row["time"] for row in rows]
    said = [row if all(number(row[name]) is not None for name in columns) else None for row in rows]
    for trial in (day,) if day else (_today(now), _today(now) - timedelta(days=1)):
        moments = day_labels(labels, trial, PACIFIC)
        timed = [(at, row) for at, row in zip(moments, said, strict=True) if at is not None and row is not None]
        # Just after midnight "current" is still yesterday's file: then its last row would lie in the future.
        if not timed or timed[-1][0] <= now + _STEP:
            return timed
    raise SignalUnreadable(f"{NAME}: rows of the future")


def _today(now: datetime) -> date:
    return now.astimezone(UTC).astimezone(PACIFIC).date()
