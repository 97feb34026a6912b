"""`sacct --json` and slurmrestd's answers, Slurm 22.05 (v0.0.38) to 25.11 (v0.0.44), as the columns of a text export.

Traps: a number may be wrapped (`{"set", "infinite", "number"}`), a state is one word or a list, start and end are 0 or null where
there is none, and a TRES that is not counted has the count -2 or null. A document has no DBIndex.
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from broker.accounting.bad import BadLine
from broker.accounting.columns import UnreadableExport
from broker.accounting.text import LINE, Piece

_COLUMNS = (
    "cluster", "jobid", "jobidraw", "sluid", "submit", "start", "end", "suspended", "elapsedraw", "state", "account", "user",
    "partition", "qos", "alloctres", "alloccpus", "nodelist", "timelimitraw",
)  # fmt: skip


def piece_of_document(source: str, content: bytes) -> Piece:
    """The jobs of a document; the number of a bad one is its place in `jobs`. UnreadableExport: it is no such document."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:  # too deep a list
        raise UnreadableExport(f"{source} begins as JSON and is none: {exc}") from exc
    jobs = document.get("jobs") if isinstance(document, dict) else None
    if not isinstance(jobs, list):
        raise UnreadableExport(f'{source} has no list "jobs", as `sacct --json` writes it')
    rows: list[dict[str, str]] = []
    numbers: list[int] = []
    bad: list[BadLine] = []
    for number, job in enumerate(jobs, 1):
        try:
            rows.append(_row(job))
            numbers.append(number)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
            bad.append(BadLine(source=source, number=number, reason="no job as sacct --json writes it"))
    frame = pl.DataFrame({name: pl.Series(name, [row[name] for row in rows], pl.String) for name in _COLUMNS})
    return Piece(rows=frame.with_columns(pl.Series(LINE, numbers, pl.UInt32)), bad=bad)


def _row(job: Mapping[str, Any]) -> dict[str, str]:
    time, association = job["time"], job.get("association") or {}
    tres = [entry for entry in job["tres"]["allocated"] if (entry.get("count") or 0) > 0]
    array, het = job.get("array") or {}, job.get("het") or {}
    identity = str(int(job["job_id"]))
    task = _number(array.get("task_id"))
    offset = _number(het.get("job_offset"))
    shown = identity
    if array.get("job_id") and task is not None:
        shown = f"{array['job_id']}_{task}"
    elif het.get("job_id") and offset is not None:
        shown = f"{het['job_id']}+{offset}"
    state = job["state"]["current"]
    cpus = next((str(entry["count"]) for entry in tres if entry["type"] == "cpu"), "")
    row = {
        "cluster": job.get("cluster") or association.get("cluster") or "",
        "jobid": shown,
        "jobidraw": identity,
        "sluid": str(job.get("sluid") or ""),
        "submit": _moment(time["submission"]),
        "start": _moment(time["start"]),
        "end": _moment(time["end"]),
        "suspended": _length(time.get("suspended")),
        "elapsedraw": _length(time["elapsed"]),
        "state": state if isinstance(state, str) else state[0],
        "account": job.get("account") or association.get("account") or "",
        "user": job.get("user") or association.get("user") or "",
        "partition": job.get("partition") or "",
        "qos": job.get("qos") or "",
        "alloctres": ",".join(f"{_name(entry)}={int(entry['count'])}" for entry in tres),
        "alloccpus": cpus,
        "nodelist": job.get("nodes") or "",
        "timelimitraw": str(_number(time.get("limit")) or ""),
    }
    if not all(isinstance(text, str) for text in row.values()):
        raise TypeError("a name that is no text")
    return {name: text.replace("\0", "\ufffd") for name, text in row.items()}


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['type']}/{entry['name']}" if entry.get("name") else str(entry["type"])


def _number(value: Any) -> int | None:
    if isinstance(value, Mapping):
        return int(value["number"]) if value.get("set") and not value.get("infinite") else None
    return None if value is None else int(value)


def _moment(value: Any) -> str:
    return str(_number(value) or "Unknown")


def _length(value: Any) -> str:
    return str(_number(value) or 0)
