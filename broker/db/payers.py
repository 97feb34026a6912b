"""For whom each machine was bought."""

from collections.abc import Iterable

from sqlalchemy import Connection, select

from broker.billing.slices import Payer
from broker.db.chunks import chunks
from broker.db.occupancies import payer_of
from broker.db.put import put
from broker.db.schema import lease_payers


def record(db: Connection, lease_id: str, job_id: int, user: str, account: str | None) -> None:
    """The machine is to be bought for this job; a later job that takes it over pays from then on what nobody holds."""
    row = {"lease_id": lease_id, "job_id": job_id, "user": user, "account": account}
    put(db, lease_payers, row, replace=lambda new: lease_payers.c.job_id != new.job_id)


def of_leases(db: Connection, lease_ids: Iterable[str]) -> dict[str, Payer]:
    """Lease → for whom; one bought for nobody (a test purchase) has no entry."""
    found: dict[str, Payer] = {}
    for some in chunks(lease_ids):
        for row in db.execute(select(lease_payers).where(lease_payers.c.lease_id.in_(some))):
            found[row.lease_id] = payer_of(row.job_id, row.user, row.account)
    return found
