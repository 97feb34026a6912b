"""ISO New England's `genfuelmix`: power by fuel at irregular moments. The body only: its service wants a login, EIA-930 none."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from broker.core.errors import SignalUnreadable
from broker.signals.bodies import json_of, number
from broker.signals.mix import Fuel, Mix

ZONE = "US-NE-ISNE"
NAME = "isone_genfuelmix"
_LONGEST = timedelta(minutes=30)
"""A value holds until the next one, but not longer: then something is missing."""

_FUELS = {
    "Coal": Fuel.COAL,
    "Hydro": Fuel.HYDRO,
    "Landfill Gas": Fuel.BIOMASS,
    "Natural Gas": Fuel.GAS,
    "Nuclear": Fuel.NUCLEAR,
    "Oil": Fuel.OIL,
    "Other": Fuel.OTHER,
    "Refuse": Fuel.OTHER,
    "Solar": Fuel.SOLAR,
    "Storage": Fuel.STORAGE,
    "Wind": Fuel.WIND,
    "Wood": Fuel.BIOMASS,
}


def fuel_mix(body: bytes) -> list[Mix]:
    """One mix from each stamp to the next. Stamps carry their offset: both of the long day's stand in one file, so that only
    the instant orders them.
    """
    what = f"{NAME}"
    moments: dict[datetime, dict[Fuel, float]] = {}
    for row in json_of(body, what)["GenFuelMixes"]["GenFuelMix"]:
        name = str(row["FuelCategory"])
        if name not in _FUELS:
            raise SignalUnreadable(f"{what}: a fuel we do not know: {name[:40]}")
        at = datetime.fromisoformat(str(row["BeginDate"]))
        if at.tzinfo is None:
            raise SignalUnreadable(f"{what}: {row['BeginDate']} has no offset")
        value = number(row["GenMw"])
        if value is not None:
            megawatts = moments.setdefault(at.astimezone(UTC), {})
            megawatts[_FUELS[name]] = megawatts.get(_FUELS[name], 0.0) + value
    stamps = sorted(moments)
    return [Mix(start=at, end=until, megawatts=moments[at]) for at, until in pairwise(stamps) if until - at <= _LONGEST]
