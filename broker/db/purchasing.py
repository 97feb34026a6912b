"""Whether we buy at all, and which credentials we leave alone for a while."""

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from broker.db.put import put
from broker.db.schema import credentials, purchasing


def paused(db: Connection) -> str | None:
    """Why buying is paused; None: it is not."""
    reason: str | None = db.execute(select(purchasing.c.paused_reason)).scalar_one()
    return reason


def set_paused(db: Connection, reason: str | None, actor: str) -> None:
    """Stop all buying (`reason`) or go on (None)."""
    db.execute(update(purchasing).values(paused_reason=reason, paused_by=actor))


def take_turn(db: Connection) -> None:
    """Make this transaction the only one that buys until it ends: limits are checked on figures that stay true."""
    db.execute(update(purchasing).values(turn=purchasing.c.turn + 1))


def suspend(db: Connection, provider: str, until: datetime, reason: str) -> None:
    """Buy nothing from the credential before `until`; an earlier word that reaches further stands."""
    put(
        db,
        credentials,
        {"provider": provider, "suspended_until": until, "reason": reason},
        replace=lambda new: credentials.c.suspended_until <= new.suspended_until,
    )


def unsuspend(db: Connection, provider: str) -> None:
    """The credential answered well again."""
    db.execute(delete(credentials).where(credentials.c.provider == provider))


def suspended(db: Connection, now: datetime) -> dict[str, str]:
    """Credential → why nothing is bought from it now."""
    rows = db.execute(select(credentials).where(credentials.c.suspended_until > now))
    return {row.provider: row.reason for row in rows}


def suspended_until(db: Connection, now: datetime) -> dict[str, datetime]:
    """Credential → when it may be used again."""
    rows = db.execute(select(credentials).where(credentials.c.suspended_until > now))
    return {row.provider: row.suspended_until for row in rows}
