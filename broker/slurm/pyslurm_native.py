"""Runs as a process of its own: answers, from pyslurm, the questions that come line by line as JSON on standard input.

pyslurm keeps Python's lock while it waits for slurmctld, and its C code may end the process it runs in: neither may
happen to the daemon. The only file that loads pyslurm (GPL-2.0), and it imports nothing of ours; it and the daemon
share numbers and texts over two pipes. Not imported by anything (docs/decisions/0007).
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_UNREADABLE = "\ufffd"


def main() -> None:
    """One line of JSON for each line read: `{"answer": …}`, or `{"error": text}`; ends with standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libslurm prints where it likes
    try:
        slurm: Any = importlib.import_module("pyslurm")
    except ImportError as exc:
        _say(answers, {"error": f"pyslurm cannot be loaded: {exc}"})
        return
    deeds: dict[str, Callable[..., object]] = {
        "hello": lambda: _hello(slurm),
        "nodes": lambda: [_node(node) for node in slurm.Nodes.load().values()],
        "jobs": lambda: [_job(job) for job in slurm.Jobs.load().values()],
        "job": lambda job_id: _one_job(slurm, job_id),
        "update_job": lambda job_id, **changes: _update_job(slurm, job_id, **changes),
        "power_down_force": lambda nodes, reason: slurm.Node(nodes).modify(
            slurm.Node(state="POWER_DOWN_FORCE", reason=reason)
        ),
    }
    _say(answers, {"answer": "ready"})
    for line in sys.stdin:
        wanted = json.loads(line)
        try:
            answer = {"answer": deeds[wanted["do"]](**wanted["with"])}
        except slurm.PyslurmError as exc:
            answer = {"error": " ".join(str(exc).split())}
        _say(answers, answer)


def _say(answers: Any, what: dict[str, object]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _hello(slurm: Any) -> dict[str, str]:
    """The release of Slurm that pyslurm was built for, and slurmctld's."""
    return {"pyslurm": slurm.__version__, "slurmctld": slurm.slurmctld.Config.load().version}


def _node(node: Any) -> dict[str, str | None]:
    return {"name": node.name, "state": node.state, "reason": _text(node, "reason")}


def _one_job(slurm: Any, job_id: int) -> list[dict[str, object]]:
    job = slurm.Job.load(job_id)
    if job.id != job_id:  # of a job array pyslurm takes the first task that slurmctld names
        return [_job(task) for task in slurm.Jobs.load().values() if task.id == job_id]
    return [_job(job)]


def _job(job: Any) -> dict[str, object]:
    return {
        "id": job.id,
        "name": _text(job, "name"),
        "user": job.user_name,
        "uid": job.user_id,
        "account": _text(job, "account"),
        "partition": _text(job, "partition"),
        "state": job.state,
        "reason": _text(job, "state_reason"),
        "nodes": _text(job, "allocated_nodes"),
        "comment": _text(job, "comment"),
        "admin_comment": _text(job, "admin_comment"),
        "time_limit_minutes": job.time_limit,
        "submitted_at": job.submit_time,
        "started_at": job.start_time,
        "ended_at": job.end_time,
        "batch": job.is_batch_job,
    }


def _text(of: Any, name: str) -> str | None:
    """pyslurm reads every text as UTF-8, and one user's other bytes must not hide everybody's jobs."""
    try:
        text: str | None = getattr(of, name)
    except UnicodeDecodeError:
        return _UNREADABLE
    return text


def _update_job(slurm: Any, job_id: int, **changes: object) -> None:
    if changes.get("begin_time") == "now":
        changes["begin_time"] = int(time.time())
    slurm.Job(job_id).modify(slurm.JobSubmitDescription(**changes))


if __name__ == "__main__":
    main()
