"""Lets a job start once its home is on its nodes, and takes the home away when the job has ended.

PrologSlurmctld waits for us (`slurm_plugins/prolog_slurmctld.sh`): a job never starts on a node that lacks its user's home.
"""

import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from broker.core.demand import Job
from broker.core.errors import BrokerError, NodeUnreachable, StepFailed
from broker.core.leases import Lease, LeaseState
from broker.db import jobs, leases, steps
from broker.db.engine import reading
from broker.db.jobs import AttendedJob
from broker.provisioning.steps import JobOnNode, end_job_steps, job_runs_step, start_job_steps
from broker.reconcile import lost, peers, waiter
from broker.reconcile.driver import Task
from broker.reconcile.join import HOME_STEP
from broker.reconcile.living import HOLDS, latest_end
from broker.reconcile.nodes import open_node, run_on_node
from broker.reconcile.world import World
from broker.services import purchases
from broker.slurm import hostlist

log = logging.getLogger("broker.attend")

_A_NODE = frozenset({LeaseState.BOOTSTRAPPING, LeaseState.READY})
# Homes brought at the same time for one job; more only wait for one another at broker-as-user.
_AT_ONCE = 16
_FIFO_ALONE = timedelta(minutes=1)
# Shorter: a hub or an export that is away for a moment costs good machines. Longer: a job waits on a bad one.
_HOMELESS = timedelta(minutes=3)
# The same for a machine that cannot be told of its job's others.
_UNTOLD = timedelta(minutes=2)
# What ends just now is gone by then; longer only keeps a job waiting that Slurm has forgotten.
_FORGOTTEN_RUN = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class WaitingJob:
    """A job whose PrologSlurmctld waits."""

    id: int
    user: str
    nodes: tuple[str, ...]
    inode: int = 0
    """Of its file: a requeued job's waiter leaves a new one under the same name."""
    door: waiter.Door | None = None
    """Where this waiter, and no later one, is told."""


def find(world: World) -> Iterable[Task]:
    """A task for each waiting job, and one that looks for jobs that have ended."""
    for waiting in _waiting(world):
        yield Task(key=f"job:{waiting.id}", run=partial(attend, world, waiting))
    with reading(world.engine) as db:
        attended = jobs.open_jobs(db)
    if attended:
        seen = {job.id: job for job in world.slurm.jobs({job.job_id for job in attended})}
        for row in attended:
            if row.job_id not in seen or seen[row.job_id].state not in HOLDS:
                yield Task(key=f"home:{row.lease_id}:{row.job_id}", run=partial(_take_home_away, world, row))


def attend(world: World, waiting: WaitingJob) -> None:
    """Put the home on each machine that can reach it; when all have it and answer Slurm, let the job go."""
    with reading(world.engine) as db:
        held = leases.holders(db, waiting.nodes)
        reaching = steps.finished(db, HOME_STEP, [LeaseState.READY, LeaseState.BOOTSTRAPPING])
        reachable = [held[node] for node in waiting.nodes if node in held and held[node].id in reaching]
        mounted = {job.lease_id: job.mounted_at for job in jobs.open_jobs(db) if job.job_id == waiting.id}
    at_home = {lease_id for lease_id, at in mounted.items() if at is not None}
    if not _first_run_ended(world, waiting, {lease.id for lease in held.values()}):
        return
    # Brought for an earlier start of the job, not for this one.
    earlier = [lease for lease in reachable if _is_before(mounted.get(lease.id), waiting.door)]
    if not _forgotten_run_ended(world, waiting, earlier):
        return
    missing = [lease for lease in reachable if lease.id not in at_home]
    if missing:
        job = next(iter(world.slurm.jobs([waiting.id])), None)
        if job is None or job.state != "CONFIGURING" or not set(waiting.nodes) <= set(job.nodes):
            # Cancelled or requeued, and its waiter was killed before it could clean up: the node is another job's now.
            _dismiss(world, waiting)
            return
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            list(pool.map(lambda lease: bring_home(world, job, lease), missing))
        at_home.update(lease.id for lease in missing)
        # Slurm may have seen the nodes while the home was mounted; the nudge for that found us busy.
        with reading(world.engine) as db:
            held = leases.holders(db, waiting.nodes)
    met = _introduce(world, waiting, [lease for lease in reachable if lease.id in at_home])
    ready = {node for node, lease in held.items() if lease.state is LeaseState.READY and lease.id in at_home}
    if met and ready >= set(waiting.nodes):
        _let_go(world, waiting)


