"""What a body is, by what is in it: the parser that reads it, or the reason why none does."""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from broker.core.errors import SignalUnreadable
from broker.core.readings import Reading
from broker.signals import (
    carbon_caiso,
    carbon_eia930,
    carbon_entsoe,
    carbon_ercot,
    carbon_isone,
    forecast_caiso_oasis,
    forecast_ercot,
    price_caiso_lmp,
    price_ercot,
)
from broker.signals.bodies import MAX_BYTES, csv_in_zip, reading, text_of
from broker.signals.mix import Mix
from broker.signals.net_load import NetLoad


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """`format` names source and file; `found` counts what its parser made of it; `first` and `last` are edges of intervals."""

    format: str
    found: int
    first: datetime | None
    last: datetime | None


_Parse = Callable[[bytes, date | None, datetime], list[datetime]]
"""Body, day, now → the moments that it speaks of."""


def recognise(body: bytes, now: datetime, day: date | None = None) -> Recognised:
    """SignalUnreadable: a format that nobody reads here, with the reason, or one of ours that cannot be read.

    `day`: the day (in the operator's own zone) of a body that does not name it, as CAISO's files of one day do not.
    """
    plain = _plain(body)
    name, parse = _format(plain)
    with reading(name):
        moments = parse(plain, day, now)
    return Recognised(
        format=name, found=len(moments), first=min(moments, default=None), last=max(moments, default=None)
    )


def _plain(body: bytes) -> bytes:
    if body[:2] != b"\x1f\x8b":
        return body
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(body, MAX_BYTES + 1)
    except zlib.error as exc:
        raise SignalUnreadable(f"the body: no whole gzip file ({exc})") from exc
    if len(plain) > MAX_BYTES or not inflate.eof:
        raise SignalUnreadable("the body: too large, or no whole gzip file")
    return plain


def _format(body: bytes) -> tuple[str, _Parse]:
    if body[:2] == b"PK":
        return _zipped(body)
    text = text_of(body, "the body").lstrip()
    if text.startswith("<"):
        return _xml(text)
    if text.startswith(("{", "[")):
        return _json(text)
    return _csv(text)


def _zipped(body: bytes) -> tuple[str, _Parse]:
    if b"rtfuelmix.csv" in body[:200]:
        raise SignalUnreadable(
            "NYISO's month of rtfuelmix: 28 files in local time without DST; NYISO is read from EIA-930"
        )
    header = csv_in_zip(body, "the zip")[:2000].decode("utf-8", "replace").split("\n", 1)[0].lower()
    for word, name, parse in _ZIPPED:
        if word in header:
            return name, parse
    raise SignalUnreadable(f"the zip: a CSV file that no source of ours sends ({header.strip()[:100]})")


def _xml(text: str) -> tuple[str, _Parse]:
    if "urn:iec62325.351" not in text[:4000]:
        raise SignalUnreadable("the body: XML that no source of ours sends")
    if "<type>A44</type>" in text[:4000]:
        return "entsoe A44", lambda body, day, now: _starts(carbon_entsoe.prices(body, "area", now))
    return "entsoe A75", lambda body, day, now: _starts(carbon_entsoe.generation(body))


def _json(text: str) -> tuple[str, _Parse]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SignalUnreadable(f"the body: no JSON, or not whole ({str(exc)[:80]})") from exc
    keys = set(document) if isinstance(document, dict) else set()
    if "response" in keys:
        return _eia(document["response"])
    for marks, name, parse in _OBJECTS:
        if marks <= keys:
            return name, parse
    for mark, why in _REFUSED.items():
        if mark in keys:
            raise SignalUnreadable(why)
    raise SignalUnreadable(f"the body: JSON that no source of ours sends ({', '.join(sorted(map(str, keys)))[:100]})")


def _eia(response: object) -> tuple[str, _Parse]:
    rows = response.get("data") if isinstance(response, dict) else None
    first = rows[0] if isinstance(rows, list) and rows else {}
    for mark, name, parse in _EIA:
        if isinstance(first, dict) and mark in first:
            return name, parse
    raise SignalUnreadable("the body: an answer of EIA with no data in it, or with other data than ours")


def _csv(text: str) -> tuple[str, _Parse]:
    header = [name.strip().lower() for name in text.splitlines()[0].split(",")]
    for marks, name, parse in _CSVS:
        if marks <= set(header):
            return name, parse
    raise SignalUnreadable(f"the body: a CSV file that no source of ours sends ({', '.join(header)[:100]})")


def _starts(items: Iterable[Reading | Mix | NetLoad]) -> list[datetime]:
    return [item.start for item in items]


