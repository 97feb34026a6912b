"""The seam to slurmctld. Two roads stand behind it: commands (`client.py`) and pyslurm (`pyslurm_client.py`)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from broker.core.demand import Job
from broker.core.nodes import Node


class SlurmClient(Protocol):
    """Every method raises SlurmUnavailable when slurmctld does not answer in time."""

    def nodes(self) -> list[Node]:
        """Every node, in one call."""

    def jobs(self, ids: Iterable[int] | None = None) -> list[Job]:
        """Every job slurmctld remembers, or those of `ids`; unknown ids are left out."""

    def power_down_force(self, nodes: Iterable[str], reason: str) -> None:
        """Give the nodes up now: their jobs are requeued, SuspendProgram is called, the names become free. In batches."""

    def set_down(self, nodes: Iterable[str], reason: str) -> None:
        """Nobody answers on the nodes any more: their jobs are requeued, and Slurm waits for no word of the nodes. In batches."""

    def set_admin_comment(self, job_id: int, text: str) -> None:
        """Say something to the job's owner; an unknown job is not an error."""

    def requeue(self, job_id: int) -> None:
        """End a batch job that has its nodes; it is pending again, after Slurm's delay for requeued jobs."""

    def requeue_now(self, job_id: int) -> None:
        """Clear the delay Slurm puts on a requeued job."""

    def start_not_before(self, job_id: int, at: datetime) -> None:
        """Slurm shall not try the job again before `at`."""

    def hold(self, job_id: int) -> None:
        """A pending job stays until its owner or an operator releases it (`scontrol release`)."""

    def cancel(self, job_id: int) -> None:
        """End the job, as `scancel` does; one that has ended is not an error."""
