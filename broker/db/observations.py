"""History of the offers: append-only, changes only. `folding.py` is the one place that takes rows away again."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from broker.core.observations import Look, Observation, Seen, Sku, Source
from broker.core.offers import Offer
from broker.db.chunks import chunks
from broker.db.schema import offer_observations, offer_readings, offer_series

_OUTCOMES = (Source.CREATE_ACCEPTED, Source.CREATE_REFUSED)


def append(db: Connection, seen: Sequence[Observation]) -> None:
    """Write observations down, in the order given."""
    if not seen:
        return
    numbers = _series(db, {observation.offer.id: observation.offer for observation in seen})
    rows = [
        {
            "series_id": numbers[observation.offer.id],
            "at": observation.at,
            "price_per_hour": observation.offer.price_per_hour,
            "available": observation.available,
            "source": observation.source,
        }
        for observation in seen
    ]
    db.execute(insert(offer_observations), rows)


def append_look(db: Connection, look: Look) -> None:
    db.execute(insert(offer_readings), {name: getattr(look, name) for name in _LOOK})


def last_look(db: Connection, provider: str, believed: bool = True) -> Look | None:
    """The newest that was written down: with `believed`, the newest of those."""
    query = select(offer_readings).where(offer_readings.c.provider == provider)
    if believed:
        query = query.where(offer_readings.c.believed)
    row = db.execute(query.order_by(offer_readings.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else Look(**{name: getattr(row, name) for name in _LOOK})


def doubted_since(db: Connection, provider: str, after: datetime | None) -> list[datetime]:
    """When readings were not believed, oldest first, since the last believed one at `after`."""
    query = select(offer_readings.c.at).where(
        offer_readings.c.provider == provider, offer_readings.c.believed.is_(False)
    )
    if after is not None:
        query = query.where(offer_readings.c.at > after)
    return list(db.execute(query.order_by(offer_readings.c.at)).scalars())


def history(db: Connection, since: datetime, provider: str | None = None) -> list[Seen]:
    """What was seen since then, oldest first; of one credential or of all."""
    query = _SEEN.where(offer_observations.c.at >= since)
    if provider is not None:
        query = query.where(offer_series.c.provider == provider)
    return _seen(db, query)


def outcomes(db: Connection, since: datetime) -> list[Seen]:
    """What came of purchases since then, oldest first."""
    return _seen(db, _SEEN.where(offer_observations.c.at >= since, offer_observations.c.source.in_(_OUTCOMES)))


def looks(db: Connection, provider: str, since: datetime) -> list[tuple[datetime, int]]:
    """(when, how many looks it stands for) of the credential's readings that were believed, oldest first."""
    query = select(offer_readings.c.at, offer_readings.c.polls).where(
        offer_readings.c.provider == provider, offer_readings.c.at >= since, offer_readings.c.believed
    )
    return [(row.at, row.polls) for row in db.execute(query.order_by(offer_readings.c.at))]


_LOOK = ("provider", "at", "polls", "rows", "changes", "believed", "note", "left_out")
_SEEN = (
    select(
        offer_series.c.provider,
        offer_series.c.instance_type,
        offer_series.c.zone,
        offer_series.c.capacity_type,
        offer_series.c.offer_id,
        offer_observations.c.at,
        offer_observations.c.price_per_hour,
        offer_observations.c.available,
        offer_observations.c.source,
    )
    .join(offer_series, offer_series.c.id == offer_observations.c.series_id)
    .order_by(offer_observations.c.id)
)


def _seen(db: Connection, query: Any) -> list[Seen]:
    return [
        Seen(
            offer_id=row.offer_id,
            sku=Sku(
                provider=row.provider,
                instance_type=row.instance_type,
                zone=row.zone,
                capacity_type=row.capacity_type,
            ),
            at=row.at,
            price_per_hour=row.price_per_hour,
            available=row.available,
            source=Source(row.source),
        )
        for row in db.execute(query)
    ]


def _series(db: Connection, wanted: dict[str, Offer]) -> dict[str, int]:
    """Offer id → number of its series; what is new gets one."""
    numbers = _numbers(db, wanted)
    if new := [offer for offer_id, offer in wanted.items() if offer_id not in numbers]:
        make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        # Another worker may write the first observation of the same offer now.
        statement = make(offer_series).on_conflict_do_nothing(index_elements=[offer_series.c.offer_id])
        db.execute(statement, [_series_row(offer) for offer in new])
        numbers |= _numbers(db, (offer.id for offer in new))
    return numbers


def _numbers(db: Connection, offer_ids: Iterable[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for some in chunks(offer_ids):
        query = select(offer_series.c.offer_id, offer_series.c.id).where(offer_series.c.offer_id.in_(some))
        numbers |= {row.offer_id: row.id for row in db.execute(query)}
    return numbers


def _series_row(offer: Offer) -> dict[str, Any]:
    return {
        "provider": offer.provider,
        "offer_id": offer.id,
        "instance_type": offer.instance_type,
        "zone": offer.zone,
        "capacity_type": offer.capacity_type,
        "accelerator": offer.hardware.accelerator,
        "accelerator_count": offer.hardware.accelerator_count,
        "currency": offer.currency,
    }
