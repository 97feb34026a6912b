"""Which job held which machine when: what usage is put down to."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from broker.billing.slices import Occupancy, Payer
from broker.db.chunks import chunks
from broker.db.schema import occupancies


def begin(db: Connection, lease_id: str, job_id: int, user: str, account: str | None, now: datetime) -> None:
    """The job holds the machine from now on; nothing changes when it does already."""
    open_one = select(occupancies.c.id).where(
        occupancies.c.lease_id == lease_id, occupancies.c.job_id == job_id, occupancies.c.ended_at.is_(None)
    )
    if db.execute(open_one).first() is None:
        row = {"lease_id": lease_id, "job_id": job_id, "user": user, "account": account, "began_at": now}
        db.execute(insert(occupancies).values(row))


def end(db: Connection, lease_id: str, job_id: int, at: datetime) -> None:
    """The job has held it until `at`; nothing changes when its end is known already."""
    query = select(occupancies.c.id, occupancies.c.began_at).where(
        occupancies.c.lease_id == lease_id, occupancies.c.job_id == job_id, occupancies.c.ended_at.is_(None)
    )
    for row in db.execute(query).all():
        # Slurm may say that a job ended before it came here: that was an earlier run of it.
        db.execute(update(occupancies).where(occupancies.c.id == row.id).values(ended_at=max(row.began_at, at)))


def of_leases(db: Connection, lease_ids: Iterable[str]) -> dict[str, tuple[Occupancy, ...]]:
    """Lease → who held it, oldest first; a lease that nobody held has no entry."""
    found: dict[str, list[Occupancy]] = defaultdict(list)
    for some in chunks(lease_ids):
        query = select(occupancies).where(occupancies.c.lease_id.in_(some)).order_by(occupancies.c.id)
        for row in db.execute(query):
            payer = payer_of(row.job_id, row.user, row.account)
            found[row.lease_id].append(Occupancy(payer=payer, began_at=row.began_at, ended_at=row.ended_at))
    return {lease_id: tuple(held) for lease_id, held in found.items()}


def payer_of(job_id: int, user: str, account: str | None) -> Payer:
    """A job without an account of Slurm's is its user's own, who then is one: `~alice`."""
    return Payer(job_id=job_id, user=user, account=account or f"~{user}")
