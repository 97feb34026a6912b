"""Metered time: when billing of a lease's instance began and ended, each as bounds."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select

from broker.core.usage import UsageEvent, UsageKind
from broker.db.chunks import chunks
from broker.db.put import put
from broker.db.schema import usage_events


def record(db: Connection, event: UsageEvent) -> None:
    """Write an end of a usage once; a second record of the same end is ignored, since the first one saw it happen."""
    put(
        db,
        usage_events,
        {
            "lease_id": event.lease_id,
            "kind": event.kind,
            "not_before": event.not_before,
            "not_after": event.not_after,
            "price_per_hour": event.price_per_hour,
            "currency": event.currency,
        },
    )


def of_lease(db: Connection, lease_id: str) -> dict[UsageKind, UsageEvent]:
    """The ends known so far."""
    query = select(usage_events).where(usage_events.c.lease_id == lease_id)
    return {UsageKind(row.kind): _event(row) for row in db.execute(query)}


def of_leases(db: Connection, lease_ids: Iterable[str]) -> dict[str, dict[UsageKind, UsageEvent]]:
    """Lease → the ends known so far; a lease without any has no entry."""
    found: dict[str, dict[UsageKind, UsageEvent]] = defaultdict(dict)
    for some in chunks(lease_ids):
        for row in db.execute(select(usage_events).where(usage_events.c.lease_id.in_(some))):
            found[row.lease_id][UsageKind(row.kind)] = _event(row)
    return dict(found)


def _event(row: Row[Any]) -> UsageEvent:
    return UsageEvent(
        lease_id=row.lease_id,
        kind=UsageKind(row.kind),
        not_before=row.not_before,
        not_after=row.not_after,
        price_per_hour=row.price_per_hour,
        currency=row.currency,
    )
