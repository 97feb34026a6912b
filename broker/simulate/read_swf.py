"""The Standard Workload Format of the Parallel Workloads Archive: 18 numbers a line, `;` before what is for people."""

import re
from datetime import UTC, datetime
from pathlib import Path

from broker.simulate.text_file import opened
from broker.simulate.trace import BadLine, Trace, TraceJob, made

_FIELDS = 18
_START = re.compile(r";\s*UnixStartTime:\s*(\d+)")


def read_swf(path: Path) -> Trace:
    """The jobs that ran, their devices being processors. Unreadable: there is none."""
    jobs: list[TraceJob] = []
    bad: list[BadLine] = []
    origin: datetime | None = None
    with opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.lstrip().startswith(";"):
                if said := _START.match(line.strip()):
                    origin = datetime.fromtimestamp(int(said[1]), UTC)
                continue
            if line.strip():
                job = _job(line.split())
                if isinstance(job, str):
                    bad.append(BadLine(number=number, reason=job))
                else:
                    jobs.append(job)
    return made(jobs, bad, origin, str(path))


def _job(fields: list[str]) -> TraceJob | str:
    """The job, or why the line is none. -1 is the format's "unknown"."""
    if len(fields) < _FIELDS:
        return f"fewer than {_FIELDS} fields"
    try:
        submitted, run_time, allocated, requested, limit = (float(fields[place]) for place in (1, 3, 4, 7, 8))
    except ValueError:
        return "a field is not a number"
    if submitted < 0:
        return "no submit time"
    if run_time <= 0:
        return "it did not run"
    devices = int(allocated if allocated > 0 else requested)
    if devices < 1:
        return "no processors"
    return TraceJob(
        id=fields[0],
        submitted_s=submitted,
        length_s=run_time,
        devices=devices,
        limit_s=limit if limit > 0 else None,
    )