def _mixes_of_all(body: bytes) -> list[datetime]:
    return [mix.start for mixes in carbon_eia930.fuel_mixes(body).values() for mix in mixes]


def _keys_of_all(tables: Mapping[Any, Mapping[datetime, float]]) -> list[datetime]:
    return [moment for table in tables.values() for moment in table]


_ZIPPED: tuple[tuple[str, str, _Parse], ...] = (
    (
        "renewable_type",
        "caiso_oasis SLD_REN_FCST",
        lambda body, day, now: [start for start, _ in forecast_caiso_oasis.renewables(body)],
    ),
    (
        "tac_area_name",
        "caiso_oasis SLD_FCST",
        lambda body, day, now: [start for start, _ in forecast_caiso_oasis.demand(body)],
    ),
    (
        "lmp_type",
        "caiso_lmp PRC_LMP",
        lambda body, day, now: _starts(price_caiso_lmp.lmp(body, price_caiso_lmp.HUB, now)),
    ),
    ("stwpf_system_wide", "ercot_mis 13028", lambda body, day, now: list(forecast_ercot.wind_forecast(body))),
    ("stppf_system_wide", "ercot_mis 13483", lambda body, day, now: list(forecast_ercot.solar_forecast(body))),
    ("systemtotal", "ercot_mis 12311", lambda body, day, now: list(forecast_ercot.load_forecast(body))),
)
"""A word of the CSV's header, the format, its parser."""

_OBJECTS: tuple[tuple[set[str], str, _Parse], ...] = (
    (
        {"types", "data"},
        "ercot_dashboards fuel-mix",
        lambda body, day, now: _starts(carbon_ercot.fuel_mix(body)),
    ),
    (
        {"rtSppData"},
        "ercot_prices system-wide-prices",
        lambda body, day, now: _starts(price_ercot.settlement(body, price_ercot.POINT, now)),
    ),
    (
        {"previousDay", "nextDay"},
        "ercot_dashboards loadForecastVsActual",
        lambda body, day, now: [end for end, _, _ in carbon_ercot.loads(body)],
    ),
    (
        {"previousDay", "currentDay"},
        "ercot_dashboards energy-storage-resources",
        lambda body, day, now: [end for end, _ in carbon_ercot.storage(body)],
    ),
    (
        {"ListDocsByRptTypeRes"},
        "ercot_mis list",
        lambda body, day, now: [document.published_at for document in forecast_ercot.documents(body)],
    ),
    ({"GenFuelMixes"}, "isone_genfuelmix", lambda body, day, now: _starts(carbon_isone.fuel_mix(body))),
)
"""Keys of the object, the format, its parser; the first that fits."""

_EIA: tuple[tuple[str, str, _Parse], ...] = (
    ("fueltype", "eia930 fuel-type-data", lambda body, day, now: _mixes_of_all(body)),
    ("toba", "eia930 interchange-data", lambda body, day, now: _keys_of_all(carbon_eia930.interchange(body))),
    ("type", "eia930 region-data", lambda body, day, now: _keys_of_all(carbon_eia930.demands(body))),
)

_CSVS: tuple[tuple[set[str], str, _Parse], ...] = (
    (
        {"time", "imports", "solar"},
        "caiso_outlook fuelsource",
        lambda body, day, now: _starts(carbon_caiso.fuel_mix(body, day, now)),
    ),
    (
        {"time", "current demand", "net demand"},
        "caiso_outlook netdemand",
        lambda body, day, now: _starts(carbon_caiso.net_demands(body, day, now)),
    ),
    (
        {"time", "day-ahead net demand forecast"},
        "caiso_outlook rtm_forecast_7day",
        lambda body, day, now: _starts(carbon_caiso.seven_days(body)),
    ),
    (
        {"time", "current demand"},
        "caiso_outlook demand",
        lambda body, day, now: list(carbon_caiso.demands(body, day, now)),
    ),
    (
        {"time", "imports co2"},
        "caiso_outlook co2",
        lambda body, day, now: list(carbon_caiso.emissions(body, day, now)),
    ),
)

_REFUSED = {
    "tot_gen_solar_iso_telem": "CAISO's daily renewable report: arrays without moments, out of a web page, 288 of them on the "
    "day of 25 hours too; the outlook's files say the same with their times",
    "searchSpecification": "PJM's gen_by_fuel: its service wants a key of its own; PJM is read from EIA-930",
    "Forecast": "MISO's wind forecast: wind alone makes no intensity; MISO is read from EIA-930",
}
"""A key of the object → why nobody reads it."""
