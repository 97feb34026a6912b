"""The purchase ledger: leases, their moves and their history."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, or_, select, update

from broker.core.errors import IllegalMove, NotFound, StaleLease
from broker.core.leases import HOLDS_NODE, LIVING, MOVES, Lease, LeaseEvent, LeaseState
from broker.core.offers import CapacityType
from broker.db.chunks import chunks
from broker.db.engine import is_reading
from broker.db.schema import lease_events, leases

_COLUMNS = [column.name for column in leases.c]
# Built once: it is read at every step of every lease.
_BY_ID = select(leases).where(leases.c.id == bindparam("wanted"))
_BY_ID_TO_WRITE = _BY_ID.with_for_update()


def add(db: Connection, lease: Lease, reason: str, now: datetime) -> None:
    """Write a new lease with its first event. IntegrityError: another lease holds the node name."""
    db.execute(insert(leases), asdict(lease))
    note(db, lease, reason, now, was=None)


def move(db: Connection, lease: Lease, to: LeaseState, reason: str, now: datetime, **changes: Any) -> Lease:
    """Move `lease` on, with its event and `changes` of its fields, in the caller's transaction.

    StaleLease: another worker was first. IllegalMove: the table of moves does not have this step.
    """
    if to not in MOVES[lease.state]:
        raise IllegalMove(f"lease {lease.id}: {lease.state} -> {to}")
    # A released lease keeps why it was released: that the provider confirmed it stands in its history.
    kept = lease.reason if lease.state is LeaseState.RELEASING else reason
    moved = replace(lease, state=to, state_since=now, reason=kept, version=lease.version + 1, **changes)
    _write(db, lease, moved)
    note(db, moved, reason, now, was=lease.state)
    return moved


def amend(db: Connection, lease: Lease, said: str | None, now: datetime, **changes: Any) -> Lease:
    """Change fields of `lease` without a move; with an event when something is `said`. StaleLease as in `move`."""
    amended = replace(lease, version=lease.version + 1, **changes)
    _write(db, lease, amended)
    if said is not None:
        note(db, amended, said, now, was=lease.state)
    return amended


def note(db: Connection, lease: Lease, reason: str, now: datetime, *, was: LeaseState | None) -> None:
    """Add a line to the lease's history."""
    db.execute(
        insert(lease_events), {"lease_id": lease.id, "was": was, "became": lease.state, "reason": reason, "at": now}
    )


def put_back(db: Connection, lease: Lease, reason: str, now: datetime) -> None:
    """Write `lease` as a restore found it, past the table of moves: nobody else may, and no daemon works meanwhile."""
    was = db.execute(select(leases.c.state).where(leases.c.id == lease.id)).scalar()
    if was is None:
        db.execute(insert(leases).values(asdict(lease)))
    else:
        db.execute(update(leases).where(leases.c.id == lease.id).values(asdict(lease)))
    note(db, lease, reason, now, was=LeaseState(was) if was else None)


def get(db: Connection, lease_id: str) -> Lease:
    """The lease, locked until its end in a transaction that writes. NotFound: no such lease."""
    row = db.execute(_BY_ID if is_reading(db) else _BY_ID_TO_WRITE, {"wanted": lease_id}).one_or_none()
    if row is None:
        raise NotFound(f"no lease {lease_id}; `broker lease list --all` shows every one")
    return _lease(row)


def in_states(db: Connection, states: Iterable[LeaseState]) -> list[Lease]:
    """Leases in one of `states`, oldest first."""
    query = (
        select(leases)
        .where(leases.c.state.in_(list(states)))
        .order_by(leases.c.created_at, leases.c.requested_at, leases.c.attempt, leases.c.node, leases.c.id)
    )
    return [_lease(row) for row in db.execute(query)]


def due(db: Connection, states: Iterable[LeaseState], now: datetime, *, allotted: bool | None = None) -> list[str]:
    """Ids of the leases in one of `states` that need not wait (any longer), oldest first.

    `allotted`: only those that have an offer, or that have none. Asked at each pass of an activity: no more is read.
    """
    query = (
        select(leases.c.id)
        .where(leases.c.state.in_(list(states)), or_(leases.c.not_before.is_(None), leases.c.not_before <= now))
        .order_by(leases.c.created_at, leases.c.requested_at, leases.c.attempt, leases.c.node, leases.c.id)
    )
    if allotted is not None:
        query = query.where(leases.c.offer_id.is_not(None) if allotted else leases.c.offer_id.is_(None))
    return list(db.execute(query).scalars())


def living(db: Connection) -> list[Lease]:
    """Every lease that may still cost money, oldest first."""
    return in_states(db, LIVING)


def all_leases(db: Connection) -> list[Lease]:
    """The whole ledger, oldest first."""
    return in_states(db, LeaseState)


def to_hand_back(db: Connection) -> list[Lease]:
    """Ended leases whose node Slurm must take back, and whose job must be told when to try again."""
    query = select(leases).where(leases.c.state == LeaseState.RELEASED, leases.c.not_before.is_not(None))
    return [_lease(row) for row in db.execute(query)]