def bring_home(world: World, job: Job, lease: Lease) -> None:
    """Put the job's home on the lease's machine. NodeUnreachable, StepFailed, or a BrokerError: it is not there.

    A machine that no home can be brought to for a while is given back: its job would wait, and come back, for ever."""
    try:
        _bring_home(world, job, lease)
    except (NodeUnreachable, StepFailed) as exc:
        now = world.clock()
        if now - world.homeless.setdefault(lease.id, now) >= _HOMELESS:
            _give_up(world, lease, f"no home can be brought to the machine: {exc}", now)
        raise
    world.homeless.pop(lease.id, None)


def _give_up(world: World, lease: Lease, reason: str, now: datetime) -> None:
    with world.engine.begin() as db:
        current = leases.get(db, lease.id)
        if current.state is LeaseState.BOOTSTRAPPING:
            purchases.abandon(db, current, reason, now)
        else:
            purchases.give_up(db, current, reason, now)
    world.homeless.pop(lease.id, None)
    if current.state is LeaseState.READY:
        world.slurm.power_down_force([lease.node], f"broker: {reason}")
    world.nudge()


def _first_run_ended(world: World, waiting: WaitingJob, now_on: set[str]) -> bool:
    """Whether no machine of an earlier run of the job can still write to its home. Slurm alone does not see to that."""
    with reading(world.engine) as db:
        earlier = [row for row in jobs.open_jobs(db) if row.job_id == waiting.id and row.lease_id not in now_on]
        where = {row.lease_id: leases.get(db, row.lease_id) for row in earlier}
    if not earlier:
        return True
    up = {node.name for node in world.slurm.nodes() if node.is_up}
    ended = True
    for row in earlier:
        lease = where[row.lease_id]
        if lease.state is LeaseState.READY and lease.node in up:
            # slurmd lives there and has ended the job's processes.
            ended &= _take_home_away(world, row)
        else:
            lost.lose(world, lease.id, f"Slurm lost the node, and job {waiting.id} runs again elsewhere")
            ended = False
    return ended


def _is_before(mounted_at: datetime | None, door: waiter.Door | None) -> bool:
    return mounted_at is not None and door is not None and mounted_at.timestamp() < door[1] / 1e9


def _forgotten_run_ended(world: World, waiting: WaitingJob, on: list[Lease]) -> bool:
    """Whether the job does not run already where it waits for its start.

    A slurmctld that was killed outright forgets the starts of its last seconds, starts such a job anew, hears no word of
    its first run any more and, when slurmd refuses the second one, drains the node. The machine is given up with the
    first run on it. What srun and salloc run goes on: Slurm starts nothing for them.
    """
    ended = True
    for lease in on:
        key = (waiting.id, lease.id)
        with open_node(world, lease) as shell:
            runs = shell.run(job_runs_step(waiting.id)).outputs.get("runs")
        job = next(iter(world.slurm.jobs([waiting.id])), None) if runs else None
        if job is None or not job.batch:
            world.first_runs.pop(key, None)
            continue
        ended = False
        now = world.clock()
        if now - world.first_runs.setdefault(key, now) >= _FORGOTTEN_RUN:
            world.first_runs.pop(key, None)
            lost.lose(
                world, lease.id, f"slurmctld was killed and has forgotten that job {waiting.id} runs on the machine"
            )
    return ended


