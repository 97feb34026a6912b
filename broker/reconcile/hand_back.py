"""Nothing could be bought for a node: Slurm takes it back now and tries its job again later, not at once.

A released lease with `not_before` waits for this. A batch job: its node is powered down, which requeues it; once it is
pending again it is told when to start and why, or it is held. `srun` and `salloc` cannot wait: they are told, and ended.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from broker.core.demand import Job
from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.leases import Lease
from broker.db import leases
from broker.db.engine import reading
from broker.reconcile import refusals, waiter
from broker.reconcile.driver import Task
from broker.reconcile.world import World

log = logging.getLogger("broker.hand_back")


def find(world: World) -> Iterable[Task]:
    """One task while a node waits to be handed back."""
    with reading(world.engine) as db:
        waiting = leases.to_hand_back(db)
    if world.to_hold:
        yield Task(key="hold", run=partial(_hold, world))
    if waiting:
        yield Task(key="hand_back", run=partial(hand_back, world, waiting))


def hand_back(world: World, waiting: list[Lease]) -> None:
    """Take each job's next step; its leases are done with when it knows when to start again, or is no more."""
    # Before Slurm is asked: a word for a waiter that this answer knows must not reach one of the job's next start.
    doors: dict[int | None, waiter.Door | None] = {
        lease.job_id: waiter.door(world.site.jobs_folder, lease.job_id) for lease in waiting if lease.job_id is not None
    }
    flags = {node.name: node.flags for node in world.slurm.nodes()}
    jobs = {job.id: job for job in world.slurm.jobs({lease.job_id for lease in waiting if lease.job_id is not None})}
    together: dict[object, list[Lease]] = {}
    for lease in waiting:
        together.setdefault(lease.job_id or lease.node, []).append(lease)
    for group in together.values():
        job = jobs.get(group[0].job_id) if group[0].job_id is not None else None
        if _one(world, group, job, flags, doors.get(group[0].job_id)):
            for lease in group:
                with world.engine.begin() as db:
                    leases.amend(db, leases.get(db, lease.id), None, world.clock(), not_before=None)


def _hold(world: World) -> None:
    """Jobs that no other try would help, once they are requeued."""
    doors = {job_id: waiter.door(world.site.jobs_folder, job_id) for job_id in world.to_hold}
    for job in world.slurm.jobs(doors):
        if job.state == "PENDING":
            waiter.tell(world.site.jobs_folder, job.id, "gone", doors[job.id])
            world.slurm.set_admin_comment(job.id, world.to_hold[job.id])
            world.slurm.hold(job.id)
        if job.state != "CONFIGURING":
            del world.to_hold[job.id]


def _one(
    world: World,
    group: Sequence[Lease],
    job: Job | None,
    flags: Mapping[str, frozenset[str]],
    door: waiter.Door | None,
) -> bool:
    """The next step for the nodes of one job; whether it was the last one."""
    reason = f"broker: {group[-1].reason}"
    with reading(world.engine) as db:
        free = [lease.node for lease in group if leases.holding(db, lease.node) is None]
    configuring = job is not None and job.state == "CONFIGURING" and bool({*free} & {*job.nodes})
    if job is not None and configuring and not job.batch:
        world.slurm.set_admin_comment(job.id, reason)
        told = f"{reason}. The job is cancelled: submit it again later, or with other wishes"
        if waiter.tell(world.site.jobs_folder, job.id, f"end {told}", door):
            return False  # it tells the user, and cancels; powering its node down now would end srun without a word
        world.slurm.cancel(job.id)
    booting = {name for name in free if "POWERING_UP" in flags.get(name, ()) and "POWER_DOWN" not in flags[name]}
    if booting:
        world.slurm.power_down_force(booting, reason)
        return False
    if configuring:
        return False  # slurmctld has not requeued it yet
    if job is not None and job.state == "PENDING":
        waiter.tell(world.site.jobs_folder, job.id, "gone", door)
        _put_off(world, group, job, reason)
    return True


def _put_off(world: World, group: Sequence[Lease], job: Job, reason: str) -> None:
    again = max((lease.not_before for lease in group if lease.not_before is not None), default=world.clock())
    with reading(world.engine) as db:
        rounds = refusals.rounds(leases.of_job(db, job.id))
    try:
        if refusals.must_hold(group[-1].reason, rounds):
            world.slurm.hold(job.id)
            world.slurm.requeue_now(job.id)  # else its release would still wait for the delay of the requeue
            said = f"{reason}; held after {rounds} rounds: `scontrol release {job.id}` tries again"
        elif again <= world.clock():
            world.slurm.requeue_now(job.id)
            said = f"{reason}; tried again at once"
        else:
            world.slurm.start_not_before(job.id, again)
            said = f"{reason}; tried again at {again:%H:%M:%S} UTC"
        world.slurm.set_admin_comment(job.id, said)
    except SlurmUnavailable:
        raise
    except BrokerError as exc:  # it started or ended in this moment
        log.info("job=%s could not be put off: %s", job.id, exc)
