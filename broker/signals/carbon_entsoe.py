"""ENTSO-E's transparency platform: generation by type (A75), wind and solar forecast (A69), day-ahead prices (A44), as XML.

A token by mail; at most 400 requests a minute, then ten minutes' ban. Free with attribution.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TypeVar
from xml.etree import ElementTree  # a document with a DTD is refused before it is parsed

from broker.core.errors import SignalUnavailable, SignalUnreadable
from broker.core.readings import AverageIntensity, EnergyPrice, Quality, Scope, Series, in_order
from broker.signals.bodies import reading, text_of
from broker.signals.cache import Body
from broker.signals.factors import for_zone
from broker.signals.fetch import Ask, Fetch, Fetched
from broker.signals.mix import Fuel, Mix
from broker.signals.production import series_of

T = TypeVar("T")

NAME = "entsoe"
_URL = "https://web-api.tp.entsoe.eu/api"

AREAS = {
    "DE": "10Y1001A1001A83F",
    "DK-DK2": "10YDK-2--------M",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "IT-NO": "10Y1001A1001A73I",
    "NO-NO2": "10YNO-2--------T",
    "NO-NO5": "10Y1001A1001A48H",
    "PT": "10YPT-REN------W",
    "SE-SE3": "10Y1001A1001A46L",
}
"""Zone → EIC code."""

_PRICE_AREAS = AREAS | {"DE": "10Y1001A1001A82H"}
"""Germany's prices are those of Germany and Luxembourg together."""

_TYPES = {
    "B01": Fuel.BIOMASS,
    "B02": Fuel.COAL,
    "B03": Fuel.GAS,
    "B04": Fuel.GAS,
    "B05": Fuel.COAL,
    "B06": Fuel.OIL,
    "B07": Fuel.OIL,
    "B08": Fuel.COAL,  # peat
    "B09": Fuel.GEOTHERMAL,
    "B10": Fuel.STORAGE,
    "B11": Fuel.HYDRO,
    "B12": Fuel.HYDRO,
    "B13": Fuel.HYDRO,  # tides and waves
    "B14": Fuel.NUCLEAR,
    "B15": Fuel.BIOMASS,
    "B16": Fuel.SOLAR,
    "B17": Fuel.OTHER,  # waste
    "B18": Fuel.WIND,
    "B19": Fuel.WIND,
    "B20": Fuel.OTHER,
    "B25": Fuel.STORAGE,
}
_RESOLUTIONS = {"PT15M": timedelta(minutes=15), "PT30M": timedelta(minutes=30), "PT60M": timedelta(hours=1)}


class Entsoe:
    """Fifteen to sixty minutes late where a country reports in time; some are hours late."""

    name = NAME
    refresh = timedelta(minutes=30)
    lag = timedelta(hours=2)

    def __init__(self, fetch: Fetch, zones: Iterable[str], scope: Scope = Scope.DIRECT) -> None:
        self.zones = frozenset(zones)
        self._fetch = fetch
        self._scope = scope

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """Yesterday and today as far as they are reported. What the zone makes, without imports."""
        factors = for_zone(zone, self._scope)

        def parse(body: Body) -> Series[AverageIntensity]:
            return series_of(
                generation(body.content), zone=zone, source=NAME, factors=factors, fetched_at=body.fetched_at
            )

        return self._ask({"documentType": "A75", "processType": "A16", "in_Domain": _area(AREAS, zone)}, now, parse)

    def prices(self, zone: str, now: datetime) -> Fetched[Series[EnergyPrice]]:
        """Day-ahead prices of yesterday, today and, from about 13:00 in Brussels, tomorrow."""
        area = _area(_PRICE_AREAS, zone)

        def parse(body: Body) -> Series[EnergyPrice]:
            return prices(body.content, zone, body.fetched_at)

        return self._ask({"documentType": "A44", "in_Domain": area, "out_Domain": area}, now, parse)

    def _ask(self, params: dict[str, str], now: datetime, parse: Callable[[Body], T]) -> Fetched[T]:
        def checked(body: Body) -> T:
            with reading(f"{self.name} {params['documentType']}"):
                return parse(body)

        start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        span = {"periodStart": f"{start:%Y%m%d%H%M}", "periodEnd": f"{start + timedelta(days=3):%Y%m%d%H%M}"}
        known_as = f"{_URL}/{params['documentType']}/{params['in_Domain']}"
        ask = Ask(url=_URL, params={**params, **span}, fresh_for=self.refresh, known_as=known_as)
        return self._fetch(ask, checked)


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """One TimeSeries: `values` by the start of each step of `step`."""

    type: str | None
    consumed: bool
    currency: str | None
    step: timedelta
    values: dict[datetime, Decimal]


