"""Jobs of ours that lost their waiter before their home came.

Slurm 25.11 counts the PrologSlurmctld that it kills at its own end as done, and starts its job when the nodes are there,
with or without a home. See docs/decisions/0009.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from broker.core.demand import Job
from broker.core.errors import BrokerError, NodeUnreachable, SlurmUnavailable, StepFailed
from broker.core.leases import Lease, LeaseState
from broker.db import jobs, leases, steps
from broker.db.engine import reading
from broker.reconcile import attend, waiter
from broker.reconcile.driver import Task
from broker.reconcile.join import HOME_STEP
from broker.reconcile.world import World

log = logging.getLogger("broker.unattended")

_BOOTS = frozenset({LeaseState.REQUESTED, LeaseState.LAUNCHING, LeaseState.BOOTSTRAPPING, LeaseState.READY})
# Shorter: a slurmctld that has just been started again is about to start the waiter anew (22.05), and a job that has just
# been given its nodes has none yet. Longer: a machine that boots fast starts the job without its home.
_WAITERLESS = timedelta(seconds=10)
# A second look: what a list of jobs says was true a moment ago, and a home may have been taken away since.
_HOMELESS_RUN = timedelta(seconds=3)
_WHY = "Slurm was restarted and no longer waited for the job's home"


class Unattended:
    """Remembers since when a job is without its waiter, or runs without its home."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[tuple[int, str], datetime] = {}

    def find(self) -> Iterable[Task]:
        """One task while nodes are ours."""
        with reading(self._world.engine) as db:
            held = leases.in_states(db, _BOOTS)
        if held:
            yield Task(key="unattended", run=self.look)

    def look(self) -> None:
        """A batch job starts anew, with a waiter; a home is brought for srun and salloc, which end if it comes too late."""
        # Jobs of other partitions pass the waiter without a home.
        ours = {shape.partition for shape in self._world.site.shapes.values()}
        started = {"CONFIGURING", "RUNNING"}
        seen = [job for job in self._world.slurm.jobs() if job.state in started and job.partition in ours]
        found = {}
        # Read after Slurm was asked: a home is there before its job runs.
        with reading(self._world.engine) as db:
            mounted = {(row.job_id, row.lease_id) for row in jobs.open_jobs(db) if row.mounted_at is not None}
            held = {lease.node: lease for lease in leases.in_states(db, _BOOTS)}
            joined = steps.finished(db, HOME_STEP, [LeaseState.BOOTSTRAPPING, LeaseState.READY])
        for job in seen:
            without = [held[node] for node in job.nodes if node in held and (job.id, held[node].id) not in mounted]
            if job.state == "RUNNING":
                without = [lease for lease in without if lease.state is LeaseState.READY]
            if without and not self._is_waited_for(job):
                found[job.id, job.state] = (job, [lease for lease in without if lease.id in joined])
        now = self._world.clock()
        for key in self._since.keys() - found.keys():
            del self._since[key]
        for key, (job, homeless) in found.items():
            grace = _HOMELESS_RUN if job.state == "RUNNING" else _WAITERLESS
            if now - self._since.setdefault(key, now) >= grace:
                self._mend(job, homeless, now)

    def _is_waited_for(self, job: Job) -> bool:
        return job.state == "CONFIGURING" and waiter.is_read(self._world.site.jobs_folder / f"{job.id}.fifo")

    def _mend(self, job: Job, homeless: list[Lease], now: datetime) -> None:
        log.error("job=%s state=%s nodes=%s %s", job.id, job.state, ",".join(job.nodes), _WHY)
        try:
            if job.batch:
                self._world.slurm.requeue(job.id)
                self._world.reruns[job.id] = now
                self._world.slurm.set_admin_comment(job.id, f"broker: {_WHY}: it is started anew")
            elif job.state == "RUNNING":
                said = f"broker: {_WHY}, and it began without it. The job is cancelled: submit it again"
                self._world.slurm.set_admin_comment(job.id, said)
                self._world.slurm.cancel(job.id)
        except SlurmUnavailable:
            raise
        except BrokerError as exc:  # it ended in this moment
            log.info("job=%s is left alone: %s", job.id, exc)
            return
        if not job.batch and job.state == "CONFIGURING":
            for lease in homeless:
                try:
                    attend.bring_home(self._world, job, lease)
                except (NodeUnreachable, StepFailed) as exc:
                    log.warning("job=%s node=%s its home cannot be brought yet: %s", job.id, lease.node, exc)
