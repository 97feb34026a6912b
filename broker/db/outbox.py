"""Usage that a meter outside is to be told, until it has been."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from broker.billing.usage_events import MeterKey, UsageMessage
from broker.db.schema import usage_outbox


class MessageState(StrEnum):
    DUE = "due"
    SENDING = "sending"
    """Tried; it may have arrived."""
    SENT = "sent"
    DEAD = "dead"
    """Refused, or nobody can tell whether it arrived: a person must look."""
    TOO_LATE = "too_late"
    """Older than the meter takes: it goes on an invoice by hand."""


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A message and how far it is. `first_try_at`: since when it may be there."""

    id: int
    message: UsageMessage
    state: MessageState
    tries: int
    first_try_at: datetime | None
    not_before: datetime | None
    error: str | None


def add(db: Connection, message: UsageMessage) -> None:
    """Write a message that must reach the meter. IntegrityError: that revision of the hour is there."""
    row = {
        "account": message.key.account,
        "meter": message.key.meter,
        "hour": message.key.hour,
        "revision": message.revision,
        "identifier": message.identifier,
        "value": message.value,
        "total_us": message.total_us,
        "sendable_at": message.key.sendable_at,
        "state": MessageState.DUE,
        "tries": 0,
    }
    db.execute(insert(usage_outbox).values(row))


def last(db: Connection, key: MeterKey) -> tuple[int, Fraction]:
    """The hour's last revision and what it amounts to with it; (-1, 0): nothing was written of it."""
    query = (
        select(usage_outbox.c.revision, usage_outbox.c.total_us)
        .where(
            usage_outbox.c.account == key.account, usage_outbox.c.meter == key.meter, usage_outbox.c.hour == key.hour
        )
        .order_by(usage_outbox.c.revision.desc())
        .limit(1)
    )
    row = db.execute(query).one_or_none()
    return (-1, Fraction(0)) if row is None else (row.revision, row.total_us)


def to_send(db: Connection, now: datetime, most: int = 500) -> list[Queued]:
    """What may be sent now, oldest first; of an hour only the revision before which nothing waits."""
    earlier = usage_outbox.alias()
    waits = (
        select(earlier.c.id)
        .where(
            earlier.c.account == usage_outbox.c.account,
            earlier.c.meter == usage_outbox.c.meter,
            earlier.c.hour == usage_outbox.c.hour,
            earlier.c.revision < usage_outbox.c.revision,
            earlier.c.state.in_([MessageState.DUE, MessageState.SENDING]),
        )
        .exists()
    )
    query = (
        select(usage_outbox)
        .where(
            usage_outbox.c.state.in_([MessageState.DUE, MessageState.SENDING]),
            usage_outbox.c.sendable_at <= now,
            or_(usage_outbox.c.not_before.is_(None), usage_outbox.c.not_before <= now),
            ~waits,
        )
        .order_by(usage_outbox.c.hour, usage_outbox.c.id)
        .limit(most)
    )
    return [_queued(row) for row in db.execute(query)]


def get(db: Connection, message_id: int) -> Queued:
    """As it is now, locked until the end of a transaction that writes."""
    return _queued(db.execute(select(usage_outbox).where(usage_outbox.c.id == message_id).with_for_update()).one())


def write(
    db: Connection,
    queued: Queued,
    state: MessageState,
    *,
    first_try_at: datetime | None,
    not_before: datetime | None = None,
    sent_at: datetime | None = None,
    error: str | None = None,
    tries: int | None = None,
) -> None:
    """How far the message is now."""
    row = {
        "state": state,
        "first_try_at": first_try_at,
        "not_before": not_before,
        "sent_at": sent_at,
        "error": error,
        "tries": queued.tries if tries is None else tries,
    }
    db.execute(update(usage_outbox).where(usage_outbox.c.id == queued.id).values(row))


def kill(db: Connection, identifier: str, error: str) -> bool:
    """The meter says afterwards that it did not take the message; False: there is none of that name."""
    done = db.execute(
        update(usage_outbox).where(usage_outbox.c.identifier == identifier).values(state=MessageState.DEAD, error=error)
    )
    return bool(done.rowcount)


def counts(db: Connection) -> dict[str, int]:
    """State → how many messages."""
    query = select(usage_outbox.c.state, func.count()).group_by(usage_outbox.c.state)
    return {row[0]: row[1] for row in db.execute(query)}


def stuck(db: Connection, most: int = 50) -> list[Queued]:
    """Messages for which a person must do something, newest first."""
    query = (
        select(usage_outbox)
        .where(usage_outbox.c.state.in_([MessageState.DEAD, MessageState.TOO_LATE]))
        .order_by(usage_outbox.c.id.desc())
        .limit(most)
    )
    return [_queued(row) for row in db.execute(query)]


def sums(
    db: Connection, low: datetime, high: datetime, states: Iterable[MessageState] | None = None
) -> dict[tuple[str, str], Decimal]:
    """(account, meter) → GPU-seconds of messages about the hours in [low, high); in some states, or in any."""
    query = select(usage_outbox.c.account, usage_outbox.c.meter, usage_outbox.c.value).where(
        usage_outbox.c.hour >= low, usage_outbox.c.hour < high
    )
    if states is not None:
        query = query.where(usage_outbox.c.state.in_(list(states)))
    found: dict[tuple[str, str], Decimal] = {}
    for account, meter, value in db.execute(query):
        found[account, meter] = found.get((account, meter), Decimal(0)) + value
    return found


def sent_of_hour(db: Connection, key: MeterKey) -> Decimal:
    """GPU-seconds of the hour that have surely arrived."""
    query = select(usage_outbox.c.value).where(
        usage_outbox.c.account == key.account,
        usage_outbox.c.meter == key.meter,
        usage_outbox.c.hour == key.hour,
        usage_outbox.c.state == MessageState.SENT,
    )
    return sum(db.execute(query).scalars(), Decimal(0))


def _queued(row: Row[Any]) -> Queued:
    return Queued(
        id=row.id,
        message=UsageMessage(
            key=MeterKey(account=row.account, meter=row.meter, hour=row.hour),
            revision=row.revision,
            identifier=row.identifier,
            value=row.value,
            total_us=row.total_us,
        ),
        state=MessageState(row.state),
        tries=row.tries,
        first_try_at=row.first_try_at,
        not_before=row.not_before,
        error=row.error,
    )