def generation(body: bytes) -> list[Mix]:
    """A75 or A69: power by type in the finest step of the document. Steps that lack a type which the document has are left
    out; consumption (pumps) counts below nought.
    """
    curves = [curve for curve in _curves(body) if curve.type is not None]
    if not curves:
        raise SignalUnreadable(f"{NAME}: no generation by type in it")
    step = min(curve.step for curve in curves)
    totals: dict[datetime, dict[tuple[str, bool], float]] = {}
    for curve in curves:
        key = (str(curve.type), curve.consumed)
        for start, value in curve.values.items():
            for part in range(curve.step // step):
                totals.setdefault(start + part * step, {})[key] = float(value)
    # Pumps are reported only while they run; a plant's type that is missing would be missing from the sum.
    needed = {(str(curve.type), False) for curve in curves if not curve.consumed}
    mixes = []
    for start, said in sorted(totals.items()):
        if needed <= said.keys():
            megawatts: dict[Fuel, float] = {}
            for (type_, consumed), mw in said.items():
                fuel = _TYPES[type_]
                megawatts[fuel] = megawatts.get(fuel, 0.0) + (-mw if consumed else mw)
            mixes.append(Mix(start=start, end=start + step, megawatts=megawatts))
    return mixes


def prices(body: bytes, zone: str, fetched_at: datetime) -> Series[EnergyPrice]:
    """A44: prices of the finest step that covers each moment (since 2025 hours and quarter hours stand side by side)."""
    curves = sorted((curve for curve in _curves(body) if curve.currency is not None), key=lambda curve: curve.step)
    if not curves:
        raise SignalUnreadable(f"{NAME}: no price in it")
    step = curves[0].step
    return in_order(
        [
            EnergyPrice(
                zone=zone,
                start=start,
                end=start + curve.step,
                value=value,
                currency=str(curve.currency),
                source=NAME,
                fetched_at=fetched_at,
                quality=Quality.MEASURED,
            )
            for curve in curves
            if curve.step == step
            for start, value in curve.values.items()
        ]
    )


def _curves(body: bytes) -> Iterator[_Curve]:
    root = _root(body)
    for series in _all(root, "TimeSeries"):
        type_ = _text(series, "MktPSRType/psrType")
        if type_ is not None and type_ not in _TYPES:
            raise SignalUnreadable(f"{NAME}: production type {type_[:8]}, which we do not know")
        for period in _all(series, "Period"):
            start, step, values = _period(period)
            yield _Curve(
                type=type_,
                consumed=_text(series, "outBiddingZone_Domain.mRID") is not None,
                currency=_text(series, "currency_Unit.name"),
                step=step,
                values={start + at * step: value for at, value in values.items()},
            )


def _period(period: ElementTree.Element) -> tuple[datetime, timedelta, dict[int, Decimal]]:
    """Start, step, and values by their place. A place that is left out repeats the one before it (curve A03), inside the
    period and nowhere else.
    """
    start, end = (_moment(_needed(period, f"timeInterval/{edge}")) for edge in ("start", "end"))
    resolution = _needed(period, "resolution")
    if resolution not in _RESOLUTIONS:
        raise SignalUnreadable(f"{NAME}: steps of {resolution[:10]}, which we do not know")
    step = _RESOLUTIONS[resolution]
    places = (end - start) // step
    if not 0 < places <= 366 * 96:
        raise SignalUnreadable(f"{NAME}: a period from {start} to {end}")
    said = {}
    for point in _all(period, "Point"):
        place = int(_needed(point, "position")) - 1
        text = _text(point, "quantity") or _needed(point, "price.amount")
        if not 0 <= place < places:
            raise SignalUnreadable(f"{NAME}: place {place + 1} of a period that has {places}")
        said[place] = _decimal(text)
    values: dict[int, Decimal] = {}
    last: Decimal | None = None
    for place in range(places):
        last = said.get(place, last)
        if last is not None:
            values[place] = last
    return start, step, values


def _root(body: bytes) -> ElementTree.Element:
    text = text_of(body, NAME)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise SignalUnreadable(f"{NAME}: a document with definitions of its own")
    try:
        root = ElementTree.fromstring(text.lstrip())  # noqa: S314
    except ElementTree.ParseError as exc:
        raise SignalUnreadable(f"{NAME}: no XML, or not whole ({exc})") from exc
    if root.tag.endswith("Acknowledgement_MarketDocument"):
        # "No matching data" comes with status 200.
        said = _text(root, "Reason/text") or "no reason"
        raise SignalUnavailable(f"{NAME}: {said[:160]}")
    return root


def _path(path: str) -> str:
    # Each kind and version of a document has a namespace of its own.
    return "/".join(f"{{*}}{name}" for name in path.split("/"))


def _all(element: ElementTree.Element, path: str) -> list[ElementTree.Element]:
    return element.findall(_path(path))


def _text(element: ElementTree.Element, path: str) -> str | None:
    found = element.find(_path(path))
    return found.text.strip() if found is not None and found.text else None


def _needed(element: ElementTree.Element, path: str) -> str:
    text = _text(element, path)
    if text is None:
        raise SignalUnreadable(f"{NAME}: no {path} in it")
    return text


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return at.astimezone(UTC)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as exc:
        raise ValueError(f"{text[:20]} is no number") from exc
    if not value.is_finite():
        raise ValueError(f"{text[:20]} is no number")
    return value


def _area(areas: dict[str, str], zone: str) -> str:
    if zone not in areas:
        raise SignalUnavailable(f"{NAME}: no area is known for {zone}")
    return areas[zone]
