"""How often a credential's offers are read. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from broker.core.offers import Offer
from broker.placement.chances import Model

Kind = tuple[str | None, int]
"""GPU model and count: what a shape asks for."""

# Reading is one call. Seconds too few: calls that buying and booting need, on credentials with one a second. Too many:
# what flickers is gone before it is bought.
_FLICKERS_S, _WAITED_FOR_S, _IDLE_S = 15.0, 30.0, 120.0
_SHORT_LIVED_S = 900.0


def kind_of(offer: Offer) -> Kind:
    return offer.hardware.accelerator, offer.hardware.accelerator_count


def flickering(offers: Iterable[Offer], model: Model, now: datetime) -> Mapping[Kind, bool]:
    """Kind → whether all that can be had of it is soon gone, or nothing can be had."""
    steady: dict[Kind, bool] = {}
    for offer in offers:
        kind = kind_of(offer)
        if not steady.get(kind):
            steady[kind] = offer.available and model.chance(offer, now).half_life_s > _SHORT_LIVED_S
    return {kind: not lasts for kind, lasts in steady.items()}


def interval_s(wanted: Iterable[Kind], flickers: Mapping[Kind, bool], *, doubted: bool = False) -> float:
    """Seconds between two readings of a credential that sells these kinds, while jobs wait for `wanted`.

    `doubted`: its newest list was not believed, and is looked at again.
    """
    sold = [flickers[kind] for kind in wanted if kind in flickers]
    if not sold:
        return _WAITED_FOR_S if doubted else _IDLE_S
    return _FLICKERS_S if any(sold) else _WAITED_FOR_S