def _introduce(world: World, waiting: WaitingJob, at_home: list[Lease]) -> bool:
    """Once all machines of a job of several nodes are there, while Slurm still registers them; whether they have met."""
    these = frozenset(lease.id for lease in at_home)
    if len(waiting.nodes) == 1 or world.introduced.get(waiting.id) == these:
        return True
    if len(these) < len(waiting.nodes):
        return False
    try:
        strangers = peers.introduce(world, waiting.id, at_home)
    except peers.Untold as exc:
        now = world.clock()
        if now - world.untold.setdefault(exc.lease.id, now) >= _UNTOLD:
            world.untold.pop(exc.lease.id, None)
            _give_up(world, exc.lease, str(exc), now)
            # Slurm has requeued all of the job; the machines that are well wait for it.
            world.reruns[waiting.id] = now
        raise
    for lease in at_home:
        world.untold.pop(lease.id, None)
    if not strangers:
        world.introduced[waiting.id] = these
        return True
    # Started all the same, its ranks would hang and its output be lost; tried again, it would cost the same once more.
    world.to_hold[waiting.id] = (
        f"broker: {strangers[0]} cannot reach one another ({len(strangers)} such pairs): is UDP open between machines of "
        f"{', '.join(sorted({str(lease.provider) for lease in at_home}))}? Then: scontrol release {waiting.id}"
    )
    world.slurm.power_down_force(waiting.nodes, world.to_hold[waiting.id])
    return False


def find_forgotten(world: World) -> Iterable[Task]:
    """A task when jobs wait: some may have been cancelled, and a waiter that was killed cleans nothing up."""
    waiting = list(_waiting(world))
    if waiting:
        yield Task(key="jobs:forget", run=partial(forget_gone, world, waiting))
    _remove_lone_fifos(world)


def forget_gone(world: World, waiting: list[WaitingJob]) -> None:
    """Remove the files of waiters whose jobs no longer wait for a start."""
    seen = {job.id: job for job in world.slurm.jobs({job.id for job in waiting})}
    for job in waiting:
        if job.id not in seen or seen[job.id].state != "CONFIGURING":
            _dismiss(world, job)


def _remove_lone_fifos(world: World) -> None:
    """Of waiters whose `.job` file we removed, and died before the other. A living waiter makes its FIFO a moment earlier."""
    for fifo in world.site.jobs_folder.glob("[!.]*.fifo"):
        with contextlib.suppress(FileNotFoundError):
            made = datetime.fromtimestamp(fifo.stat().st_mtime, UTC)
            if (
                world.clock() - made > _FIFO_ALONE
                and not fifo.with_suffix(".job").exists()
                and not waiter.is_read(fifo)
            ):
                fifo.unlink()


def _waiting(world: World) -> Iterable[WaitingJob]:
    for path in sorted(world.site.jobs_folder.glob("*.job")):
        try:
            waiting = parse_waiting(path.name, path.read_text())
            yield replace(waiting, inode=path.stat().st_ino, door=waiter.door(world.site.jobs_folder, waiting.id))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, BrokerError) as exc:
            log.error("job file %s cannot be read: %s", path.name, exc)


def _bring_home(world: World, job: Job, lease: Lease) -> None:
    now = world.clock()
    with world.homes.of(lease.id):
        with reading(world.engine) as db:
            others = [other for other in jobs.open_jobs(db) if other.lease_id == lease.id and other.user != job.user]
            public_key = steps.of_lease(db, lease.id)["home_key"]["public_key"]
        for other in others:
            if not _take_home_away(world, other):
                raise BrokerError(f"job {job.id}: {lease.node} still runs job {other.job_id} of {other.user}")
        # The intent first: if we die after the export, the open row makes the next run take it away.
        with world.engine.begin() as db:
            _still_a_node(leases.get(db, lease.id))
            jobs.attend(db, job.id, lease.id, job.user, now, job.account)
        address = str(world.site.addresses[lease.node])
        home = world.as_user.export_home(job.user, lease.id, public_key, address)
        # A fence meanwhile took away what it found, and may have looked before the export was there.
        with reading(world.engine) as db:
            current = leases.get(db, lease.id)
        if current.state not in _A_NODE:
            world.as_user.unexport_home(job.user, lease.id)
        _still_a_node(current)
        until = latest_end(job, now)
        world.promise(lease, job.id, until)
        run_on_node(world, lease, start_job_steps(JobOnNode(job_id=job.id, home=home, until=until)))
        with world.engine.begin() as db:
            jobs.mounted(db, job.id, lease.id, world.clock())
    log.info("job=%s user=%s node=%s lease_id=%s home mounted", job.id, job.user, lease.node, lease.id)


