"""The steps of a lease that several reconcilers share: one attempt ends, the next stands behind the same node name."""

import logging
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from broker.core.leases import Lease, LeaseState, new_lease_id
from broker.core.usage import UsageEvent, UsageKind
from broker.db import leases, usage

log = logging.getLogger("broker.leases")

_NO_OFFER: dict[str, None] = dict.fromkeys(
    ("provider", "offer_id", "instance_type", "zone", "capacity_type", "machine", "price_per_hour", "currency")
)


def request(
    db: Connection,
    *,
    node: str,
    shape: str,
    job_id: int | None,
    request_id: str,
    at: datetime,
    deadline: datetime,
    now: datetime,
) -> Lease:
    """A new wish for a machine behind `node`. IntegrityError: another lease holds the name."""
    lease = Lease(
        id=new_lease_id(),
        node=node,
        shape=shape,
        state=LeaseState.REQUESTED,
        state_since=now,
        version=1,
        created_at=now,
        requested_at=at,
        deadline=deadline,
        request_id=request_id,
        attempt=1,
        epoch=1,
        job_id=job_id,
    )
    leases.add(db, lease, "Slurm asked for the node" + (f" for job {job_id}" if job_id else ""), now)
    return lease


def next_attempt(db: Connection, failed: Lease, now: datetime, not_before: datetime | None = None) -> Lease:
    """The next offer gets a lease of its own, behind the same node name and under the same deadline."""
    lease = Lease(
        id=new_lease_id(),
        node=failed.node,
        shape=failed.shape,
        state=LeaseState.REQUESTED,
        state_since=now,
        version=1,
        created_at=now,
        requested_at=failed.requested_at,
        deadline=failed.deadline,
        request_id=failed.request_id,
        attempt=failed.attempt + 1,
        epoch=1,
        job_id=failed.job_id,
        not_before=not_before,
    )
    leases.add(db, lease, f"attempt {lease.attempt}: the one before ended ({failed.reason})", now)
    return lease


def refused(db: Connection, lease: Lease, reason: str, now: datetime, not_before: datetime | None = None) -> Lease:
    """The provider refused to sell: nothing was bought, so the lease ends here and the next attempt begins."""
    for sibling in leases.of_job(db, lease.job_id) if lease.job_id is not None else ():
        if sibling.state is LeaseState.REQUESTED and sibling.offer_id is not None:
            take_back(db, sibling, f"{lease.node} of the same job was refused ({reason})", now)
    ended = leases.move(db, lease, LeaseState.RELEASING, reason, now, fenced_at=now)
    ended = leases.move(db, ended, LeaseState.RELEASED, reason, now, not_before=None)
    return next_attempt(db, ended, now, not_before)


def never_seen(db: Connection, lease: Lease, now: datetime) -> None:
    """No machine was found for an intent to buy. One that ended before we looked (it vanished, or the reaper or a person
    ended it while we were dead) is billed all the same: the ledger says that it lived from then until now, or not at all.
    """
    if lease.price_per_hour is None or lease.currency is None:
        return
    launched = leases.launched_at(db, lease)
    for kind in (UsageKind.START, UsageKind.END):
        usage.record(
            db,
            UsageEvent(
                lease_id=lease.id,
                kind=kind,
                not_before=launched,
                not_after=now,
                price_per_hour=lease.price_per_hour,
                currency=lease.currency,
            ),
        )


def take_back(db: Connection, lease: Lease, reason: str, now: datetime) -> Lease:
    """The offer allotted to a `requested` lease is not bought: it waits for another."""
    return leases.amend(db, lease, f"not bought: {reason}", now, not_before=None, **_NO_OFFER)


def take_over(db: Connection, machine: Lease, wanted: Lease, now: datetime) -> Lease:
    """A machine that is not joined yet becomes the one that `wanted` waits for; its old node waits anew.

    The label at the provider names the lease, so the machine keeps its lease and the lease changes its node.
    """
    leases.move(db, wanted, LeaseState.RELEASED, f"served by a machine that another job left over: {machine.id}", now)
    old = machine
    reason = f"left over by job {machine.job_id}: it becomes {wanted.node}" + (
        f" for job {wanted.job_id}" if wanted.job_id else ""
    )
    machine = leases.amend(
        db,
        machine,
        reason,
        now,
        node=wanted.node,
        job_id=wanted.job_id,
        request_id=wanted.request_id,
        requested_at=wanted.requested_at,
        deadline=wanted.deadline,
        attempt=wanted.attempt + 1,
        not_before=None,
        overlay_key=None,
    )
    next_attempt(db, replace(old, reason="its machine went to another job"), now)
    return machine


def abandon(db: Connection, lease: Lease, reason: str, now: datetime) -> Lease:
    """The machine is no good: give it back and try the next offer behind the same name."""
    ended = leases.move(db, lease, LeaseState.RELEASING, reason, now)
    return next_attempt(db, ended, now)


def give_up(db: Connection, lease: Lease, reason: str, now: datetime) -> Lease:
    """The node name is no longer wanted: end the lease in whatever state it is, without a next attempt."""
    match lease.state:
        case LeaseState.REQUESTED:
            return leases.move(db, lease, LeaseState.RELEASED, reason, now, not_before=None)
        case LeaseState.READY:
            return leases.move(db, lease, LeaseState.DRAINING, reason, now, not_before=None)
        case LeaseState.LAUNCHING | LeaseState.BOOTSTRAPPING | LeaseState.PARKED:
            return leases.move(db, lease, LeaseState.RELEASING, reason, now)
        case LeaseState.DRAINING | LeaseState.RELEASING | LeaseState.RELEASED:
            return lease
