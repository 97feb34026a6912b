"""The ledger of usage: append-only entries, and what each lease is counted by."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, insert, or_, select, update

from broker.billing.booking import Entry
from broker.billing.slices import Payer, Slice, SliceKind
from broker.core.usage import UsageKind
from broker.db.chunks import chunks
from broker.db.put import put
from broker.db.schema import billing_turn, invoiced_entries, metered_leases, usage_entries, usage_events


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a lease's usage is counted by, kept from its first metering on. `until`: metered up to there."""

    lease_id: str
    provider: str | None
    accelerator: str | None
    units: int
    granularity: timedelta
    until: datetime | None
    settled: bool


def take_turn(db: Connection) -> None:
    """Make this transaction the only one that writes usage, terms or invoices until it ends."""
    db.execute(update(billing_turn).values(turn=billing_turn.c.turn + 1))


def unsettled(db: Connection) -> list[str]:
    """Leases that were bought and are not metered to their end."""
    settled = select(metered_leases.c.lease_id).where(metered_leases.c.settled)
    query = select(usage_events.c.lease_id).where(
        usage_events.c.kind == UsageKind.START, usage_events.c.lease_id.not_in(settled)
    )
    return list(db.execute(query.order_by(usage_events.c.lease_id)).scalars())


def due(db: Connection, hour: datetime, again_since: datetime | None = None) -> list[str]:
    """The unsettled ones that have ended or are not metered up to `hour`; and those that ended since `again_since`.

    What changes within an hour of a machine that runs is seen when the hour is over: a look at all of it costs a
    month's rows for each machine.
    """
    ended = select(usage_events.c.lease_id).where(usage_events.c.kind == UsageKind.END)
    current = select(metered_leases.c.lease_id).where(
        metered_leases.c.settled | ((metered_leases.c.until >= hour) & metered_leases.c.lease_id.not_in(ended))
    )
    wanted: ColumnElement[bool] = usage_events.c.lease_id.not_in(current)
    if again_since is not None:
        lately = select(usage_events.c.lease_id).where(
            usage_events.c.kind == UsageKind.END, usage_events.c.not_after >= again_since
        )
        wanted = wanted | usage_events.c.lease_id.in_(lately)
    query = select(usage_events.c.lease_id).where(usage_events.c.kind == UsageKind.START, wanted)
    return list(db.execute(query.order_by(usage_events.c.lease_id)).scalars())


def counted(db: Connection, lease_ids: Iterable[str]) -> dict[str, Counted]:
    """Lease → what it is counted by; one that was never metered has no entry."""
    found = {}
    for some in chunks(lease_ids):
        for row in db.execute(select(metered_leases).where(metered_leases.c.lease_id.in_(some))):
            found[row.lease_id] = Counted(
                lease_id=row.lease_id,
                provider=row.provider,
                accelerator=row.accelerator,
                units=row.units,
                granularity=timedelta(seconds=row.granularity_s),
                until=row.until,
                settled=row.settled,
            )
    return found


def count_by(db: Connection, how: Counted) -> None:
    """Keep how the lease is counted, and how far it is metered."""
    row = {
        "lease_id": how.lease_id,
        "provider": how.provider,
        "accelerator": how.accelerator,
        "units": how.units,
        "granularity_s": int(how.granularity.total_seconds()),
        "until": how.until,
        "settled": how.settled,
    }
    put(db, metered_leases, row, replace=lambda new: metered_leases.c.lease_id == new.lease_id)


def add(db: Connection, entries: Iterable[Entry]) -> list[Entry]:
    """Append entries; they come back with their ids."""
    return [replace(entry, id=_insert(db, entry)) for entry in entries]


def of_leases(db: Connection, lease_ids: Iterable[str]) -> dict[str, list[Entry]]:
    """Lease → its entries, oldest first; a lease without any has no entry."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for some in chunks(lease_ids):
        for entry in _entries(db, select(usage_entries).where(usage_entries.c.lease_id.in_(some))):
            found[entry.lease_id].append(entry)
    return dict(found)


def not_invoiced(db: Connection, before: datetime, account: str | None = None) -> list[Entry]:
    """Accounts' entries up to `before` that no invoice has yet; of one account, or of all."""
    on_one = exists().where(invoiced_entries.c.entry_id == usage_entries.c.id)
    query = select(usage_entries).where(
        usage_entries.c.ended_at <= before, usage_entries.c.account.is_not(None), ~on_one
    )
    if account is not None:
        query = query.where(usage_entries.c.account == account)
    return _entries(db, query)


def nobodys(db: Connection, low: datetime, high: datetime) -> list[Entry]:
    """Entries of [low, high) that stay the site's own cost."""
    query = select(usage_entries).where(
        usage_entries.c.account.is_(None), usage_entries.c.began_at >= low, usage_entries.c.ended_at <= high
    )
    return _entries(db, query)


def within(db: Connection, low: datetime, high: datetime) -> list[Entry]:
    """Accounts' entries of [low, high), reversals too."""
    query = select(usage_entries).where(
        usage_entries.c.account.is_not(None), usage_entries.c.began_at >= low, usage_entries.c.ended_at <= high
    )
    return _entries(db, query)


def lagging(db: Connection, before: datetime) -> list[str]:
    """Leases that used time before `before` and are not metered up to there."""
    done = select(metered_leases.c.lease_id).where(or_(metered_leases.c.settled, metered_leases.c.until >= before))
    query = select(usage_events.c.lease_id).where(
        usage_events.c.kind == UsageKind.START,
        usage_events.c.not_after < before,
        usage_events.c.lease_id.not_in(done),
    )
    return list(db.execute(query.order_by(usage_events.c.lease_id)).scalars())


def _insert(db: Connection, entry: Entry) -> int:
    piece = entry.slice
    row = {
        "lease_id": entry.lease_id,
        "kind": piece.kind,
        "job_id": piece.payer.job_id,
        "user": piece.payer.user,
        "account": piece.payer.account,
        "began_at": piece.began_at,
        "ended_at": piece.ended_at,
        "part": piece.part,
        "parts": piece.parts,
        "provider": entry.provider,
        "accelerator": entry.accelerator,
        "units": entry.units,
        "price_per_hour": entry.price_per_hour,
        "currency": entry.currency,
        "reason": entry.reason,
        "written_at": entry.written_at,
        "reverses": entry.reverses,
    }
    key = db.execute(insert(usage_entries).values(row)).inserted_primary_key
    assert key is not None  # noqa: S101  # an insert of one row always has one
    return int(key[0])


def _entries(db: Connection, query: Select[Any]) -> list[Entry]:
    return [_entry(row) for row in db.execute(query.order_by(usage_entries.c.id))]


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        id=row.id,
        lease_id=row.lease_id,
        slice=Slice(
            kind=SliceKind(row.kind),
            payer=Payer(job_id=row.job_id, user=row.user, account=row.account),
            began_at=row.began_at,
            ended_at=row.ended_at,
            part=row.part,
            parts=row.parts,
        ),
        provider=row.provider,
        accelerator=row.accelerator,
        units=row.units,
        price_per_hour=row.price_per_hour,
        currency=row.currency,
        reason=row.reason,
        written_at=row.written_at,
        reverses=row.reverses,
    )
