"""Slurm's answers as our words. Pure; the commands run in `client.py`.

Users choose names and comments freely, line breaks and `State=RUNNING` included. So jobs are read from `squeue` with a
separator that nobody can guess, not from `scontrol show jobs`, where such text is indistinguishable from fields.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from broker.core.demand import Job
from broker.core.errors import BrokerError
from broker.core.nodes import Node
from broker.slurm import hostlist

_JOB_FIELDS = (
    "jobid", "name", "username", "userid", "account", "partition", "state", "reason", "nodelist", "comment",
    "admin_comment", "timelimit", "submittime", "starttime", "endtime", "batchflag",
)  # fmt: skip

_NOTHING = frozenset({"", "(null)", "N/A", "n/a", "None", "NONE", "Unknown"})
_NO_LIMIT = _NOTHING | {"UNLIMITED", "NOT_SET", "INVALID", "Partition_Limit"}
BEFORE_START = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
BEFORE_END = BEFORE_START | {"CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"}

# The OS text before State comes from the node: of two matches the last one is Slurm's own.
_NODE = re.compile(r"NodeName=(?P<name>\S+) (?:.* )?State=(?P<state>\S+) ThreadsPerCore=\d+ (?P<rest>.*)")
_REASON = re.compile(r" Reason=(?P<reason>.*?)(?: \[[^\[\]@]+@[^\[\]@]+\])?(?:  ?(?:Comment|Extra)=.*)?\s*$")


def parse_nodes(text: str) -> list[Node]:
    """`scontrol -o show nodes`. BrokerError: a line that is none."""
    return [_node(line) for line in text.splitlines() if line.strip() and line.strip() != "No nodes in the system"]


def _node(line: str) -> Node:
    found = _NODE.match(line)
    if found is None:
        raise BrokerError(f"scontrol show nodes answers a line that is no node: {line[:200]!r}")
    base, *flags = found["state"].split("+")
    # Older releases write NOT_RESPONDING as a star, and other signs of sinfo with it.
    if base.rstrip("~#!%$@^-").endswith("*"):
        flags.append("NOT_RESPONDING")
    reason = _REASON.search(" " + found["rest"])
    return Node(
        name=found["name"],
        state=base.rstrip("*~#!%$@^-"),
        flags=frozenset(flags),
        reason=(reason["reason"].strip() or None) if reason else None,
    )


def jobs_format(separator: str) -> str:
    """squeue's long format (SQUEUE_FORMAT2) that `parse_jobs` reads: each field whole and followed by `separator`."""
    return ",".join(f"{field}:0{separator}" for field in _JOB_FIELDS)


def parse_jobs(text: str, separator: str) -> list[Job]:
    """squeue's answer to `jobs_format(separator)`. BrokerError: it is cut off, or a number is none."""
    *cells, rest = text.split(separator)
    if rest.strip() or len(cells) % len(_JOB_FIELDS):
        raise BrokerError(f"squeue answers {len(cells)} fields, no multiple of {len(_JOB_FIELDS)}: {rest[:200]!r}")
    width = len(_JOB_FIELDS)
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    return [_job(dict(zip(_JOB_FIELDS, row, strict=True))) for row in rows]


def _job(fields: Mapping[str, str]) -> Job:
    state = fields["state"]
    try:
        return Job(
            id=int(fields["jobid"]),
            name=fields["name"],
            user=fields["username"],
            uid=int(fields["userid"]),
            account=_text(fields["account"]) or None,
            partition=fields["partition"],
            state=state,
            reason=fields["reason"],
            nodes=hostlist.expand(fields["nodelist"]),
            comment=_text(fields["comment"]),
            admin_comment=_text(fields["admin_comment"]),
            time_limit=_duration(fields["timelimit"]),
            submitted_at=_time(fields["submittime"]),
            # Before the start, and before the end, these are Slurm's guesses.
            started_at=None if state in BEFORE_START else _time(fields["starttime"]),
            ended_at=None if state in BEFORE_END else _time(fields["endtime"]),
            batch=fields["batchflag"] == "1",
        )
    except ValueError as exc:
        raise BrokerError(f"squeue's line on job {fields['jobid'].strip()} cannot be read: {exc}") from exc


def _text(value: str) -> str:
    return "" if value == "(null)" else value


def _time(value: str) -> datetime | None:
    return None if value in _NOTHING else datetime.fromtimestamp(int(value), UTC)


def _duration(value: str) -> timedelta | None:
    """`D-HH:MM:SS`, `HH:MM:SS` or `MM:SS`."""
    if value in _NO_LIMIT:
        return None
    days, dash, clock = value.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if len(parts) not in {2, 3}:
        raise ValueError(f"time limit {value!r}")
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + part
    return timedelta(days=int(days) if dash else 0, seconds=seconds)


def resume_jobs(resume: Mapping[str, object]) -> list[tuple[int, tuple[str, ...]]]:
    """Which job woke which nodes, from SLURM_RESUME_FILE of any release (`nodes` to 22.05, `nodes_resume` from 23.02).

    Entries that say neither are left out: the nodes are woken by the call itself, this only tells for whom.
    """
    entries = resume.get("jobs")
    told: list[tuple[int, tuple[str, ...]]] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        job_id, nodes = entry.get("job_id"), entry.get("nodes_resume", entry.get("nodes"))
        if isinstance(job_id, int) and isinstance(nodes, str):
            told.append((job_id, hostlist.expand(nodes)))
    return told
