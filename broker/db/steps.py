"""Bootstrap steps that ended well, so that a restart goes on where the last run stopped."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from broker.db.schema import lease_steps


def record(db: Connection, lease_id: str, name: str, outputs: dict[str, str], seconds: float, now: datetime) -> None:
    """Keep that the step ended well; a repeated step replaces its earlier record."""
    db.execute(delete(lease_steps).where(lease_steps.c.lease_id == lease_id, lease_steps.c.name == name))
    db.execute(
        insert(lease_steps).values(lease_id=lease_id, name=name, outputs=outputs, finished_at=now, seconds=seconds)
    )


def of_lease(db: Connection, lease_id: str) -> dict[str, dict[str, str]]:
    """Step name → what it put out."""
    rows = db.execute(select(lease_steps).where(lease_steps.c.lease_id == lease_id))
    return {row.name: row.outputs for row in rows}


BEFORE_NODE = ("host_key_made", "host_key", "facts", "bundle")
"""Steps of a join that do not depend on the node's name."""


def forget_after(db: Connection, lease_id: str, kept: Iterable[str]) -> None:
    """Have every step but those of `kept` run again: the machine becomes another node than it was about to."""
    db.execute(delete(lease_steps).where(lease_steps.c.lease_id == lease_id, lease_steps.c.name.not_in(list(kept))))


def history(db: Connection, lease_id: str) -> list[tuple[str, datetime, float]]:
    """(name, finished at, seconds) in the order of their ends."""
    query = select(lease_steps).where(lease_steps.c.lease_id == lease_id).order_by(lease_steps.c.finished_at)
    return [(row.name, row.finished_at, row.seconds) for row in db.execute(query)]
