"""Whether we buy at all. `blocks.py` knows what is left alone for a while."""

from sqlalchemy import Connection, select, update

from broker.db.schema import purchasing


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
