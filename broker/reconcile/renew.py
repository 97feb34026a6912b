"""Puts every node's dead-man timer forward while we live. Without us, idle nodes stop by themselves."""

import logging
from collections.abc import Iterable
from functools import partial

from broker.core.errors import NodeUnreachable, StepFailed
from broker.core.leases import LeaseState
from broker.db import leases
from broker.db.engine import reading
from broker.provisioning.steps import renew_step
from broker.reconcile.driver import Task
from broker.reconcile.nodes import run_on_node
from broker.reconcile.world import World

log = logging.getLogger("broker.renew")


def find(world: World) -> Iterable[Task]:
    """A task for each node that works for us."""
    with reading(world.engine) as db:
        ready = leases.in_states(db, [LeaseState.READY])
    for lease in ready:
        yield Task(key=f"renew:{lease.id}", run=partial(renew, world, lease.id))


def renew(world: World, lease_id: str) -> None:
    """One touch over SSH; an unreachable node is only logged, since its own timer is what protects us from it."""
    with reading(world.engine) as db:
        lease = leases.get(db, lease_id)
    if lease.state is not LeaseState.READY:
        return
    try:
        run_on_node(world, lease, [renew_step()])
    except (NodeUnreachable, StepFailed) as exc:
        log.warning("lease_id=%s node=%s dead-man timer not renewed: %s", lease.id, lease.node, exc)
