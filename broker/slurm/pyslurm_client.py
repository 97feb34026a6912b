"""slurmctld by pyslurm: no process a question, and numbers instead of text. See docs/decisions/0007."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broker.core.demand import Job
from broker.core.errors import SlurmUnavailable
from broker.core.nodes import Node
from broker.slurm import hostlist, parse
from broker.slurm.client import NAMES_A_CALL, CommandClient
from broker.slurm.pyslurm_process import PyslurmProcess
from broker.slurm.said import NoSuchJob, error_of, line


class PyslurmClient:
    """Asks pyslurm, in a process of its own under `python`. `timeout` is in seconds, for each call.

    What pyslurm 25.11.0 cannot do is left to the commands: `hold` for the owner ends its process (it writes through a
    null pointer), `cancel` judges by errno and not by what the call returned, and an empty text means to it that
    nothing changes.

    Beside the SlurmUnavailable of `SlurmClient` a BrokerError says that Slurm refused; PyslurmUnusable is one, too.
    """

    def __init__(self, python: str, slurm_conf: Path, timeout: float = 30.0) -> None:
        self._commands = CommandClient(slurm_conf, timeout)
        self._process = PyslurmProcess(python, slurm_conf, timeout)

    def close(self) -> None:
        """End pyslurm's process."""
        self._process.close()

    def releases(self) -> tuple[str, str]:
        """pyslurm's and slurmctld's, such as `25.11.0` and `25.11.7`: they fit when year and month are the same."""
        told = self._ask("hello")
        return told["pyslurm"], told["slurmctld"]

    def nodes(self) -> list[Node]:
        return [_node(each) for each in self._ask("nodes")]

    def jobs(self, ids: Iterable[int] | None = None) -> list[Job]:
        wanted = None if ids is None else set(ids)
        if wanted is not None and not wanted:
            return []
        if wanted is not None and len(wanted) == 1:
            try:
                return [_job(each) for each in self._ask("job", job_id=next(iter(wanted)))]
            except NoSuchJob:
                return []
        return [_job(each) for each in self._ask("jobs") if wanted is None or each["id"] in wanted]

    def set_down(self, nodes: Iterable[str], reason: str) -> None:
        self._commands.set_down(nodes, reason)

    def power_down_force(self, nodes: Iterable[str], reason: str) -> None:
        names = sorted(set(nodes))
        for start in range(0, len(names), NAMES_A_CALL):
            batch = hostlist.fold(names[start : start + NAMES_A_CALL])
            self._ask("power_down_force", nodes=batch, reason=line(reason))

    def set_admin_comment(self, job_id: int, text: str) -> None:
        if not line(text):
            return self._commands.set_admin_comment(job_id, text)
        try:
            self._ask("update_job", job_id=job_id, admin_comment=line(text))
        except NoSuchJob:
            return None

    def requeue(self, job_id: int) -> None:
        self._commands.requeue(job_id)

    def requeue_now(self, job_id: int) -> None:
        self._ask("update_job", job_id=job_id, begin_time="now")

    def start_not_before(self, job_id: int, at: datetime) -> None:
        self._ask("update_job", job_id=job_id, begin_time=int(at.timestamp()))

    def hold(self, job_id: int) -> None:
        self._commands.hold(job_id)

    def cancel(self, job_id: int) -> None:
        self._commands.cancel(job_id)

    def _ask(self, do: str, **arguments: object) -> Any:
        answer, said = self._process.ask(do, **arguments)
        if said is not None:
            about = "".join(f" {arguments[name]}" for name in ("job_id", "nodes") if name in arguments)
            error = error_of(f"pyslurm {do}{about}", said)
            if isinstance(error, SlurmUnavailable):
                self._process.close()  # libslurm reads slurm.conf once, and it may have moved slurmctld
            raise error
        return answer


def _node(told: Mapping[str, str | None]) -> Node:
    base, *flags = (told["state"] or "UNKNOWN").split("+")
    return Node(name=told["name"] or "", state=base, flags=frozenset(flags), reason=told["reason"])


def _job(told: Mapping[str, Any]) -> Job:
    state = told["state"]
    minutes = told["time_limit_minutes"]
    return Job(
        id=told["id"],
        name=told["name"] or "None",  # pyslurm takes this very text for no text
        user=told["user"],
        uid=told["uid"],
        account=told["account"],
        partition=told["partition"] or "",
        state=state,
        reason=told["reason"] or "None",
        nodes=hostlist.expand(told["nodes"] or ""),
        comment=told["comment"] or "",
        admin_comment=told["admin_comment"] or "",
        time_limit=None if minutes is None else timedelta(minutes=minutes),
        submitted_at=_time(told["submitted_at"]),
        # Before the start, and before the end, these are Slurm's guesses.
        started_at=None if state in parse.BEFORE_START else _time(told["started_at"]),
        ended_at=None if state in parse.BEFORE_END else _time(told["ended_at"]),
        batch=told["batch"],
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
