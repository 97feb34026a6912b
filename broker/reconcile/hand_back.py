"""Nothing could be bought for a node: Slurm takes it back now and tries its job again later, not at once.

A released lease with `not_before` waits for this: first its node is powered down, which requeues the job; once the job is
pending again it is told when to start and why. Without the delay Slurm would ask again every few seconds, for ever.
"""

import logging
from collections.abc import Iterable
from functools import partial

from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.leases import Lease
from broker.db import leases
from broker.db.engine import reading
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.hand_back")


def find(world: World) -> Iterable[Task]:
    """One task while a node waits to be handed back."""
    with reading(world.engine) as db:
        waiting = leases.to_hand_back(db)
    if waiting:
        yield Task(key="hand_back", run=partial(hand_back, world, waiting))


def hand_back(world: World, waiting: list[Lease]) -> None:
    """Take each node's next step; a lease is done with when its job knows when to start again, or is no more."""
    nodes = {node.name: node for node in world.slurm.nodes()}
    jobs = {job.id: job for job in world.slurm.jobs({lease.job_id for lease in waiting if lease.job_id is not None})}
    for lease in waiting:
        node = nodes.get(lease.node)
        reason = f"broker: {lease.reason}"
        with reading(world.engine) as db:
            taken = leases.holding(db, lease.node) is not None
        if node is not None and "POWERING_UP" in node.flags and "POWER_DOWN" not in node.flags and not taken:
            world.slurm.power_down_force([lease.node], reason)
            continue
        job = jobs.get(lease.job_id) if lease.job_id is not None else None
        if job is not None and job.state == "CONFIGURING" and lease.node in job.nodes and not taken:
            continue  # slurmctld has not requeued it yet
        if job is not None and job.state == "PENDING" and lease.not_before is not None:
            _delay(world, lease, job.id, reason)
        with world.engine.begin() as db:
            leases.amend(db, lease, None, world.clock(), not_before=None)


def _delay(world: World, lease: Lease, job_id: int, reason: str) -> None:
    again = lease.not_before
    if again is None or again <= world.clock():
        return
    try:
        world.slurm.start_not_before(job_id, again)
        world.slurm.set_admin_comment(job_id, f"{reason}; tried again at {again:%H:%M:%S} UTC")
    except SlurmUnavailable:
        raise
    except BrokerError as exc:  # it started or ended in this moment
        log.info("job=%s could not be delayed: %s", job_id, exc)
