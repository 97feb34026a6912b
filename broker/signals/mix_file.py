"""A file of hourly generation by fuel, as EIA-930 extracts come: `timestamp`, a column a fuel (MWh), perhaps `avg_CI` (g/kWh)."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from math import isfinite
from pathlib import Path

from broker.core.errors import NotFound, SignalUnreadable
from broker.signals.bodies import reading
from broker.signals.mix import Fuel, Mix, intensity

COLUMNS = {
    "WND": Fuel.WIND,
    "SUN": Fuel.SOLAR,
    "WAT": Fuel.HYDRO,
    "OIL": Fuel.OIL,
    "NG": Fuel.GAS,
    "COL": Fuel.COAL,
    "NUC": Fuel.NUCLEAR,
    "GEO": Fuel.GEOTHERMAL,
    "BIO": Fuel.BIOMASS,
    "OTH": Fuel.OTHER,
    "BAT": Fuel.STORAGE,
    "PS": Fuel.STORAGE,
}
"""EIA's codes. A file has those that its balancing authority reports."""

_INTENSITY = "avg_CI"
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Row:
    """`mix` None: the hour is a gap (a value is missing). `said`: the file's own intensity, in g/kWh."""

    start: datetime
    mix: Mix | None
    said: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a set of factors makes of a file. Intensities in g/kWh; `max_abs_error` None: the file has none of its own.

    `gaps`: hours without a value; `last_hour` is the start of the last one that has one.
    """

    hours: int
    gaps: int
    mean_g_per_kwh: float
    max_abs_error: float | None
    first_hour: datetime
    last_hour: datetime
    intensities: tuple[float, ...]


def read(path: Path) -> str:
    """The file's text, ungzipped. NotFound, SignalUnreadable."""
    try:
        body = path.read_bytes()
    except FileNotFoundError as exc:
        raise NotFound(f"{path}: there is no such file") from exc
    except OSError as exc:
        raise SignalUnreadable(f"{path} cannot be read ({exc.strerror}); name a CSV file, gzipped or not") from exc
    try:
        return (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode("utf-8-sig")
    except (EOFError, OSError, zlib.error) as exc:
        raise SignalUnreadable(f"{path} is no whole gzip file ({exc}); copy it again") from exc
    except UnicodeDecodeError as exc:
        raise SignalUnreadable(f"{path}: byte {exc.start} is not UTF-8; name a CSV file, gzipped or not") from exc


def parse(text: str, name: str) -> list[Row]:
    """The hours of the file `name`, in its order. SignalUnreadable: it is not of this format, with the line that is not."""
    lines = csv.DictReader(StringIO(text))
    try:
        header = [(column or "").strip() for column in lines.fieldnames or ()]
        fuels = [column for column in header if column in COLUMNS]
        if "timestamp" not in header or not fuels:
            raise SignalUnreadable(
                f"{name}: its first line is {', '.join(header)[:120] or 'empty'}; a column timestamp and columns of fuels "
                f"({', '.join(COLUMNS)}) are needed"
            )
        if len(set(header)) < len(header):
            raise SignalUnreadable(f"{name}: a column stands there twice; keep one")
        lines.fieldnames = header
        with reading(name):  # a year beyond the calendar
            return list(_rows(lines, fuels, _INTENSITY in header, name))
    except csv.Error as exc:
        raise SignalUnreadable(f"{name} line {lines.line_num}: {exc}; it is no CSV file") from exc


def compare(rows: list[Row], grams_per_kwh: Mapping[Fuel, float], name: str) -> Comparison:
    """SignalUnreadable: not one hour has a value."""
    found = []
    for row in rows:
        value = intensity(row.mix, grams_per_kwh) if row.mix else None
        if value is not None:
            found.append((row, value))
    if not found:
        raise SignalUnreadable(f"{name}: none of its {len(rows)} hours has a value; nothing can be said about it")
    values = tuple(value for _, value in found)
    errors = [abs(value - row.said) for row, value in found if row.said is not None]
    return Comparison(
        hours=len(values),
        gaps=len(rows) - len(values),
        mean_g_per_kwh=sum(values) / len(values),
        max_abs_error=max(errors, default=None),
        first_hour=found[0][0].start,
        last_hour=found[-1][0].start,
        intensities=values,
    )


def _rows(lines: "csv.DictReader[str]", fuels: list[str], says: bool, name: str) -> Iterator[Row]:
    for line in lines:
        where = f"{name} line {lines.line_num}"
        if None in line or None in line.values():
            raise SignalUnreadable(f"{where}: it does not have as many values as the first line; is the file whole?")
        start = _time(line["timestamp"], where)
        values = [(COLUMNS[fuel], _number(line[fuel], f"{where} {fuel}")) for fuel in fuels]
        megawatts: dict[Fuel, float] = {}
        for fuel, value in values:
            if value is not None:
                megawatts[fuel] = megawatts.get(fuel, 0.0) + value
        whole = all(value is not None for _, value in values)
        yield Row(
            start=start,
            mix=Mix(start=start, end=start + _HOUR, megawatts=megawatts) if whole else None,
            said=_number(line[_INTENSITY], f"{where} {_INTENSITY}") if says else None,
        )


def _time(text: str, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise SignalUnreadable(f"{where}: '{text[:40]}' is no ISO-8601 time") from exc
    # EIA's hours are UTC; extracts often leave the offset out.
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _number(text: str, where: str) -> float | None:
    plain = text.strip()
    if plain.lower() in {"", "nan", "null", "none", "na"}:
        return None
    try:
        value = float(plain)
    except ValueError as exc:
        raise SignalUnreadable(f"{where}: '{plain[:40]}' is no number") from exc
    if not isfinite(value):
        raise SignalUnreadable(f"{where}: '{plain}' is no number")
    return value
