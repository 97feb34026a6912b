"""Intensity out of a file of one's own: `datetime,g_per_kwh`, an hour a row. For a signal bought elsewhere, or a rehearsal."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.core.errors import SignalUnavailable
from broker.core.readings import AverageIntensity, Boundary, Quality, Scope, Series, in_order
from broker.signals.bodies import MAX_BYTES, csv_rows, number, reading
from broker.signals.fetch import Fetched

NAME = "file"
_HOUR = timedelta(hours=1)


class IntensityFile:
    """Read anew each time. Hours that are over count as measured, later ones as forecast."""

    name = NAME
    refresh = timedelta(hours=1)
    lag = timedelta(hours=1)

    def __init__(self, path: Path, zone: str) -> None:
        self._path = path
        self.zones = frozenset({zone})

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """What began by `now`."""
        return Fetched(Series(tuple(hour for hour in self._hours(zone, now) if hour.start <= now)), now)

    def forecast(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """What is not over at `now`."""
        return Fetched(Series(tuple(hour for hour in self._hours(zone, now) if hour.end > now)), now)

    def _hours(self, zone: str, now: datetime) -> Series[AverageIntensity]:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise SignalUnavailable(f"{self._path}: more than {MAX_BYTES} bytes")
            body = self._path.read_bytes()
        except OSError as exc:
            raise SignalUnavailable(
                f"{self._path} cannot be read ({exc.strerror}); the daemon's user must be able to"
            ) from exc
        with reading(str(self._path)):
            return parse(body, zone, str(self._path), now)


def parse(body: bytes, zone: str, name: str, now: datetime) -> Series[AverageIntensity]:
    """Times without an offset are UTC; an empty value is a gap."""
    found = []
    for row in csv_rows(body, name, ["datetime", "g_per_kwh"]):
        value = number(row["g_per_kwh"])
        at = datetime.fromisoformat(row["datetime"])
        start = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if value is not None:
            found.append(
                AverageIntensity(
                    zone=zone,
                    start=start,
                    end=start + _HOUR,
                    value=value,
                    scope=Scope.DIRECT,
                    boundary=Boundary.CONSUMPTION,
                    source=NAME,
                    fetched_at=now,
                    quality=Quality.MEASURED if start <= now else Quality.FORECAST,
                )
            )
    return in_order(found)
