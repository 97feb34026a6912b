"""Jobs whose home we mounted on a node, until they have ended and it is unmounted."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from broker.db import occupancies
from broker.db.schema import attended_jobs


@dataclass(frozen=True, kw_only=True)
class AttendedJob:
    job_id: int
    lease_id: str
    user: str
    attended_at: datetime
    mounted_at: datetime | None
    ended_at: datetime | None


def attend(db: Connection, job_id: int, lease_id: str, user: str, now: datetime, account: str | None = None) -> None:
    """Write that the user's home is about to be exported to the lease's node for this job; repeating renews it.

    From the first time on the job holds the machine, and Slurm's `account` pays it.
    """
    occupancies.begin(db, lease_id, job_id, user, account, now)
    db.execute(delete(attended_jobs).where(attended_jobs.c.job_id == job_id, attended_jobs.c.lease_id == lease_id))
    db.execute(insert(attended_jobs).values(job_id=job_id, lease_id=lease_id, user=user, attended_at=now))


def open_jobs(db: Connection) -> list[AttendedJob]:
    """Jobs whose homes are still exported."""
    rows = db.execute(select(attended_jobs).where(attended_jobs.c.ended_at.is_(None)))
    return [
        AttendedJob(
            job_id=row.job_id,
            lease_id=row.lease_id,
            user=row.user,
            attended_at=row.attended_at,
            mounted_at=row.mounted_at,
            ended_at=row.ended_at,
        )
        for row in rows
    ]


def mounted(db: Connection, job_id: int, lease_id: str, now: datetime) -> None:
    """The home is on the node: the job may start there."""
    db.execute(
        update(attended_jobs)
        .where(attended_jobs.c.job_id == job_id, attended_jobs.c.lease_id == lease_id)
        .values(mounted_at=now)
    )


def end(db: Connection, job_id: int, lease_id: str, now: datetime, ran_until: datetime | None = None) -> None:
    """The home is unmounted and no longer exported for this job on this lease.

    `ran_until`: when Slurm says that the job ended; None: it does not say.
    """
    occupancies.end(db, lease_id, job_id, min(now, ran_until or now))
    db.execute(
        update(attended_jobs)
        .where(attended_jobs.c.job_id == job_id, attended_jobs.c.lease_id == lease_id)
        .values(ended_at=now)
    )


def leases_of(db: Connection, job_id: int) -> list[str]:
    """The leases a job ran on."""
    rows = db.execute(select(attended_jobs.c.lease_id).where(attended_jobs.c.job_id == job_id))
    return [row.lease_id for row in rows]
