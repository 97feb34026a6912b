"""Generation by fuel, and what it emits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Fuel(StrEnum):
    COAL = "coal"
    GAS = "gas"
    OIL = "oil"
    BIOMASS = "biomass"
    GEOTHERMAL = "geothermal"
    HYDRO = "hydro"
    NUCLEAR = "nuclear"
    WIND = "wind"
    SOLAR = "solar"
    OTHER = "other"
    STORAGE = "storage"
    """Batteries and pumped storage. Above nought: discharge; below: charge."""
    IMPORTS = "imports"
    """Power from other zones. Below nought: exports."""


_MAY_BE_WITHOUT = frozenset({Fuel.STORAGE, Fuel.IMPORTS})


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Mean power of each fuel over [`start`, `end`), in MW, as the source says it: below nought where it says so."""

    start: datetime
    end: datetime
    megawatts: Mapping[Fuel, float]

    @property
    def supply_mw(self) -> float:
        """What is generated, discharged and imported; what is below nought is left out, as in `tonnes_per_hour`."""
        return sum(mw for mw in self.megawatts.values() if mw > 0)


def intensity(mix: Mix, grams_per_kwh: Mapping[Fuel, float]) -> float | None:
    """Average g/kWh of what is generated, discharged and imported; None: nothing is. KeyError: a fuel has no factor.

    What is below nought is neither generated nor credited: solar at night is the plants' own use, charging is counted
    where the power was made, exports by whoever uses them. Storage and imports without a factor count at the average of
    the rest.
    """
    counted = {
        fuel: mw
        for fuel, mw in mix.megawatts.items()
        if mw > 0 and (fuel in grams_per_kwh or fuel not in _MAY_BE_WITHOUT)
    }
    total = sum(counted.values())
    return sum(mw * grams_per_kwh[fuel] for fuel, mw in counted.items()) / total if total > 0 else None


def tonnes_per_hour(mix: Mix, grams_per_kwh: Mapping[Fuel, float]) -> float:
    """Emissions of the whole supply. KeyError: a fuel has no factor."""
    return (intensity(mix, grams_per_kwh) or 0.0) * mix.supply_mw / 1000
