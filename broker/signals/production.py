"""From what a zone generates to its average intensity, for the sources that tell a mix and no CO2."""

from collections.abc import Iterable
from datetime import datetime

from broker.core.readings import AverageIntensity, Boundary, Quality, Series, in_order
from broker.signals.factors import Factors
from broker.signals.mix import Mix, intensity


def series_of(
    mixes: Iterable[Mix], *, zone: str, source: str, factors: Factors, fetched_at: datetime
) -> Series[AverageIntensity]:
    """Intensity of each step in which anything is supplied. With imports unknown, what is made stands for what is used."""
    found = [(mix, intensity(mix, factors.grams_per_kwh)) for mix in mixes]
    return in_order(
        [
            AverageIntensity(
                zone=zone,
                start=mix.start,
                end=mix.end,
                value=value,
                scope=factors.scope,
                boundary=Boundary.PRODUCTION,
                source=source,
                fetched_at=fetched_at,
                quality=Quality.PROVISIONAL,
            )
            for mix, value in found
            if value is not None
        ]
    )
