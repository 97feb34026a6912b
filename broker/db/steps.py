"""Bootstrap steps that ended well, so that a restart goes on where the last run stopped."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from broker.core.leases import LeaseState
from broker.db.chunks import chunks
from broker.db.schema import lease_steps, leases

_EARLIER = delete(lease_steps).where(
    lease_steps.c.lease_id == bindparam("of_lease"), lease_steps.c.name == bindparam("called")
)


def record(db: Connection, lease_id: str, name: str, outputs: dict[str, str], seconds: float, now: datetime) -> None:
    """Keep that the step ended well; a repeated step replaces its earlier record."""
    db.execute(_EARLIER, {"of_lease": lease_id, "called": name})
    row = {"lease_id": lease_id, "name": name, "outputs": outputs, "finished_at": now, "seconds": seconds}
    db.execute(insert(lease_steps), row)


def of_lease(db: Connection, lease_id: str) -> dict[str, dict[str, str]]:
    """Step name → what it put out."""
    rows = db.execute(select(lease_steps).where(lease_steps.c.lease_id == lease_id))
    return {row.name: row.outputs for row in rows}


def finished(db: Connection, name: str, states: Iterable[LeaseState]) -> set[str]:
    """Of the leases in one of `states`, those whose step of that name ended well."""
    query = (
        select(lease_steps.c.lease_id)
        .join(leases, leases.c.id == lease_steps.c.lease_id)
        .where(lease_steps.c.name == name, leases.c.state.in_(list(states)))
    )
    return set(db.execute(query).scalars())


BEFORE_NODE = ("host_key_made", "host_key", "facts", "bundle")
"""Steps of a join that do not depend on the node's name."""


def forget_after(db: Connection, lease_id: str, kept: Iterable[str]) -> None:
    """Have every step but those of `kept` run again: the machine becomes another node than it was about to."""
    db.execute(delete(lease_steps).where(lease_steps.c.lease_id == lease_id, lease_steps.c.name.not_in(list(kept))))


def histories(db: Connection, lease_ids: Iterable[str]) -> dict[str, list[tuple[str, datetime, float]]]:
    """Lease → (name, finished at, seconds) of each step, in the order of their ends."""
    found: dict[str, list[tuple[str, datetime, float]]] = defaultdict(list)
    for some in chunks(lease_ids):
        columns = (lease_steps.c.lease_id, lease_steps.c.name, lease_steps.c.finished_at, lease_steps.c.seconds)
        query = select(*columns).where(lease_steps.c.lease_id.in_(some)).order_by(lease_steps.c.finished_at)
        for row in db.execute(query):
            found[row.lease_id].append((row.name, row.finished_at, row.seconds))
    return found


def first(db: Connection, lease_ids: Iterable[str]) -> dict[str, datetime]:
    """Lease → when the first of its steps ended well; none for one that never came so far."""
    found: dict[str, datetime] = {}
    for some in chunks(lease_ids):
        query = select(lease_steps.c.lease_id, func.min(lease_steps.c.finished_at))
        rows = db.execute(query.where(lease_steps.c.lease_id.in_(some)).group_by(lease_steps.c.lease_id))
        found.update((lease_id, at) for lease_id, at in rows)
    return found
