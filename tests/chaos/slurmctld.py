"""slurmctld as the broker meets it: power save, PrologSlurmctld, requeues. Modelled on what was measured on 22.05.8.

Times are seconds of the world's clock. One step is `tick`; what the daemon asks comes in between, under the same lock.
"""

import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

from chaos.machines import Machine, Machines

from broker.core.demand import Job
from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.nodes import Node
from broker.slurm import hostlist

_SHIM = Path(__file__).parents[2] / "slurm_plugins" / "shim.py"
_WAITS_LONGER = 120.0
"""LIMIT of the waiter: so long after ResumeTimeout."""
_ENDED = frozenset({"COMPLETED", "CANCELLED", "NODE_FAIL"})


@dataclass(frozen=True, kw_only=True)
class Times:
    """slurm.conf's, in seconds. `requeue`: cred_expire + 1, after which a requeued job may start again."""

    resume_timeout: float = 300.0
    suspend: float = 30.0
    suspend_timeout: float = 20.0
    requeue: float = 121.0
    slurmd_timeout: float = 60.0


@dataclass(eq=False)
class Run:
    """One start of a job. `alive`: the machines on which its processes still are."""

    number: int
    machines: tuple[Machine, ...]
    started: float
    alive: set[Machine]
    finished_at: float | None = None
    is_stray: bool = False
    """Slurm took the job away from it before it had finished."""


@dataclass
class SlurmJob:
    id: int
    user: str
    size: int
    seconds: float
    batch: bool
    comment: str
    submitted: float
    state: str = "PENDING"
    reason: str = "None"
    begin: float = 0.0
    held: bool = False
    nodes: tuple[str, ...] = ()
    admin_comment: str = ""
    waiter: int | None = None
    """The FIFO that its PrologSlurmctld reads. Slurm lets one of a requeued job wait on, and starts the job nowhere
    before it has ended."""
    waits_since: float = 0.0
    let_go: bool = False
    runs: list[Run] = field(default_factory=list)
    ended: float | None = None
    resume_calls: list[float] = field(default_factory=list)
    """When ResumeProgram was called for it."""


@dataclass
class SlurmNode:
    """`power`: off, waking, on, stopping. `seen`: when its slurmd last answered."""

    name: str
    power: str = "off"
    since: float = 0.0
    down: bool = False
    reason: str | None = None
    job: int | None = None
    seen: float = 0.0
    idle_since: float = 0.0


