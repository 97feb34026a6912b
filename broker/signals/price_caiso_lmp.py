"""Day-ahead hourly prices at CAISO's hubs, from OASIS (PRC_LMP)."""

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from broker.core.errors import SignalUnreadable
from broker.core.readings import EnergyPrice, Quality, Series, in_order
from broker.signals import oasis
from broker.signals.bodies import reading
from broker.signals.cache import Body
from broker.signals.fetch import Fetch, Fetched

ZONE = "US-CAL-CISO"
NAME = "caiso_lmp"
HUB = "TH_NP15_GEN-APND"
"""Northern California, where the data centres of the Bay Area are."""


class CaisoPrices:
    """Published about 13:00 in California for the next day."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(hours=1)
    lag = timedelta(0)

    def __init__(self, fetch: Fetch, hub: str = HUB) -> None:
        self._fetch = fetch
        self._hub = hub

    def prices(self, zone: str, now: datetime) -> Fetched[Series[EnergyPrice]]:
        """Yesterday to tomorrow, as far as it is published, in USD a MWh."""
        start = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)

        def parse(body: Body) -> Series[EnergyPrice]:
            with reading(f"{self.name} PRC_LMP"):
                return lmp(body.content, self._hub, body.fetched_at)

        ask = oasis.ask("PRC_LMP", "DAM", start, start + timedelta(days=3), self.refresh, node=self._hub)
        return self._fetch(ask, parse)


def lmp(body: bytes, hub: str, fetched_at: datetime) -> Series[EnergyPrice]:
    """The price itself (`LMP`), without its parts (MCC, MCE, MCL, MGHG), of one hub."""
    what = f"{NAME} PRC_LMP"
    found = []
    for start, end, row in oasis.rows(body, what, ["node", "lmp_type", "mw"]):
        if row["node"] == hub and row["lmp_type"] == "LMP" and row["mw"]:
            found.append(
                EnergyPrice(
                    zone=ZONE,
                    start=start,
                    end=end,
                    value=_money(row["mw"]),  # the column of the price is really called so
                    currency="USD",
                    source=f"{NAME} {hub}",
                    fetched_at=fetched_at,
                    quality=Quality.MEASURED,
                )
            )
    if not found:
        raise SignalUnreadable(f"{what}: no price for {hub}")
    return in_order(found)


def _money(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as exc:
        raise ValueError(f"{text[:20]} is no price") from exc
