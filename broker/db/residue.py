"""What still costs money with our label and no living lease: from its finding until the provider says that it is gone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from broker.db.put import put
from broker.db.schema import residue

_KEPT = timedelta(days=90)


@dataclass(frozen=True, kw_only=True)
class Left:
    """`thing`: the provider's id of it; `kind`: instance, or as the adapter calls it; `said`: in words."""

    provider: str
    kind: str
    thing: str
    label: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """`removed_at` None: it may cost money still."""

    left: Left
    found_at: datetime
    removed_at: datetime | None


def found(db: Connection, left: Left, now: datetime) -> bool:
    """Before it is ended; whether that is news. What came back under the same id is open again."""
    values = vars(left) | {"found_at": now, "removed_at": None}
    key = (residue.c.provider == left.provider, residue.c.kind == left.kind, residue.c.thing == left.thing)
    known = db.execute(select(residue.c.thing).where(*key, residue.c.removed_at.is_(None))).scalar() is not None
    put(db, residue, values, replace=lambda new: residue.c.removed_at.is_not(None))
    return not known


def gone(db: Connection, provider: str, kind: str, things: Iterable[str], now: datetime) -> int:
    """The provider no longer has these; how many of them had been found."""
    wanted = list(things)
    query = update(residue).where(
        residue.c.provider == provider,
        residue.c.kind == kind,
        residue.c.removed_at.is_(None),
        residue.c.thing.in_(wanted),
    )
    return db.execute(query.values(removed_at=now)).rowcount if wanted else 0


def still_open(db: Connection, provider: str) -> list[Found]:
    """What was found at the credential and is not confirmed gone."""
    return _found(db, provider, only_open=True, limit=1000)


def latest(db: Connection, provider: str, limit: int) -> list[Found]:
    """What was found at the credential, newest first."""
    return _found(db, provider, only_open=False, limit=limit)


def forget(db: Connection, now: datetime) -> None:
    """Take away what was removed long ago."""
    db.execute(delete(residue).where(residue.c.removed_at < now - _KEPT))


def _found(db: Connection, provider: str, *, only_open: bool, limit: int) -> list[Found]:
    query = select(residue).where(residue.c.provider == provider).order_by(residue.c.found_at.desc(), residue.c.thing)
    if only_open:
        query = query.where(residue.c.removed_at.is_(None))
    return [
        Found(
            left=Left(provider=row.provider, kind=row.kind, thing=row.thing, label=row.label, said=row.said),
            found_at=row.found_at,
            removed_at=row.removed_at,
        )
        for row in db.execute(query.limit(limit))
    ]
