"""What we made at Stripe, what it said of it, and which of its webhooks were taken."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from broker.db.put import put
from broker.db.schema import stripe_events, stripe_objects, stripe_states


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Something that is to be at Stripe once. `stripe_id` None: it may be there, or not."""

    kind: str
    name: str
    stripe_id: str | None
    idempotency_key: str
    tries: int
    intended_at: datetime


@dataclass(frozen=True, kw_only=True)
class Said:
    """What Stripe last said of an object. `said_at`: by its own clock."""

    stripe_id: str
    kind: str
    status: str
    detail: Mapping[str, Any]
    said_at: datetime


def wish(db: Connection, kind: str, name: str) -> Wish | None:
    """As it was written; None: nobody wished for it."""
    query = select(stripe_objects).where(stripe_objects.c.kind == kind, stripe_objects.c.name == name)
    row = db.execute(query).one_or_none()
    if row is None:
        return None
    return Wish(
        kind=row.kind,
        name=row.name,
        stripe_id=row.stripe_id,
        idempotency_key=row.idempotency_key,
        tries=row.tries,
        intended_at=row.intended_at,
    )


def intend(db: Connection, kind: str, name: str, idempotency_key: str, tries: int, now: datetime) -> None:
    """Write the wish before the call; a wish that has its id already stays as it is."""
    row = {
        "kind": kind,
        "name": name,
        "stripe_id": None,
        "idempotency_key": idempotency_key,
        "tries": tries,
        "intended_at": now,
        "made_at": None,
    }
    put(
        db,
        stripe_objects,
        row,
        replace=lambda new: stripe_objects.c.stripe_id.is_(None) & (stripe_objects.c.tries < new.tries),
    )


def made(db: Connection, kind: str, name: str, stripe_id: str, now: datetime) -> None:
    """It is there; the first id that was written stays."""
    db.execute(
        update(stripe_objects)
        .where(stripe_objects.c.kind == kind, stripe_objects.c.name == name, stripe_objects.c.stripe_id.is_(None))
        .values(stripe_id=stripe_id, made_at=now)
    )


def name_of(db: Connection, kind: str, stripe_id: str) -> str | None:
    """Our name of an object of Stripe's; None: it is not ours."""
    query = select(stripe_objects.c.name).where(stripe_objects.c.kind == kind, stripe_objects.c.stripe_id == stripe_id)
    name: str | None = db.execute(query).scalar()
    return name


def ids(db: Connection, kind: str) -> dict[str, str]:
    """Our name → Stripe's id, of what is there."""
    query = select(stripe_objects.c.name, stripe_objects.c.stripe_id).where(
        stripe_objects.c.kind == kind, stripe_objects.c.stripe_id.is_not(None)
    )
    return {row[0]: row[1] for row in db.execute(query)}


def said(db: Connection, stripe_id: str) -> Said | None:
    """The last word on the object; None: there was none."""
    row = db.execute(select(stripe_states).where(stripe_states.c.stripe_id == stripe_id)).one_or_none()
    return None if row is None else _said(row)


def all_said(db: Connection, kind: str) -> dict[str, Said]:
    """Stripe's id → the last word on it."""
    query = select(stripe_states).where(stripe_states.c.kind == kind)
    return {row.stripe_id: _said(row) for row in db.execute(query)}


def say(db: Connection, word: Said, now: datetime) -> None:
    """Keep a newer word on the object."""
    row = {
        "stripe_id": word.stripe_id,
        "kind": word.kind,
        "status": word.status,
        "detail": dict(word.detail),
        "said_at": word.said_at,
        "written_at": now,
    }
    put(db, stripe_states, row, replace=lambda new: stripe_states.c.said_at <= new.said_at)


def has_event(db: Connection, event_id: str) -> bool:
    """Whether the webhook was taken before."""
    return db.execute(select(stripe_events.c.id).where(stripe_events.c.id == event_id)).first() is not None


def take_event(db: Connection, event_id: str, kind: str, created: datetime, now: datetime, to_fetch: bool) -> None:
    """Keep that the webhook was taken. IntegrityError: another took it at the same time."""
    row = {"id": event_id, "kind": kind, "created": created, "received_at": now, "to_fetch": to_fetch}
    db.execute(insert(stripe_events).values(row))


def events_to_fetch(db: Connection) -> list[str]:
    """Webhooks that only named what is to be read."""
    query = select(stripe_events.c.id).where(stripe_events.c.to_fetch).order_by(stripe_events.c.received_at)
    return list(db.execute(query).scalars())


def fetched(db: Connection, event_id: str) -> None:
    db.execute(update(stripe_events).where(stripe_events.c.id == event_id).values(to_fetch=False))


def _said(row: Row[Any]) -> Said:
    return Said(stripe_id=row.stripe_id, kind=row.kind, status=row.status, detail=row.detail, said_at=row.said_at)
