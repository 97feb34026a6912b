"""bootstrapping → ready: Slurm says that the node answers."""

import logging
from collections.abc import Iterable
from datetime import timedelta

from broker.core.leases import LeaseState
from broker.db import leases, steps
from broker.db.engine import reading
from broker.reconcile import breakers
from broker.reconcile.driver import Task
from broker.reconcile.world import World
from broker.services import purchases

log = logging.getLogger("broker.join")

LAST_STEP = "slurmd"
HOME_STEP = "home_key"
"""From this step of the join on a home can be brought: it comes while slurmd starts."""
# slurmd registers within a second. Too short: a busy slurmctld costs us good machines; too long: the next offer comes late.
_REGISTRATION_LIMIT = timedelta(seconds=90)


def find(world: World) -> Iterable[Task]:
    """One task while any node is about to register."""
    with reading(world.engine) as db:
        joined = sorted(steps.finished(db, LAST_STEP, [LeaseState.BOOTSTRAPPING]))
    if joined:
        yield Task(key="join", run=lambda: join(world, joined))


def join(world: World, lease_ids: list[str]) -> None:
    """Move every lease whose node is up; a node that Slurm refuses or does not see in time is abandoned."""
    nodes = {node.name: node for node in world.slurm.nodes()}
    changed = False
    for lease_id in lease_ids:
        now = world.clock()
        with world.engine.begin() as db:
            lease = leases.get(db, lease_id)
            if lease.state is not LeaseState.BOOTSTRAPPING:
                continue
            # From the first answer of slurmctld on: while it was away no node could register.
            since = world.registering.setdefault(lease.id, now)
            node = nodes.get(lease.node)
            if node is not None and node.is_up:
                leases.move(db, lease, LeaseState.READY, "the node answers Slurm", now)
                breakers.good_boot(world, db, lease, now)
                log.info("lease_id=%s node=%s ready", lease.id, lease.node)
                changed = True
            elif node is not None and "INVALID_REG" in node.flags:
                reason = f"Slurm refuses the node: {node.reason or 'INVALID_REG'}"
                purchases.abandon(db, lease, reason, now)
                breakers.bad_boot(world, db, lease, reason, now)
                changed = True
            elif now - since > _REGISTRATION_LIMIT:
                reason = f"slurmd started, but Slurm saw no node for {now - since}"
                purchases.abandon(db, lease, reason, now)
                breakers.bad_boot(world, db, lease, reason, now)
                changed = True
    if changed:
        world.nudge()