def _still_a_node(lease: Lease) -> None:
    """BrokerError: the lease was given up meanwhile."""
    if lease.state not in _A_NODE:
        raise BrokerError(f"{lease.node}: lease {lease.id} is {lease.state}: no home is brought to it any more")


def _take_home_away(world: World, attended: AttendedJob) -> bool:
    """End one job's use of its home; False: Slurm says that it still runs there."""
    # The lock: a next job of the same user must either find the home kept for it, or bring it anew.
    with world.homes.of(attended.lease_id):
        job = next(iter(world.slurm.jobs([attended.job_id])), None)
        with reading(world.engine) as db:
            lease = leases.get(db, attended.lease_id)
            if job is not None and job.state in HOLDS and lease.node in job.nodes:
                return False
            shared = any(
                other.lease_id == attended.lease_id and other.user == attended.user and other.job_id != attended.job_id
                for other in jobs.open_jobs(db)
            )
        if not shared:
            if lease.state is LeaseState.READY:
                try:
                    run_on_node(world, lease, end_job_steps(attended.user))
                except (NodeUnreachable, StepFailed) as exc:
                    # Without its key the node can no longer reach the home, whatever still hangs there.
                    log.warning("job=%s node=%s home not unmounted in order: %s", attended.job_id, lease.node, exc)
            world.as_user.unexport_home(attended.user, attended.lease_id)
        with world.engine.begin() as db:
            ran_until = job.ended_at if job is not None and job.state not in HOLDS else None
            jobs.end(db, attended.job_id, attended.lease_id, world.clock(), ran_until)
    log.info("job=%s user=%s node=%s home taken away", attended.job_id, attended.user, lease.node)
    return True


def _let_go(world: World, waiting: WaitingJob) -> None:
    if not waiter.tell(world.site.jobs_folder, waiting.id, "start", waiting.door):  # or not yet: the next pass tells
        _forget_if_gone(world, waiting)
        return
    world.introduced.pop(waiting.id, None)
    _clear_comment(world, waiting.id)
    log.info("job=%s may start on %s", waiting.id, hostlist.fold(waiting.nodes))
    _forget(world, waiting)


def _clear_comment(world: World, job_id: int) -> None:
    """Why it waited is of no interest any more; what others wrote stays."""
    try:
        job = next(iter(world.slurm.jobs([job_id])), None)
        if job is not None and job.admin_comment.startswith("broker:"):
            world.slurm.set_admin_comment(job_id, "")
    except BrokerError as exc:
        log.info("job=%s its AdminComment stays: %s", job_id, exc)


def _forget_if_gone(world: World, waiting: WaitingJob) -> None:
    job = next(iter(world.slurm.jobs([waiting.id])), None)
    if job is None or job.state not in HOLDS:
        _dismiss(world, waiting)


def _dismiss(world: World, waiting: WaitingJob) -> None:
    """Its job has ended, or was requeued: then Slurm lets the waiter live, and starts the job nowhere before it ends."""
    waiter.tell(world.site.jobs_folder, waiting.id, "gone", waiting.door)
    _forget(world, waiting)


def _forget(world: World, waiting: WaitingJob) -> None:
    """The waiter removes its own files; this is for one that could not."""
    with contextlib.suppress(FileNotFoundError):
        left = world.site.jobs_folder / f"{waiting.id}.job"
        if left.stat().st_ino == waiting.inode:
            left.unlink()
            left.with_suffix(".fifo").unlink()


def parse_waiting(name: str, text: str) -> WaitingJob:
    """The file a waiter left. ValueError, BrokerError: a field is missing or no number or no hostlist."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    missing = {"job", "user", "nodes"} - fields.keys()
    if missing or name != f"{fields.get('job')}.job":
        raise ValueError(f"{name}: fields {sorted(missing) or 'do not fit the name'}")
    return WaitingJob(id=int(fields["job"]), user=fields["user"], nodes=tuple(hostlist.expand(fields["nodes"])))
