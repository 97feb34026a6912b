"""Electricity Maps v3: flow-traced intensity of some 350 zones. A token; most zones and every forecast are paid for."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.core.errors import SignalUnreadable
from broker.core.readings import AverageIntensity, Boundary, Quality, Scope, Series, in_order
from broker.signals.bodies import json_of, number, reading
from broker.signals.cache import Body
from broker.signals.fetch import Ask, Fetch, Fetched

NAME = "electricitymaps"
_BASE = "https://api.electricitymaps.com/v3/carbon-intensity"
_HOUR = timedelta(hours=1)


class ElectricityMaps:
    """Commercial; the free plan is for one zone and no commerce. Average only: they ended their marginal signal."""

    name = NAME
    refresh = timedelta(minutes=20)
    lag = timedelta(hours=1)

    def __init__(self, fetch: Fetch, zones: Iterable[str], scope: Scope = Scope.DIRECT) -> None:
        self.zones = frozenset(zones)
        self._fetch = fetch
        self._scope = scope

    def average(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """The last 24 hours."""
        return self._ask("history", zone, history)

    def forecast(self, zone: str, now: datetime) -> Fetched[Series[AverageIntensity]]:
        """The next 24 hours, where the token may see them."""
        return self._ask("forecast", zone, forecast)

    def _ask(
        self, what: str, zone: str, parse: Callable[[bytes, str, Scope, datetime], Series[AverageIntensity]]
    ) -> Fetched[Series[AverageIntensity]]:
        def checked(body: Body) -> Series[AverageIntensity]:
            with reading(f"{self.name} {what}"):
                return parse(body.content, zone, self._scope, body.fetched_at)

        params = {
            "zone": zone,
            "emissionFactorType": self._scope,
            "temporalGranularity": "hourly",
            # Else it answers for the caller's own address when it does not know the zone.
            "disableCallerLookup": "true",
        }
        return self._fetch(Ask(url=f"{_BASE}/{what}", params=params, fresh_for=self.refresh), checked)


def history(body: bytes, zone: str, scope: Scope, fetched_at: datetime) -> Series[AverageIntensity]:
    """SignalUnreadable: it speaks of another zone or other emission factors than asked for."""
    document = _document(body, zone, scope)
    return in_order([_reading(row, zone, scope, fetched_at, ahead=False) for row in document["history"] if _said(row)])


def forecast(body: bytes, zone: str, scope: Scope, fetched_at: datetime) -> Series[AverageIntensity]:
    """Hours to come. SignalUnreadable: as in `history`."""
    document = _document(body, zone, scope)
    updated = {"updatedAt": document.get("updatedAt")}
    rows = [updated | row for row in document["forecast"] if _said(row)]
    return in_order([_reading(row, zone, scope, fetched_at, ahead=True) for row in rows])


def _document(body: bytes, zone: str, scope: Scope) -> dict[str, Any]:
    document = json_of(body, NAME)
    for said in (document, *(row for row in document.get("history", []) if isinstance(row, dict))):
        if said.get("zone", zone) != zone:
            raise SignalUnreadable(f"{NAME}: it answers for {str(said['zone'])[:20]} and was asked for {zone}")
        if said.get("emissionFactorType", scope) != scope:
            raise SignalUnreadable(f"{NAME}: {str(said['emissionFactorType'])[:20]} factors, and {scope} was asked for")
    return document


def _said(row: dict[str, Any]) -> bool:
    return number(row["carbonIntensity"]) is not None


def _reading(row: dict[str, Any], zone: str, scope: Scope, fetched_at: datetime, *, ahead: bool) -> AverageIntensity:
    start = _moment(row["datetime"])
    estimated = bool(row.get("isEstimated", False))
    return AverageIntensity(
        zone=zone,
        start=start,
        end=start + _HOUR,
        value=float(row["carbonIntensity"]),
        scope=scope,
        boundary=Boundary.CONSUMPTION,
        source=NAME,
        fetched_at=fetched_at,
        quality=Quality.FORECAST if ahead else Quality.PROVISIONAL if estimated else Quality.MEASURED,
        issued_at=_moment(row["updatedAt"]) if row.get("updatedAt") else None,
        is_estimated=estimated,
    )


def _moment(text: object) -> datetime:
    at = datetime.fromisoformat(str(text))
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return at.astimezone(UTC)
