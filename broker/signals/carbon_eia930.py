"""EIA-930 by its API v2: hourly generation by fuel of every US balancing authority. A free key; an hour or two late."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.core.errors import SignalUnavailable, SignalUnreadable
from broker.core.readings import AverageIntensity, Scope, Series
from broker.signals.bodies import json_of, number, reading
from broker.signals.cache import Body
from broker.signals.factors import for_zone
from broker.signals.fetch import Ask, Fetch, Fetched
from broker.signals.forecast import Observation, observations
from broker.signals.mix import Fuel, Mix
from broker.signals.mix_file import COLUMNS
from broker.signals.plausible import plausible
from broker.signals.production import series_of

NAME = "eia930"
_BASE = "https://api.eia.gov/v2/electricity/rto"
_HOUR = timedelta(hours=1)
_PAGE = 5000
"""Rows of an answer at most."""

_FUELS = COLUMNS | {
    # Since 2024: wind and solar with batteries beside them, other and unknown storage, unknown.
    "WNB": Fuel.WIND,
    "SNB": Fuel.SOLAR,
    "OES": Fuel.STORAGE,
    "UES": Fuel.STORAGE,
    "UNK": Fuel.OTHER,
}

AUTHORITIES = {
    "US-CAL-CISO": "CISO",
    "US-TEX-ERCO": "ERCO",
    "US-MIDA-PJM": "PJM",
    "US-NY-NYIS": "NYIS",
    "US-NE-ISNE": "ISNE",
    "US-MIDW-MISO": "MISO",
    "US-CENT-SWPP": "SWPP",
    "US-SE-SOCO": "SOCO",
    "US-NW-BPAT": "BPAT",
    "US-SW-AZPS": "AZPS",
    "US-SW-SRP": "SRP",
    "US-NW-PACE": "PACE",
    "US-NW-NEVP": "NEVP",
    "US-NW-GCPD": "GCPD",
    "US-CAR-DUK": "DUK",
    "US-CAR-CPLE": "CPLE",
    "US-TEN-TVA": "TVA",
}
"""Zone → EIA's respondent. Electricity Maps names its US zones after them."""


_ISLANDS = frozenset({"US-TEX-ERCO"})


class Eia930:
    """`api.eia.gov`. The answer repeats the key of the request: the fetcher takes it out before anything is kept."""

    name = NAME
    refresh = timedelta(minutes=30)
    lag = timedelta(hours=2)

    def __init__(self, fetch: Fetch, zones: Iterable[str], scope: Scope = Scope.DIRECT) -> None:
        self.zones = frozenset(zones)
        self._fetch = fetch
        self._scope = scope

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """The last ten days that are reported. What the zone makes, without imports."""
        mixes = self.mixes(zone, now)
        with reading(self.name):
            series = series_of(
                mixes.value, zone=zone, source=NAME, factors=for_zone(zone, self._scope), fetched_at=mixes.fetched_at
            )
        return Fetched(series, mixes.fetched_at, mixes.trouble)

    def observations(self, zone: str, now: datetime) -> Fetched[list[Observation]]:
        """Ten days to learn from at once. None where what the zone makes is not what it uses: its operator's net load counts
        imports, too, and a curve of ours would be one of something else.
        """
        mixes = self.mixes(zone, now)
        if zone not in _ISLANDS:
            return Fetched([], mixes.fetched_at, mixes.trouble)
        factors = for_zone(zone, self._scope)
        return Fetched(observations(mixes.value, factors.grams_per_kwh), mixes.fetched_at, mixes.trouble)

    def mixes(self, zone: str, now: datetime) -> Fetched[list[Mix]]:
        """Generation by fuel, hour by hour, without those whose sum cannot be."""
        authority = AUTHORITIES.get(zone)
        if authority is None:
            raise SignalUnavailable(f"{self.name}: no balancing authority is known for {zone}")
        ask = Ask(
            url=f"{_BASE}/fuel-type-data/data/",
            params={
                "frequency": "hourly",
                "data[0]": "value",
                "facets[respondent][]": authority,
                "sort[0][column]": "period",
                "sort[0][direction]": "desc",
                "length": str(_PAGE),
                "start": f"{now.astimezone(UTC) - timedelta(days=10):%Y-%m-%dT00}",
            },
            fresh_for=self.refresh,
            known_as=f"{_BASE}/fuel-type-data/{authority}",
        )

        def parse(body: Body) -> list[Mix]:
            with reading(f"{self.name} fuel-type-data"):
                return plausible(fuel_mixes(body.content).get(authority, []))

        return self._fetch(ask, parse)


def fuel_mixes(*bodies: bytes) -> dict[str, list[Mix]]:
    """Balancing authority → its hours in order, from the pages of `fuel-type-data`. An hour with a null is left out: the
    fuel that is missing may be the half of it. So is the hour at which pages end when more of them are to come.

    `period` is the end of its hour: CAISO's own five minutes of 2023-01-01 agree with EIA's that way and no other.
    """
    found: dict[tuple[str, datetime], dict[str, float | None]] = {}
    pages = [_rows(body) for body in bodies]
    # A full page ends in the middle of an hour, unless the pages together have everything.
    more = len(pages[-1]) >= _PAGE and sum(map(len, pages)) < _total(bodies[-1])
    cut = _period(pages[-1][-1]) if more else None
    for page in pages:
        for row in page:
            code = str(row["fueltype"])
            if code not in _FUELS:
                raise SignalUnreadable(f"{NAME}: a fuel we do not know: {code[:20]}")
            found.setdefault((str(row["respondent"]), _period(row)), {})[code] = number(row["value"])
    mixes: dict[str, list[Mix]] = {}
    for (authority, end), said in sorted(found.items()):
        megawatts: dict[Fuel, float] = {}
        for code, value in said.items():
            if value is not None:
                megawatts[_FUELS[code]] = megawatts.get(_FUELS[code], 0.0) + value
        if None not in said.values() and end != cut:
            mixes.setdefault(authority, []).append(Mix(start=end - _HOUR, end=end, megawatts=megawatts))
    return mixes


def demands(body: bytes) -> dict[str, dict[datetime, float]]:
    """Balancing authority → end of each hour → demand in MW, from `region-data`."""
    found: dict[str, dict[datetime, float]] = {}
    for row in _rows(body):
        value = number(row["value"])
        if str(row["type"]) == "D" and value is not None:
            found.setdefault(str(row["respondent"]), {})[_period(row)] = value
    return found


def interchange(body: bytes) -> dict[tuple[str, str], dict[datetime, float]]:
    """(from, to) → end of each hour → MW that flow, below nought the other way; from `interchange-data`."""
    found: dict[tuple[str, str], dict[datetime, float]] = {}
    for row in _rows(body):
        value = number(row["value"])
        if value is not None:
            found.setdefault((str(row["fromba"]), str(row["toba"])), {})[_period(row)] = value
    return found


def _total(body: bytes) -> int:
    """How many rows there are on all pages; a text since 2024."""
    return int(json_of(body, NAME)["response"].get("total") or 0)


def _rows(body: bytes) -> list[dict[str, Any]]:
    document = json_of(body, NAME)
    if "response" not in document:
        said = document.get("error", "no response in it")
        raise SignalUnreadable(f"{NAME}: {str(said)[:120]}")
    rows = document["response"]["data"]
    if not isinstance(rows, list):
        raise SignalUnreadable(f"{NAME}: its data are no list")
    return rows


def _period(row: dict[str, Any]) -> datetime:
    return datetime.strptime(str(row["period"]), "%Y-%m-%dT%H").replace(tzinfo=UTC)
