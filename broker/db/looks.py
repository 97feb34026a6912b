"""When each credential was last tried by a call that buys nothing, and what came of it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from broker.db.put import put
from broker.db.schema import credential_looks


@dataclass(frozen=True, kw_only=True)
class Look:
    """`error` None: the provider took the credential; `seconds` is how long it took to answer."""

    provider: str
    at: datetime
    error: str | None
    seconds: float


def record(db: Connection, look: Look) -> None:
    """The newest look takes the last one's place."""
    put(db, credential_looks, vars(look), replace=lambda new: credential_looks.c.at <= new.at)


def latest(db: Connection) -> dict[str, Look]:
    """Credential → its last look; one that was never looked at has no entry."""
    rows = db.execute(select(credential_looks))
    return {row.provider: Look(provider=row.provider, at=row.at, error=row.error, seconds=row.seconds) for row in rows}