def unserved_shapes(db: Connection, since: datetime) -> set[str]:
    """The shapes of nodes that wait for a machine, or were given up for want of one since then."""
    waiting = select(leases.c.shape).where(leases.c.state == LeaseState.REQUESTED)
    given_up = select(leases.c.shape).where(
        leases.c.state_since >= since, leases.c.state == LeaseState.RELEASED, leases.c.label.is_(None)
    )
    return set(db.execute(waiting.union(given_up)).scalars())


def holding(db: Connection, node: str) -> Lease | None:
    """The lease that holds the node name now, locked as by `get`."""
    query = _to_write(db, select(leases).where(leases.c.node == node, leases.c.state.in_(list(HOLDS_NODE))))
    row = db.execute(query).one_or_none()
    if row is None and not is_reading(db):
        # The name may have passed on while we waited for the lock of its last holder: only a second look sees the next.
        row = db.execute(query).one_or_none()
    return _lease(row) if row is not None else None


def holders(db: Connection, nodes: Iterable[str]) -> dict[str, Lease]:
    """Node → the lease that holds its name now; a name that nobody holds has no entry."""
    found = {}
    for some in chunks(nodes):
        query = select(leases).where(leases.c.node.in_(some), leases.c.state.in_(list(HOLDS_NODE)))
        found.update({row.node: _lease(row) for row in db.execute(query)})
    return found


def of_node(db: Connection, node: str) -> list[Lease]:
    """Every lease the node name ever had, oldest first."""
    query = (
        select(leases)
        .where(leases.c.node == node)
        .order_by(leases.c.created_at, leases.c.requested_at, leases.c.attempt, leases.c.id)
    )
    return [_lease(row) for row in db.execute(query)]


def of_request(db: Connection, request_id: str, node: str) -> list[Lease]:
    """The attempts behind one call of ResumeProgram for one node, first to last."""
    query = select(leases).where(leases.c.request_id == request_id, leases.c.node == node).order_by(leases.c.attempt)
    return [_lease(row) for row in db.execute(query)]


def of_requests(db: Connection, request_ids: Iterable[str]) -> list[Lease]:
    """Every attempt behind these calls of ResumeProgram, first to last."""
    wanted = sorted(request_ids)
    query = select(leases).where(leases.c.request_id.in_(wanted)).order_by(leases.c.attempt, leases.c.id)
    return [_lease(row) for row in db.execute(query)] if wanted else []


def of_job(db: Connection, job_id: int) -> list[Lease]:
    """The leases that were asked for by this job, oldest first."""
    query = (
        select(leases)
        .where(leases.c.job_id == job_id)
        .order_by(leases.c.created_at, leases.c.requested_at, leases.c.attempt, leases.c.id)
    )
    return [_lease(row) for row in db.execute(query)]


def by_ids(db: Connection, lease_ids: Iterable[str]) -> list[Lease]:
    """The leases with these ids; unknown ones are left out."""
    return [
        _lease(row) for some in chunks(lease_ids) for row in db.execute(select(leases).where(leases.c.id.in_(some)))
    ]


def events(db: Connection, lease_id: str) -> list[LeaseEvent]:
    """The lease's history, oldest first."""
    return histories(db, [lease_id])[lease_id]


def histories(db: Connection, lease_ids: Iterable[str]) -> dict[str, list[LeaseEvent]]:
    """Lease → its history, oldest first."""
    found: dict[str, list[LeaseEvent]] = defaultdict(list)
    for some in chunks(lease_ids):
        query = select(lease_events).where(lease_events.c.lease_id.in_(some)).order_by(lease_events.c.id)
        for row in db.execute(query):
            event = LeaseEvent(
                lease_id=row.lease_id,
                was=LeaseState(row.was) if row.was else None,
                became=LeaseState(row.became),
                reason=row.reason,
                at=row.at,
            )
            found[row.lease_id].append(event)
    return found


def any_at_all(db: Connection) -> bool:
    """Whether the ledger ever had a lease."""
    return db.execute(select(leases.c.id).limit(1)).scalar() is not None


def launched_at(db: Connection, lease: Lease) -> datetime:
    """When the intent to buy was written: nothing was bought for it before. `created_at` if it never was."""
    query = select(func.min(lease_events.c.at)).where(
        lease_events.c.lease_id == lease.id, lease_events.c.became == LeaseState.LAUNCHING
    )
    at: datetime | None = db.execute(query).scalar_one()
    return at or lease.created_at


def count_living(db: Connection) -> int:
    """How many leases may still cost money."""
    return db.execute(select(func.count()).select_from(leases).where(leases.c.state.in_(list(LIVING)))).scalar_one()


def _to_write(db: Connection, query: Select[Any]) -> Select[Any]:
    # SQLite has no FOR UPDATE and needs none: its writing transactions run one after the other.
    return query if is_reading(db) else query.with_for_update()


def _write(db: Connection, before: Lease, after: Lease) -> None:
    changed = {name: value for name, value in asdict(after).items() if value != getattr(before, name)}
    done = db.execute(
        update(leases).where(leases.c.id == before.id, leases.c.version == before.version).values(changed)
    )
    if done.rowcount != 1:
        raise StaleLease(before.id)


def _lease(row: Row[Any]) -> Lease:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = LeaseState(values["state"])
    if values["capacity_type"] is not None:
        values["capacity_type"] = CapacityType(values["capacity_type"])
    return Lease(**values)
