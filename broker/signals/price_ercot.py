"""ERCOT's settlement prices at hubs and load zones, from its dashboard: real time by quarter hours, day-ahead by hours."""

from datetime import datetime, timedelta
from decimal import Decimal

from broker.core.readings import EnergyPrice, Quality, Series, in_order
from broker.signals.bodies import epoch_ms, json_of, number, reading
from broker.signals.cache import Body
from broker.signals.fetch import Ask, Fetch, Fetched

ZONE = "US-TEX-ERCO"
NAME = "ercot_prices"
POINT = "hbHubAvg"
"""The mean of the hubs."""

# `systemWidePrices.json`, its older name, leads to a page against robots since 2026.
_URL = "https://www.ercot.com/api/1/services/read/dashboards/system-wide-prices.json"
_QUARTER, _HOUR = timedelta(minutes=15), timedelta(hours=1)


class ErcotPrices:
    """Two or three minutes after each quarter of an hour."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(minutes=15)
    lag = timedelta(minutes=15)

    def __init__(self, fetch: Fetch, point: str = POINT) -> None:
        self._fetch = fetch
        self._point = point

    def prices(self, zone: str, now: datetime) -> Fetched[Series[EnergyPrice]]:
        """Real time where it is past, day-ahead after it, in USD a MWh."""

        def parse(body: Body) -> Series[EnergyPrice]:
            with reading(f"{self.name} system-wide-prices.json"):
                return settlement(body.content, self._point, body.fetched_at)

        return self._fetch(Ask(url=_URL, fresh_for=self.refresh), parse)


def settlement(body: bytes, point: str, fetched_at: datetime) -> Series[EnergyPrice]:
    """`interval` is the end of the interval in milliseconds since 1970; the labels beside it repeat an hour on the long day."""
    document = json_of(body, f"{NAME} system-wide-prices.json")
    real_time = [_price(row, point, _QUARTER, Quality.MEASURED, fetched_at) for row in document["rtSppData"]]
    measured = [price for price in real_time if price is not None]
    latest = max((price.end for price in measured), default=None)
    day_ahead = [_price(row, point, _HOUR, Quality.FORECAST, fetched_at) for row in document.get("damSppData", [])]
    ahead = [price for price in day_ahead if price is not None and (latest is None or price.start >= latest)]
    return in_order([*measured, *ahead])


def _price(
    row: dict[str, object], point: str, length: timedelta, quality: Quality, fetched_at: datetime
) -> EnergyPrice | None:
    value = number(row[point])
    if value is None or row.get("interval") is None:
        return None
    end = epoch_ms(row["interval"])
    return EnergyPrice(
        zone=ZONE,
        start=end - length,
        end=end,
        value=Decimal(str(row[point])),
        currency="USD",
        source=f"{NAME} {point}",
        fetched_at=fetched_at,
        quality=quality,
    )
