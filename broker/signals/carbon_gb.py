"""Great Britain's intensity and its forecast for two days, by carbonintensity.org.uk (NESO). No key; CC BY 4.0."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.core.errors import SignalUnreadable
from broker.core.readings import AverageIntensity, Boundary, Quality, Scope, Series, in_order
from broker.signals.bodies import json_of, number, reading
from broker.signals.cache import Body
from broker.signals.fetch import Ask, Fetch, Fetched

ZONE = "GB"
NAME = "carbonintensity_gb"
_URL = "https://api.carbonintensity.org.uk/intensity"
_HALF_HOUR = timedelta(minutes=30)


class CarbonIntensityGb:
    """Half hours. What is over is an estimate of theirs, too (`actual`)."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(minutes=30)
    lag = timedelta(minutes=30)

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """The last 24 hours. Direct emissions of what Britain uses: imports are charged."""
        return self._ask(now, "pt24h", past)

    def forecast(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """The next 48 hours."""
        return self._ask(now, "fw48h", ahead)

    def _ask(
        self, now: datetime, span: str, parse: Callable[[bytes, datetime], Series[AverageIntensity]]
    ) -> Fetched[Series[AverageIntensity]]:
        def checked(body: Body) -> Series[AverageIntensity]:
            with reading(f"{self.name} {span}"):
                return parse(body.content, body.fetched_at)

        start = f"{now.astimezone(UTC):%Y-%m-%dT%H:00Z}"
        ask = Ask(url=f"{_URL}/{start}/{span}", fresh_for=self.refresh / 2, known_as=f"{_URL}/{span}")
        return self._fetch(ask, checked)


def past(body: bytes, fetched_at: datetime) -> Series[AverageIntensity]:
    """What has an `actual`; it is null for half hours to come."""
    return _series(body, "actual", Quality.PROVISIONAL, fetched_at)


def ahead(body: bytes, fetched_at: datetime) -> Series[AverageIntensity]:
    """What has a `forecast`."""
    return _series(body, "forecast", Quality.FORECAST, fetched_at)


def _series(body: bytes, key: str, quality: Quality, fetched_at: datetime) -> Series[AverageIntensity]:
    document = json_of(body, NAME)
    rows = document.get("data")
    if not isinstance(rows, list):
        raise SignalUnreadable(f"{NAME}: {str(document.get('error', 'no data in it'))[:160]}")
    said = [(row, number(row["intensity"][key])) for row in rows]
    return in_order([_half_hour(row, value, quality, fetched_at) for row, value in said if value is not None])


def _half_hour(row: dict[str, Any], value: float, quality: Quality, fetched_at: datetime) -> AverageIntensity:
    start, end = (datetime.fromisoformat(str(row[edge])) for edge in ("from", "to"))
    if start.tzinfo is None or end - start != _HALF_HOUR:
        raise ValueError(f"{row['from']} to {row['to']} is no half hour in UTC")
    return AverageIntensity(
        zone=ZONE,
        start=start.astimezone(UTC),
        end=end.astimezone(UTC),
        value=value,
        scope=Scope.DIRECT,
        boundary=Boundary.CONSUMPTION,
        source=NAME,
        fetched_at=fetched_at,
        quality=quality,
        is_estimated=quality is Quality.PROVISIONAL,
    )
