"""slurmctld by its commands: the road that works with every release."""

import secrets
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from broker.core.demand import Job
from broker.core.errors import BrokerError, SlurmUnavailable
from broker.core.nodes import Node
from broker.slurm import hostlist, parse
from broker.slurm.said import NoSuchJob, error_of, line

# One argument may hold 128 KiB, and slurmctld holds its locks for a whole update: not one call for 10 000 names. Fewer
# names a call would cost a process and a connection each.
NAMES_A_CALL = 200


class CommandClient:
    """Runs scontrol and squeue. `timeout` is in seconds, for each call.

    Beside the SlurmUnavailable of `SlurmClient` a BrokerError says that Slurm refused (permission, an unknown node), or
    that its commands are not installed.
    """

    def __init__(self, slurm_conf: Path, timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SLURM_CONF": str(slurm_conf),
            "SLURM_TIME_FORMAT": "%s",
        }

    def nodes(self) -> list[Node]:
        return parse.parse_nodes(self._run(["scontrol", "--all", "--oneliner", "show", "nodes"]))

    def jobs(self, ids: Iterable[int] | None = None) -> list[Job]:
        wanted = None if ids is None else set(ids)
        if wanted is not None and not wanted:
            return []
        # Without --array, squeue hides a requeued task of an array in the line of those that never started.
        command = ["squeue", "--noheader", "--all", "--local", "--states=all", "--array"]
        if wanted is not None and len(wanted) == 1:  # for more, squeue itself reads all jobs
            command.append(f"--jobs={next(iter(wanted))}")
        separator = "x" + secrets.token_hex(8)  # a digit first would be read as the width of the column
        try:
            # By the environment: other users can read an argument list in time to put it into a job's name.
            text = self._run(command, {"SQUEUE_FORMAT2": parse.jobs_format(separator)})
        except NoSuchJob:
            return []
        told = {job.id: job for job in parse.parse_jobs(text, separator)}  # tasks without a job of their own share one
        return [job for job in told.values() if wanted is None or job.id in wanted]

    def set_down(self, nodes: Iterable[str], reason: str) -> None:
        self._update_nodes(nodes, "DOWN", reason)

    def power_down_force(self, nodes: Iterable[str], reason: str) -> None:
        self._update_nodes(nodes, "POWER_DOWN_FORCE", reason)

    def _update_nodes(self, nodes: Iterable[str], state: str, reason: str) -> None:
        names = sorted(set(nodes))
        for start in range(0, len(names), NAMES_A_CALL):
            batch = hostlist.fold(names[start : start + NAMES_A_CALL])
            self._run(["scontrol", "update", f"NodeName={batch}", f"State={state}", f"Reason={line(reason)}"])

    def set_admin_comment(self, job_id: int, text: str) -> None:
        try:
            self._update_job(job_id, f"AdminComment={line(text)}")
        except NoSuchJob:
            return

    def requeue(self, job_id: int) -> None:
        self._run(["scontrol", "requeue", f"{job_id:d}"])

    def requeue_now(self, job_id: int) -> None:
        self._update_job(job_id, "StartTime=now")

    def start_not_before(self, job_id: int, at: datetime) -> None:
        # Epoch seconds: a date would be read in the time zone of whichever machine reads it.
        self._update_job(job_id, f"StartTime=uts{int(at.timestamp())}")

    def hold(self, job_id: int) -> None:
        # uhold: what an operator's hold stops, only an operator may let go.
        self._run(["scontrol", "uhold", f"{job_id:d}"])

    def cancel(self, job_id: int) -> None:
        try:
            self._run(["scancel", f"{job_id:d}"])
        except NoSuchJob:
            return

    def _update_job(self, job_id: int, change: str) -> None:
        self._run(["scontrol", "update", f"JobId={job_id:d}", change])

    def _run(self, command: list[str], environment: Mapping[str, str] | None = None) -> str:
        doing = " ".join(command[:4])
        try:
            done = subprocess.run(
                command,
                env={**self._environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise SlurmUnavailable(f"{doing}: slurmctld did not answer within {self._timeout:g} s") from exc
        except OSError as exc:
            raise BrokerError(f"{doing}: cannot be run ({exc}): install Slurm's client commands on this host") from exc
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace")
        said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())
        raise error_of(doing, said or f"exit status {done.returncode}")
