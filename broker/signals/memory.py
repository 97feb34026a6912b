"""The last weeks of each zone, hour by hour: what forecasts learn from and profiles are made of. A file a zone and source."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broker.core.errors import SignalUnavailable
from broker.core.readings import AverageIntensity, Boundary, Quality, Scope, Series, in_order
from broker.signals.forecast import Observation

KEPT = timedelta(days=35)
"""Four weeks to fit on, and a week's margin."""
_HOUR = timedelta(hours=1)
_VERSION = 1


@dataclass(frozen=True)
class Remembered:
    """What is known of one zone by one source."""

    averages: Series[AverageIntensity]
    observations: tuple[Observation, ...]


class Memory:
    """Below `folder`. A file that cannot be read is begun anew: it is a cache, and the next weeks fill it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, zone: str, source: str) -> Remembered:
        """Empty when there is nothing, or nothing that can be read."""
        try:
            document = json.loads(self._path(zone, source).read_bytes())
            if document["schema_version"] != _VERSION or document["zone"] != zone:
                raise ValueError("another version or zone")
            return Remembered(
                in_order([_average(row, zone, source) for row in document["averages"]]),
                tuple(_observation(row) for row in document["observations"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return Remembered(Series(()), ())

    def add(
        self, zone: str, source: str, averages: Iterable[AverageIntensity], seen: Iterable[Observation], now: datetime
    ) -> None:
        """Hours that are known already are replaced: operators revise their history. SignalUnavailable: no room to write."""
        known = self.read(zone, source)
        hours = {hour.start: hour for hour in (*known.averages, *averages) if now - KEPT <= hour.start <= now}
        loads = {hour.start: hour for hour in (*known.observations, *seen) if now - KEPT <= hour.start <= now}
        document = {
            "schema_version": _VERSION,
            "zone": zone,
            "source": source,
            "averages": [_average_row(hours[start]) for start in sorted(hours)],
            "observations": [_observation_row(loads[start]) for start in sorted(loads)],
        }
        path = self._path(zone, source)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(document))
            partial.replace(path)
        except OSError as exc:
            raise SignalUnavailable(
                f"{path.parent} cannot be written ({exc.strerror}); give it to the user who runs this"
            ) from exc

    def _path(self, zone: str, source: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', f'{zone}.{source}')}.json"


def _average_row(hour: AverageIntensity) -> dict[str, Any]:
    return {
        "start": hour.start.isoformat(),
        "value": hour.value,
        "scope": hour.scope,
        "boundary": hour.boundary,
        "quality": hour.quality,
        "fetched_at": hour.fetched_at.isoformat(),
        "is_estimated": hour.is_estimated,
    }


def _average(row: dict[str, Any], zone: str, source: str) -> AverageIntensity:
    start = _time(row["start"])
    return AverageIntensity(
        zone=zone,
        start=start,
        end=start + _HOUR,
        value=float(row["value"]),
        scope=Scope(row["scope"]),
        boundary=Boundary(row["boundary"]),
        source=source,
        fetched_at=_time(row["fetched_at"]),
        quality=Quality(row["quality"]),
        is_estimated=bool(row["is_estimated"]),
    )


def _observation_row(hour: Observation) -> dict[str, Any]:
    return {
        "start": hour.start.isoformat(),
        "load_mw": hour.load_mw,
        "net_load_mw": hour.net_load_mw,
        "tonnes_per_hour": hour.tonnes_per_hour,
    }


def _observation(row: dict[str, Any]) -> Observation:
    start = _time(row["start"])
    return Observation(
        start=start,
        end=start + _HOUR,
        load_mw=float(row["load_mw"]),
        net_load_mw=float(row["net_load_mw"]),
        tonnes_per_hour=float(row["tonnes_per_hour"]),
    )


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at.astimezone(UTC)
