"""Slurm in memory, for tests of what stands above the seam."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker.core.demand import Job
from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.nodes import Node
from broker.slurm.said import line


class FakeSlurm:
    """A `SlurmClient` whose nodes and jobs the test sets. `available = False`: slurmctld does not answer."""

    def __init__(self) -> None:
        self.available = True
        self.node_table: dict[str, Node] = {}
        self.job_table: dict[int, Job] = {}
        self.power_downs: list[tuple[tuple[str, ...], str]] = []
        """(node names, reason) of each call of `power_down_force`."""
        self.admin_comments: dict[int, str] = {}
        """Job → the text it was last given; unknown jobs included."""
        self.requeued: list[int] = []
        self.requeued_now: list[int] = []
        self.not_before: dict[int, datetime] = {}
        """Job → the time before which Slurm shall not try it."""
        self.held: list[int] = []
        self.cancelled: list[int] = []

    def set_node(self, name: str, state: str, *flags: str, reason: str | None = None) -> None:
        """The node as Slurm shall show it from now on: `set_node("h100-1", "IDLE", "CLOUD", "POWERED_DOWN")`."""
        self.node_table[name] = Node(name=name, state=state, flags=frozenset(flags), reason=reason)

    def set_job(  # every argument is a word of Slurm's own
        self,
        job_id: int,
        state: str = "CONFIGURING",
        *,
        name: str | None = None,
        nodes: Iterable[str] = (),
        user: str = "alice",
        uid: int = 1001,
        partition: str = "h100",
        comment: str = "",
        time_limit: timedelta | None = timedelta(hours=1),
        batch: bool = True,
        reason: str = "None",
    ) -> Job:
        """The job as Slurm shall show it from now on; what it was told before (AdminComment) stays."""
        known = self.job_table.get(job_id)
        job = Job(
            id=job_id,
            name=name or f"job{job_id}",
            user=user,
            uid=uid,
            account=None,
            partition=partition,
            state=state,
            reason=reason,
            nodes=tuple(nodes),
            comment=comment,
            admin_comment=known.admin_comment if known else "",
            time_limit=time_limit,
            submitted_at=datetime(2027, 1, 1, tzinfo=UTC),
            started_at=None,
            ended_at=None,
            batch=batch,
        )
        self.job_table[job_id] = job
        return job

    def nodes(self) -> list[Node]:
        self._answer()
        return list(self.node_table.values())

    def jobs(self, ids: Iterable[int] | None = None) -> list[Job]:
        self._answer()
        wanted = None if ids is None else set(ids)
        return [job for job in self.job_table.values() if wanted is None or job.id in wanted]

    def set_down(self, nodes: Iterable[str], reason: str) -> None:
        self._answer()
        for name in nodes:
            if name in self.node_table:
                self.set_node(name, "DOWN", "CLOUD", reason=reason)
                self._requeue_from({name})

    def power_down_force(self, nodes: Iterable[str], reason: str) -> None:
        self._answer()
        names = tuple(nodes)
        reason = line(reason)
        for name in names:
            if self.node_table and name not in self.node_table:
                raise BrokerError(f"scontrol update NodeName={name}: Invalid node name specified")
        self.power_downs.append((names, reason))
        for name in names:
            if name in self.node_table:
                self.set_node(name, "IDLE", "CLOUD", "POWERING_DOWN", reason=reason)
        self._requeue_from(set(names))

    def set_admin_comment(self, job_id: int, text: str) -> None:
        self._answer()
        text = line(text)
        self.admin_comments[job_id] = text
        if job_id in self.job_table:
            self.job_table[job_id] = replace(self.job_table[job_id], admin_comment=text)

    def requeue(self, job_id: int) -> None:
        self._known(job_id)
        job = self.job_table[job_id]
        if job.state == "PENDING" or not job.batch:
            raise BrokerError(f"scontrol requeue {job_id}: Job is pending execution, or only batch jobs are accepted")
        self.requeued.append(job_id)
        self.job_table[job_id] = replace(job, state="PENDING", reason="BeginTime", nodes=())

    def requeue_now(self, job_id: int) -> None:
        self._known(job_id)
        self.not_before.pop(job_id, None)
        self.requeued_now.append(job_id)

    def start_not_before(self, job_id: int, at: datetime) -> None:
        self._known(job_id)
        self.not_before[job_id] = at

    def hold(self, job_id: int) -> None:
        self._known(job_id)
        self.held.append(job_id)
        self.job_table[job_id] = replace(self.job_table[job_id], reason="JobHeldUser")

    def cancel(self, job_id: int) -> None:
        self._answer()
        if job_id in self.job_table:
            self.cancelled.append(job_id)
            self.job_table[job_id] = replace(self.job_table[job_id], state="CANCELLED", nodes=())

    def _requeue_from(self, names: set[str]) -> None:
        for job in list(self.job_table.values()):
            if job.state in {"CONFIGURING", "RUNNING"} and set(job.nodes) & names:
                self.job_table[job.id] = replace(job, state="PENDING", reason="BeginTime", nodes=())

    def _known(self, job_id: int) -> None:
        self._answer()
        if job_id not in self.job_table:
            raise BrokerError(f"scontrol update JobId={job_id}: Invalid job id specified")

    def _answer(self) -> None:
        if not self.available:
            raise SlurmUnavailable("scontrol: slurmctld did not answer within 30 s")
