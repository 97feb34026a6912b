"""Hourly carbon intensity of grid zones, read from files: a table with a column a zone, or an export of one zone."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.simulate.text_file import opened
from broker.simulate.trace import BadLine, Unreadable

SCOPES = {"direct": "(direct)", "lifecycle": "(LCA)"}
_HOUR = timedelta(hours=1)
# A few lost hours take the hour before; a lost day is no year of data any more.
LONGEST_GAP_HOURS = 24


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """`g_per_kwh[i]` holds from `start + i` hours for an hour; `filled` hours had no value and took the one before."""

    zone: str
    start: datetime
    g_per_kwh: tuple[float, ...]
    filled: int = 0
    bad_lines: tuple[BadLine, ...] = ()

    def from_hour(self, hour: int) -> "Intensity":
        """The same zone without its first `hour` hours. Unreadable: nothing is left."""
        if not 0 <= hour < len(self.g_per_kwh):
            raise Unreadable(
                f"hour {hour} of zone {self.zone} is asked for; the file has the hours 0 to {len(self.g_per_kwh) - 1}"
            )
        return Intensity(
            zone=self.zone,
            start=self.start + hour * _HOUR,
            g_per_kwh=self.g_per_kwh[hour:],
            filled=self.filled,
            bad_lines=self.bad_lines,
        )


def read_intensity(paths: Iterable[Path], zone: str | None, scope: str = "lifecycle") -> Intensity:
    """Intensity of `zone` from all `paths` together (years of one zone follow one another).

    `zone` may be None when the files speak of one only; `scope` chooses between the columns of an Electricity Maps
    export (a table has one). Unreadable: no such zone (the near ones are named), or hours that do not join.
    """
    readings: dict[datetime, float] = {}
    bad: list[BadLine] = []
    found: set[str] = set()
    for path in paths:
        with opened(path) as lines:
            rows = csv.reader(lines)
            column = _column(path, next(rows, []), zone, scope)
            for row in rows:
                if not row:
                    continue
                at, value, reason = _reading(row, column)
                if column.zone_place is not None and len(row) > column.zone_place:
                    if zone is not None and row[column.zone_place] != zone:
                        found.add(row[column.zone_place])
                        continue
                    found.add(row[column.zone_place])
                if reason or at is None or value is None:
                    bad.append(BadLine(number=rows.line_num, reason=reason or "no value"))
                else:
                    readings[at] = value
            found.update([column.zone] if column.zone else [])
    if not readings:
        raise Unreadable(f"no intensity of zone {zone}; the files speak of {', '.join(sorted(found)) or 'none'}")
    if zone is None and len(found) > 1:
        raise Unreadable(f"several zones ({', '.join(sorted(found))}): name one with --zone")
    return _joined(zone or next(iter(found), "?"), readings, bad)


def read_zones(paths: Iterable[Path], zones: Iterable[str], scope: str = "lifecycle") -> dict[str, Intensity]:
    """Intensities of several zones, all from the first hour on that each of them has. Unreadable: as above."""
    files = tuple(paths)
    found = {zone: read_intensity(files, zone, scope) for zone in sorted(set(zones))}
    begin = max(each.start for each in found.values())
    return {zone: each.from_hour(int((begin - each.start) / _HOUR)) for zone, each in found.items()}


@dataclass(frozen=True, kw_only=True)
class _Column:
    place: int
    zone: str | None
    zone_place: int | None


def _column(path: Path, header: list[str], zone: str | None, scope: str) -> _Column:
    names = [name.strip() for name in header]
    if "Zone Id" in names or "Zone id" in names:
        wanted = SCOPES[scope]
        # Exports name it "Carbon Intensity gCO₂eq/kWh (LCA)", later ones "Carbon intensity gCO₂eq/kWh (Life cycle)".
        also = "(life cycle)" if scope == "lifecycle" else wanted
        for place, name in enumerate(names):
            if name.lower().startswith("carbon intensity") and (wanted in name or also in name.lower()):
                zone_place = next(i for i, each in enumerate(names) if each.lower() == "zone id")
                return _Column(place=place, zone=None, zone_place=zone_place)
    if "carbon_intensity_avg" in names:  # the layout of umassos' repositories
        return _Column(place=names.index("carbon_intensity_avg"), zone=zone or path.name.split(".")[0], zone_place=None)
    if names and names[0] == "datetime_utc":
        zones = names[1:]
        if zone is None and len(zones) == 1:
            zone = zones[0]
        if zone is None:
            raise Unreadable(f"{path}: a table of {len(zones)} zones: name one with --zone, as {zones[0]}")
        if zone in zones:
            return _Column(place=names.index(zone), zone=zone, zone_place=None)
        from difflib import get_close_matches  # noqa: PLC0415  # only for the error

        near = get_close_matches(zone, zones, n=3, cutoff=0.4) or zones[:3]
        raise Unreadable(f"{path}: no zone {zone} among its {len(zones)}; near it: {', '.join(near)}")
    raise Unreadable(
        f"{path}: line 1 is neither the header of an Electricity Maps export (Datetime (UTC), …, Zone Id, Carbon "
        f"Intensity … {SCOPES[scope]}), nor of a table (datetime_utc, then a column a zone), nor has it carbon_intensity_avg"
    )


def _reading(row: list[str], column: _Column) -> tuple[datetime | None, float | None, str | None]:
    try:
        at = datetime.fromisoformat(row[0].strip().replace("Z", "+00:00"))
    except ValueError:
        return None, None, "no time in the first column"
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    try:
        value = float(row[column.place])
    except (ValueError, IndexError):
        return at, None, "no number"
    return (at, value, None) if math.isfinite(value) and value >= 0 else (at, None, "not a finite number above 0")


def _joined(zone: str, readings: dict[datetime, float], bad: list[BadLine]) -> Intensity:
    start, end = min(readings), max(readings)
    if any((at - start) % _HOUR for at in readings):
        raise Unreadable(f"zone {zone}: not hourly; readings must lie whole hours apart")
    values: list[float] = []
    filled = gap = 0
    at = start
    while at <= end:
        value = readings.get(at)
        gap = gap + 1 if value is None else 0
        if gap > LONGEST_GAP_HOURS:
            raise Unreadable(
                f"zone {zone}: nothing for more than {LONGEST_GAP_HOURS} hours before {at:%Y-%m-%dT%H:%MZ}"
            )
        filled += value is None
        values.append(values[-1] if value is None else value)
        at += _HOUR
    return Intensity(zone=zone, start=start, g_per_kwh=tuple(values), filled=filled, bad_lines=tuple(bad))
