"""Which readings of a credential's offers are believed, and what they change. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from broker.core.observations import Observation, Source
from broker.core.offers import Offer, Reading

# A list that lost more than half at once was wrong more often than the market was empty: an empty answer of Lambda's once
# wiped a public catalogue. Smaller: a sell-out is doubted for minutes. Larger: half a catalogue vanishes unasked.
_KEPT = 0.5
_TIMES = 3
# What an incomplete list does not show may be there or gone. Longer: the dead are bought. Shorter: the living are not.
_UNSEEN = timedelta(minutes=30)
_LASTING = timedelta(minutes=2)


def doubt(before: Iterable[Offer], reading: Reading, doubted: Sequence[datetime], now: datetime) -> str | None:
    """Why this reading is not believed yet; None: it is. `doubted`: when the readings since the last good one came.

    What is sold out is no loss: what counts is what is named at all.
    """
    had, has = {_named(offer) for offer in before}, {_named(offer) for offer in reading.offers}
    kept = len(had & has)
    if not had or not reading.complete or kept >= _KEPT * len(had):
        return None
    if len(doubted) + 1 >= _TIMES and now - doubted[0] >= _LASTING:
        return None
    minutes = _LASTING.seconds // 60
    return (
        f"it names {kept} of the {len(had)} machines or kinds of machines that the last good one named: not believed before it "
        f"is seen {_TIMES} times in a row over {minutes} minutes; the offers stay as they were"
    )


def with_the_unseen(before: Mapping[str, Offer], reading: Reading, now: datetime) -> dict[str, Offer]:
    """The reading's offers by id; where there was more than it showed, what it did not show stays for a while."""
    seen = {offer.id: offer for offer in reading.offers}
    if reading.complete:
        return seen
    unseen = {offer_id: offer for offer_id, offer in before.items() if now - offer.observed_at < _UNSEEN}
    return unseen | seen


def changes(before: Mapping[str, Offer], seen: Mapping[str, Offer], now: datetime) -> list[Observation]:
    """What a believed reading showed to be otherwise: new offers, other prices, come, gone."""
    found = [
        Observation(offer=offer, available=offer.available, at=offer.observed_at, source=Source.LISTING)
        for offer_id, offer in seen.items()
        if _differs(before.get(offer_id), offer)
    ]
    found += [
        Observation(offer=offer, available=False, at=now, source=Source.LISTING)
        for offer_id, offer in before.items()
        if offer_id not in seen and offer.available
    ]
    return found


def _differs(before: Offer | None, offer: Offer) -> bool:
    return before is None or (before.available, before.price_per_hour) != (offer.available, offer.price_per_hour)


def _named(offer: Offer) -> tuple[str, str, str | None]:
    return offer.instance_type, offer.capacity_type, offer.machine
