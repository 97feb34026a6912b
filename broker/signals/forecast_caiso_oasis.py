"""CAISO OASIS: hourly day-ahead forecasts of demand (SLD_FCST) and of wind and solar power (SLD_REN_FCST)."""

from datetime import datetime, timedelta

from broker.core.errors import SignalUnreadable
from broker.signals import oasis
from broker.signals.bodies import number, reading
from broker.signals.cache import Body
from broker.signals.fetch import Fetch, Fetched
from broker.signals.net_load import NetLoad

ZONE = "US-CAL-CISO"
NAME = "caiso_oasis"
_HUBS = frozenset({"NP15", "SP15", "ZP26"})
_KINDS = frozenset({"Solar", "Wind"})
_SYSTEM = "CA ISO-TAC"


class CaisoOasis:
    """Day-ahead, published at 07:00 (wind and solar) and 09:10 (demand) in California."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(hours=1)
    lag = timedelta(hours=1)

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def outlook(self, zone: str, now: datetime) -> Fetched[list[NetLoad]]:
        """Today and tomorrow, hour by hour, for the hours that both forecasts have."""
        start = now.replace(hour=0, minute=0, second=0, microsecond=0)
        span = (start, start + timedelta(days=3))

        def load(body: Body) -> dict[tuple[datetime, datetime], float]:
            with reading(f"{self.name} SLD_FCST"):
                return demand(body.content)

        def wind_and_solar(body: Body) -> dict[tuple[datetime, datetime], float]:
            with reading(f"{self.name} SLD_REN_FCST"):
                return renewables(body.content)

        demands = self._fetch(oasis.ask("SLD_FCST", "DAM", *span, self.refresh), load)
        supply = self._fetch(oasis.ask("SLD_REN_FCST", "DAM", *span, self.refresh), wind_and_solar)
        return Fetched(
            [
                NetLoad(
                    start=hour[0],
                    end=hour[1],
                    load_mw=demands.value[hour],
                    net_load_mw=demands.value[hour] - supply.value[hour],
                    is_forecast=True,
                )
                for hour in sorted(demands.value.keys() & supply.value.keys())
            ],
            min(demands.fetched_at, supply.fetched_at),
            demands.trouble or supply.trouble,
        )


def demand(body: bytes) -> dict[tuple[datetime, datetime], float]:
    """(start, end) → MW forecast for the whole system."""
    what = f"{NAME} SLD_FCST"
    found = {}
    for start, end, row in oasis.rows(body, what, ["tac_area_name", "mw"]):
        value = number(row["mw"])
        if row["tac_area_name"] == _SYSTEM and value is not None:
            found[start, end] = value
    if not found:
        raise SignalUnreadable(f"{what}: no row for {_SYSTEM}")
    return found


def renewables(body: bytes) -> dict[tuple[datetime, datetime], float]:
    """(start, end) → MW of wind and solar forecast in the three hubs together; hours that lack one of them are left out."""
    what = f"{NAME} SLD_REN_FCST"
    parts: dict[tuple[datetime, datetime], dict[tuple[str, str], float]] = {}
    seen = set()
    for start, end, row in oasis.rows(body, what, ["trading_hub", "renewable_type", "mw"]):
        part = (row["trading_hub"], row["renewable_type"])
        value = number(row["mw"])
        if part[0] in _HUBS and part[1] in _KINDS and value is not None:
            parts.setdefault((start, end), {})[part] = value
            seen.add(part)
    if {kind for _, kind in seen} != _KINDS:
        raise SignalUnreadable(f"{what}: wind or solar is not in it")
    return {hour: sum(values.values()) for hour, values in sorted(parts.items()) if values.keys() == seen}
