"""A machine that stopped being a node under a job: it is fenced and given back first, only then does Slurm rerun the job."""

import logging
from collections.abc import Iterable
from datetime import timedelta

from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.leases import Lease, LeaseState
from broker.db import leases
from broker.db.engine import reading
from broker.reconcile import breakers
from broker.reconcile.driver import Task
from broker.reconcile.world import World
from broker.services import purchases

log = logging.getLogger("broker.lost")

_MARK = "lost: "
_POWERED_DOWN = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"})
_RUNS = frozenset({"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED"})
# slurmctld needs some seconds to requeue a job; one that is not pending by then waits for something else.
_RERUN_LIMIT = timedelta(minutes=5)


def lose(world: World, lease_id: str, why: str) -> None:
    """The machine is lost: `why`. A ready one is on its way out, a booting one is replaced by the next offer.

    In any other state nothing is done: it is on its way out already. Not by way of `draining`, though it may still be
    reachable: what ends a job's processes before the fence tells Slurm that the job is over, and then it never reruns.
    """
    now = world.clock()
    with world.engine.begin() as db:
        lease = leases.get(db, lease_id)
        if lease.state is LeaseState.BOOTSTRAPPING:
            purchases.abandon(db, lease, why, now)
            breakers.bad_boot(world, db, lease, why, now, vanished=True)
        elif lease.state is LeaseState.READY:
            leases.move(db, lease, LeaseState.RELEASING, f"{_MARK}{why}", now)
        else:
            return
    log.error("lease_id=%s node=%s instance=%s lost: %s", lease.id, lease.node, lease.instance_id, why)
    world.nudge()


def is_lost(lease: Lease) -> bool:
    """Whether Slurm still believes in the node: nobody told it that the machine goes."""
    return (lease.reason or "").startswith(_MARK)


def requeue(world: World, lease: Lease) -> None:
    """Have Slurm give a lost node up: its jobs run again. Only for a fenced machine; asking twice changes nothing.

    If we die before this, `sweep.nodes` finds a node that Slurm uses and that no lease stands behind.
    """
    if lease.fenced_at is None or lease.id in world.requeued:
        return
    node = next((node for node in world.slurm.nodes() if node.name == lease.node), None)
    with reading(world.engine) as db:
        taken = leases.holding(db, lease.node) is not None
    if node is not None and not taken and (node.state == "DOWN" or not node.flags & _POWERED_DOWN):
        hit = [job for job in world.slurm.jobs() if lease.node in job.nodes and job.state in _RUNS]
        # Down first: powered down at once, its job would be COMPLETING until a machine answers that is fenced.
        world.slurm.set_down([lease.node], f"broker: {lease.reason}")
        world.slurm.power_down_force([lease.node], f"broker: {lease.reason}")
        now = world.clock()
        world.reruns.update({job.id: now for job in hit if job.batch})
    world.requeued.add(lease.id)


def find(world: World) -> Iterable[Task]:
    """One task while a requeued job waits out Slurm's delay (two minutes, for credentials that nobody can use any more)."""
    if world.reruns:
        yield Task(key="rerun", run=lambda: rerun(world))


def rerun(world: World) -> None:
    """Clear the delay of each job that is pending again."""
    now = world.clock()
    seen = {job.id: job for job in world.slurm.jobs(set(world.reruns))}
    for job_id, since in list(world.reruns.items()):
        job = seen.get(job_id)
        # Not by its reason: Slurm writes BeginTime only when it next looks at the job. On its way from the lost node to
        # pending it is NODE_FAIL or COMPLETING for a while.
        pending = job is not None and job.state == "PENDING"
        if job is not None and pending and not job.reason.startswith("JobHeld"):
            _start(world, job_id)
        if job is None or pending or job.state == "CANCELLED" or now - since > _RERUN_LIMIT:
            world.reruns.pop(job_id, None)


def _start(world: World, job_id: int) -> None:
    try:
        world.slurm.requeue_now(job_id)
    except SlurmUnavailable:
        raise
    except BrokerError as exc:  # it was cancelled in this moment
        log.info("job=%s is not started again at once: %s", job_id, exc)
        return
    log.info("job=%s runs again at once: its machine was lost", job_id)
