"""Says, where `broker reap` reads it, which machines we keep and until when. `core/living.py` has the words.

A job is let go only after its end stands there: the reaper ends what the last word does not protect.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from broker.core.demand import Job
from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.leases import Lease, LeaseState
from broker.core.living import HeldJob, KeptMachine, LivingWord, from_text, to_text
from broker.db import jobs, leases
from broker.db.engine import reading
from broker.reconcile.driver import Task
from broker.slurm.base import SlurmClient

# The node's dead-man timer and the reaper leave a running job alone for its time limit and this long after it.
_JOB_MARGIN = timedelta(minutes=15)
_NO_LIMIT = timedelta(days=365)
HOLDS = frozenset({"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED"})
"""States of a job that has its nodes."""
_LEAVING = frozenset({LeaseState.DRAINING, LeaseState.RELEASING})


def latest_end(job: Job, now: datetime) -> datetime:
    """When nobody can need the job's machines any more. Only a running job's limit has begun to pass."""
    begun = job.started_at if job.state == "RUNNING" and job.started_at is not None else now
    return begun + (job.time_limit or _NO_LIMIT) + _JOB_MARGIN


def quiet(dead_man: timedelta) -> timedelta:
    """After so long a silence of ours the reaper acts: whoever has not renewed a node for so long has lost it anyway."""
    return 2 * dead_man


class Living:
    """The word in `path`. `quiet`: after so long a silence the machines that run no job are nobody's any more."""

    def __init__(
        self,
        *,
        path: Path,
        engine: Engine,
        slurm: SlurmClient,
        cluster: str,
        quiet: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._path = path
        self._engine = engine
        self._slurm = slurm
        self._cluster = cluster
        self._quiet = quiet
        self._clock = clock
        self._until = self._said_before()
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._asked = 0
        self._written = 0

    def find(self) -> Iterable[Task]:
        """One task."""
        yield Task(key="living", run=self.say)

    def say(self) -> None:
        """Renew the word. Slurm tells until when jobs may run; while it does not answer, what was said before stands."""
        with reading(self._engine) as db:
            keys = [(row.lease_id, row.job_id) for row in jobs.open_jobs(db)]
            nodes = {lease_id: leases.get(db, lease_id).node for lease_id, _ in keys}
        with contextlib.suppress(SlurmUnavailable):
            now = self._clock()
            seen = {job.id: job for job in self._slurm.jobs({job_id for _, job_id in keys})}
            with self._guard:
                for lease_id, job_id in keys:
                    job = seen.get(job_id)
                    if job is not None and job.state == "PENDING":
                        continue  # requeued: it may start here again before its home is taken away
                    holds = job is not None and job.state in HOLDS and nodes[lease_id] in job.nodes
                    self._until[lease_id, job_id] = latest_end(job, now) if holds and job is not None else None
        self._write()

    def promise(self, lease: Lease, job_id: int, until: datetime) -> None:
        """The lease's machine is kept for the job until `until`; on return it stands there. BrokerError: it cannot."""
        with self._guard:
            self._until[lease.id, job_id] = until
        self._write()

    def _write(self) -> None:
        """Write once for everybody who waits: a thousand nodes of one job are not a thousand files."""
        with self._guard:
            self._asked += 1
            ticket = self._asked
        with self._writing:
            if self._written >= ticket:
                return
            with self._guard:
                covers, until = self._asked, dict(self._until)
            self._put(to_text(self._word(until)))
            self._written = covers

    def _word(self, until: dict[tuple[str, int], datetime | None]) -> LivingWord:
        with reading(self._engine) as db:
            bought = [lease for lease in leases.living(db) if lease.label is not None and lease.provider is not None]
            attended = jobs.open_jobs(db)
        now = self._clock()
        held: dict[str, list[HeldJob]] = {}
        for row in attended:
            # A job that nothing is known of yet (we have just started, and Slurm is away) may run for ever.
            end = until.get((row.lease_id, row.job_id), now + _NO_LIMIT)
            if end is not None:
                held.setdefault(row.lease_id, []).append(HeldJob(id=row.job_id, until=end))
        open_keys = {(row.lease_id, row.job_id) for row in attended}
        with self._guard:
            for key in until.keys() - open_keys:
                self._until.pop(key, None)
        return LivingWord(
            cluster=self._cluster,
            said_at=now,
            quiet=self._quiet,
            machines={lease.label or "": self._kept(lease, held.get(lease.id, ()), now) for lease in bought},
        )

    def _kept(self, lease: Lease, held: Iterable[HeldJob], now: datetime) -> KeptMachine:
        leaving = lease.state in _LEAVING
        return KeptMachine(
            label=lease.label or "",
            provider=lease.provider or "",
            node=lease.node,
            # What is to go is not kept anew at every word: if we cannot end it, the reaper's own keys may.
            keep_until=(lease.state_since if leaving else now) + self._quiet,
            jobs=() if leaving else tuple(held),
        )

    def _put(self, text: str) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            # Synced, file and folder: after a power cut the word before it would protect fewer machines.
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as exc:
            raise BrokerError(
                f"{self._path} cannot be written ({exc.strerror}): `broker reap` would end machines that are needed, so "
                "no job is let go meanwhile; make room there"
            ) from exc

    def _said_before(self) -> dict[tuple[str, int], datetime | None]:
        try:
            word = from_text(self._path.read_text())
            with reading(self._engine) as db:
                by_label = {lease.label: lease.id for lease in leases.living(db)}
        except (OSError, ValueError, BrokerError):
            return {}
        return {
            (by_label[label], job.id): job.until
            for label, machine in word.machines.items()
            if label in by_label
            for job in machine.jobs
        }