class Slurmctld:
    """`wrong` collects what must never happen: a job that starts without its home, or while its last run still works."""

    def __init__(
        self,
        lock: threading.RLock,
        seconds: Callable[[], float],
        machines: Machines,
        nodes: Iterable[str],
        spool: Path,
        times: Times,
    ) -> None:
        self.lock = lock
        self._seconds = seconds
        self._machines = machines
        self._spool = spool
        self.times = times
        self.node_table = {name: SlurmNode(name=name) for name in nodes}
        self.job_table: dict[int, SlurmJob] = {}
        self.away_until = 0.0
        self.wrong: list[str] = []
        self._intents: list[tuple[str, list[str], dict[str, object] | None]] = []
        self._shim = _shim(seconds)
        machines.controller_answers = self.answers
        machines.processes_end = self._processes_end

    # --- what users and the world do to it

    def submit(
        self, user: str = "alice", *, size: int = 1, seconds: float = 20.0, batch: bool = True, comment: str = ""
    ) -> int:
        with self.lock:
            job_id = len(self.job_table) + 1
            self.job_table[job_id] = SlurmJob(job_id, user, size, seconds, batch, comment, self._seconds())
            return job_id

    def scancel(self, job_id: int) -> None:
        with self.lock:
            job = self.job_table[job_id]
            if job.state not in _ENDED:
                self._kill_waiter(job)
                self._leave_nodes(job)
                job.state, job.ended = "CANCELLED", self._seconds()

    def go_away(self, seconds: float, restart: bool) -> None:
        """Answers nobody for so long; `restart`: its children, the waiters, die with it and are started again."""
        with self.lock:
            self.away_until = max(self.away_until, self._seconds() + seconds)
            if restart:
                for job in self.job_table.values():
                    self._kill_waiter(job)

    def hurry(self) -> None:
        """What an operator does when the trouble is over: release held jobs, let delayed ones start now."""
        with self.lock:
            for job in self.job_table.values():
                if job.state == "PENDING":
                    job.held = False
                    job.begin = min(job.begin, self._seconds())

    def answers(self) -> bool:
        return self._seconds() >= self.away_until

    def close(self) -> None:
        with self.lock:
            for job in self.job_table.values():
                self._kill_waiter(job)

    # --- what the daemon sees and does (`SlurmClient`)

    def nodes(self) -> list[Node]:
        with self.lock:
            self._answer()
            return [self._shown(node) for node in self.node_table.values()]

    def jobs(self, ids: list[int] | None = None) -> list[Job]:
        with self.lock:
            self._answer()
            return [self._job(job) for job in self.job_table.values() if ids is None or job.id in ids]

    def power_down_force(self, names: list[str], reason: str) -> None:
        with self.lock:
            self._answer()
            self._ends(self._seconds())  # what has ended is not requeued
            for name in names:
                node = self.node_table[name]
                if node.power == "stopping" or (node.power == "off" and not node.down):
                    continue
                if node.job is not None:
                    self._requeue(self.job_table[node.job])
                self._power_down(node, reason)

    def set_down(self, names: list[str], reason: str) -> None:
        with self.lock:
            self._answer()
            self._ends(self._seconds())  # what has ended is not requeued
            for name in names:
                node = self.node_table[name]
                node.down, node.reason = True, reason
                if node.job is not None:
                    self._requeue(self.job_table[node.job])

    def set_admin_comment(self, job_id: int, text: str) -> None:
        with self.lock:
            self._answer()
            if job_id in self.job_table:
                self.job_table[job_id].admin_comment = text

    def requeue(self, job_id: int) -> None:
        with self.lock:
            self._answer()
            job = self.job_table.get(job_id)
            if job is None or job.state not in {"CONFIGURING", "RUNNING"} or not job.batch:
                raise BrokerError(f"scontrol requeue {job_id}: Slurm refused: Job is pending execution, or has ended")
            self._requeue(job)

    def requeue_now(self, job_id: int) -> None:
        with self.lock:
            self._pending(job_id).begin = self._seconds()

    def start_not_before(self, job_id: int, at: datetime) -> None:
        with self.lock:
            self._pending(job_id).begin = at.timestamp()

    def hold(self, job_id: int) -> None:
        with self.lock:
            self._pending(job_id).held = True

    def cancel(self, job_id: int) -> None:
        with self.lock:
            self._answer()
            self.scancel(job_id)

    def _pending(self, job_id: int) -> SlurmJob:
        self._answer()
        job = self.job_table.get(job_id)
        if job is None or job.state != "PENDING":
            raise BrokerError(f"scontrol update JobId={job_id}: Slurm refused: Job is no longer pending execution")
        return job

    def _answer(self) -> None:
        if not self.answers():
            raise SlurmUnavailable("scontrol: Unable to contact slurm controller")

    def _shown(self, node: SlurmNode) -> Node:
        flags = {"CLOUD"}
        flags |= {
            "off": {"POWERED_DOWN"},
            "waking": {"POWERING_UP", "NOT_RESPONDING"},
            "stopping": {"POWERING_DOWN"},
        }.get(node.power, set())
        if node.down:
            flags.add("NOT_RESPONDING")
        state = "DOWN" if node.down else "ALLOCATED" if node.job is not None else "IDLE"
        return Node(name=node.name, state=state, flags=frozenset(flags), reason=node.reason)

    def _job(self, job: SlurmJob) -> Job:
        return Job(
            id=job.id,
            name=f"job{job.id}",
            user=job.user,
            uid=1001,
            account=None,
            partition="cloud",
            state=job.state,
            reason=job.reason,
            nodes=job.nodes,
            comment=job.comment,
            admin_comment=job.admin_comment,
            time_limit=timedelta(hours=1),
            submitted_at=datetime.fromtimestamp(job.submitted, UTC),
            started_at=datetime.fromtimestamp(job.runs[-1].started, UTC) if job.runs else None,
            ended_at=datetime.fromtimestamp(job.ended, UTC) if job.ended else None,
            batch=job.batch,
        )

    # --- its own life

    def tick(self) -> None:
        """One round of its threads. Processes on machines go on without it."""
        with self.lock:
            now = self._seconds()
            self._processes(now)
            if self.answers():
                self._ends(now)
                self._waiters(now)
                self._registrations(now)
                self._timeouts(now)
                self._starts(now)
                self._allocate(now)
                self._power_save(now)
            intents, self._intents = self._intents, []
        for verb, nodes, resume in intents:  # its programs run beside it
            self._shim.leave_intent(str(self._spool / "intents"), verb, hostlist.fold(nodes), resume)
        if intents:
            self._shim.knock(str(self._spool / "knock"))

    def _processes(self, now: float) -> None:
        for job in self.job_table.values():
            for run in job.runs:
                if run.finished_at is not None or len(run.alive) < len(run.machines):
                    continue
                # A process that cannot write home waits for it.
                if now >= run.started + job.seconds and all(
                    self._machines.reaches_home(machine, job.user) for machine in run.alive
                ):
                    run.finished_at = now
                    run.alive = set()

    def _processes_end(self, machine: Machine) -> None:
        for job in self.job_table.values():
            for run in job.runs:
                run.alive.discard(machine)

    def _ends(self, now: float) -> None:
        for job in self.job_table.values():
            if job.state == "RUNNING" and job.runs[-1].finished_at is not None:
                self._leave_nodes(job)
                job.state, job.ended = "COMPLETED", now

    def _leave_nodes(self, job: SlurmJob) -> None:
        now = self._seconds()
        for name in job.nodes:
            node = self.node_table[name]
            node.job, node.idle_since = None, now
        if job.runs:
            for machine in list(job.runs[-1].alive):
                if machine.slurmd is not None and self._machines.overlay_node(machine) == machine.slurmd:
                    job.runs[-1].alive.discard(machine)
        if job.state != "RUNNING":
            job.nodes = ()

    def _requeue(self, job: SlurmJob) -> None:
        self._leave_nodes(job)
        if job.runs and job.state == "RUNNING":
            job.runs[-1].is_stray = job.runs[-1].finished_at is None
        job.nodes, job.let_go = (), False
        if job.batch:
            job.state, job.reason, job.begin = "PENDING", "BeginTime", self._seconds() + self.times.requeue
        else:
            self._kill_waiter(job)
            job.state, job.ended = "NODE_FAIL", self._seconds()

    def _waiters(self, now: float) -> None:
        for job in self.job_table.values():
            if job.waiter is None:
                if job.state == "CONFIGURING" and not job.let_go:
                    self._start_waiter(job)
                continue
            words = ""
            with contextlib.suppress(BlockingIOError):
                words = os.read(job.waiter, 4000).decode()
            configuring = job.state == "CONFIGURING"
            if words:
                self._end_waiter(job)
                if words.startswith("end"):
                    self.scancel(job.id)
                if words.startswith("start"):
                    job.let_go = configuring and job.state == "CONFIGURING"
                elif configuring and job.state == "CONFIGURING":
                    self._requeue(job)
            elif now - job.waits_since > self.times.resume_timeout + _WAITS_LONGER:
                self._end_waiter(job)
                if configuring:
                    self._requeue(job)

    def _files(self, job: SlurmJob) -> tuple[Path, Path]:
        folder = self._spool / "jobs"
        return folder / f"{job.id}.job", folder / f"{job.id}.fifo"

    def _start_waiter(self, job: SlurmJob) -> None:
        """As `slurm_plugins/prolog_slurmctld.sh` does."""
        file, fifo = self._files(job)
        file.unlink(missing_ok=True)
        fifo.unlink(missing_ok=True)
        fresh = fifo.with_name(
            f".tmp-{job.id}.fifo"
        )  # its age must be told by the world's clock before anybody sees it
        os.mkfifo(fresh)
        os.utime(fresh, (self._seconds(), self._seconds()))
        job.waiter, job.waits_since = os.open(fresh, os.O_RDWR | os.O_NONBLOCK), self._seconds()
        fresh.rename(fifo)
        hidden = file.with_name(f".tmp-{job.id}")
        nodes = hostlist.fold(job.nodes)
        hidden.write_text(f"job={job.id}\nuser={job.user}\nuid=1001\nnodes={nodes}\npartition=cloud\n")
        hidden.rename(file)
        self._shim.knock(str(self._spool / "knock"))

    def _end_waiter(self, job: SlurmJob) -> None:
        """It ends by itself and takes its files away."""
        self._kill_waiter(job)
        for file in self._files(job):
            file.unlink(missing_ok=True)

    def _kill_waiter(self, job: SlurmJob) -> None:
        """By SIGKILL: its files stay."""
        if job.waiter is not None:
            os.close(job.waiter)
            job.waiter = None

    def _registrations(self, now: float) -> None:
        for node in self.node_table.values():
            machine = self._machines.behind(node.name) if node.power in {"waking", "on"} else None
            if machine is not None:
                node.seen = now
                self._end_strays(machine)
                if node.power == "waking":
                    node.power, node.since, node.idle_since = "on", now, now
                node.down = False

    def _end_strays(self, machine: Machine) -> None:
        """A slurmd that registers says what runs there; what should not is ended."""
        for job in self.job_table.values():
            for run in job.runs:
                if machine in run.alive and not (job.state == "RUNNING" and run is job.runs[-1]):
                    run.alive.discard(machine)

    def _timeouts(self, now: float) -> None:
        late = [
            node
            for node in self.node_table.values()
            if node.power == "waking" and now - node.since > self.times.resume_timeout
        ]
        for node in late:
            node.power, node.down, node.reason = "off", True, "ResumeTimeout reached"
            if node.job is not None:
                self._requeue(self.job_table[node.job])
        if late:
            self._intents.append(("resume_failed", [node.name for node in late], None))
        for node in self.node_table.values():
            if node.power == "on" and not node.down and now - node.seen > self.times.slurmd_timeout:
                node.down, node.reason = True, "Not responding"
                if node.job is not None:
                    self._requeue(self.job_table[node.job])

    def _starts(self, now: float) -> None:
        for job in self.job_table.values():
            nodes = [self.node_table[name] for name in job.nodes]
            if job.state != "CONFIGURING" or not job.let_go or not all(node.power == "on" for node in nodes):
                continue
            behind = [self._machines.behind(node.name) for node in nodes]
            machines = tuple(machine for machine in behind if machine is not None)
            if len(machines) < len(nodes):
                continue  # one does not answer in this moment
            for machine in machines:
                if not self._machines.reaches_home(machine, job.user):
                    self.wrong.append(f"job {job.id} started on {machine.label}, where {job.user} has no home")
            for run in job.runs:
                if strays := [m.label for m in run.alive if self._machines.reaches_home(m, job.user)]:
                    self.wrong.append(f"job {job.id} started again while run {run.number} still works on {strays}")
            job.runs.append(Run(number=len(job.runs) + 1, machines=machines, started=now, alive=set(machines)))
            job.state = "RUNNING"

    def _allocate(self, now: float) -> None:
        woken: list[str] = []
        jobs: list[dict[str, object]] = []
        for job in self.job_table.values():
            if job.state != "PENDING" or job.held or job.begin > now or job.waiter is not None:
                continue
            free = [n for n in self.node_table.values() if n.job is None and not n.down and n.power != "stopping"]
            free.sort(key=lambda node: (node.power != "on", node.power != "waking"))
            if len(free) < job.size:
                continue
            chosen = free[: job.size]
            job.nodes, job.state, job.let_go = tuple(node.name for node in chosen), "CONFIGURING", False
            own = []
            for node in chosen:
                node.job = job.id
                if node.power == "off":
                    node.power, node.since, node.reason = "waking", now, None
                    own.append(node.name)
            if own:
                woken += own
                job.resume_calls.append(now)
                jobs.append({"job_id": job.id, "nodes": hostlist.fold(own)})
        if woken:
            self._intents.append(("resume", woken, {"jobs": jobs, "all_nodes": hostlist.fold(woken)}))

    def _power_save(self, now: float) -> None:
        for node in self.node_table.values():
            if node.power == "on" and node.job is None and not node.down and now - node.idle_since > self.times.suspend:
                self._power_down(node, None)
            elif node.power == "stopping" and now - node.since > self.times.suspend_timeout:
                node.power, node.down = "off", False

    def _power_down(self, node: SlurmNode, reason: str | None) -> None:
        node.power, node.since, node.down = "stopping", self._seconds(), False
        node.reason = reason or node.reason
        self._intents.append(("suspend", [node.name], None))


def _shim(seconds: Callable[[], float]) -> ModuleType:
    """The real shim, with the world's clock."""
    spec = importlib.util.spec_from_file_location("chaos_shim", _SHIM)
    if spec is None or spec.loader is None:
        raise ImportError(_SHIM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.time = type("WorldTime", (), {"time": staticmethod(seconds)})
    return module
