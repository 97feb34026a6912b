"""An export of `sacct`: a site replays its own month. The runs that are over become jobs."""

from datetime import UTC, datetime, tzinfo
from pathlib import Path

from broker.accounting.columns import UnreadableExport
from broker.accounting.export import read
from broker.accounting.history import current
from broker.accounting.tres import counts
from broker.simulate.trace import BadLine, Trace, TraceJob, Unreadable, made


def read_sacct(path: Path, *, zone: tzinfo | None, count: str) -> Trace:
    """The runs that ended, steps aside. `zone`: whose wall clock the times are (None: UTC).

    `count`: what a device is, `gpus` or `cpus`; runs without one are left out with that reason.
    Unreadable: a column that is needed is not there, or no line is a job.
    """
    try:
        export = read(path, zone=zone, needs=("submit", "alloctres") if count == "gpus" else ("submit",))
    except UnreadableExport as exc:
        raise Unreadable(str(exc)) from exc
    bad = [BadLine(number=line.number, reason=line.reason) for line in export.bad]
    jobs: list[tuple[int, TraceJob]] = []
    for row in current(export.runs).runs.sort("line").iter_rows(named=True):
        devices = sum(number for _, number in counts(row["gpus"] or "")) if count == "gpus" else row["cpus"]
        if not row["is_over"]:
            reason = "it has not ended"
        elif row["submitted"] is None:
            reason = "no submit time"
        elif row["elapsed"] <= 0:
            reason = "it did not run"
        elif not devices:
            reason = "no GPU" if count == "gpus" else "no processors"
        else:
            limit = row["limit"]
            job = TraceJob(
                id=row["job_id"],
                submitted_s=float(row["submitted"]),
                length_s=float(row["elapsed"]),
                devices=devices,
                limit_s=None if limit is None else float(limit),
            )
            jobs.append((row["submitted"], job))
            continue
        bad.append(BadLine(number=row["line"], reason=reason))
    first = min((at for at, _ in jobs), default=0)
    origin = datetime.fromtimestamp(first, UTC).replace(minute=0, second=0, microsecond=0)
    return made(
        (_shifted(job, origin.timestamp()) for _, job in jobs),
        sorted(bad, key=lambda line: line.number),
        origin,
        str(path),
    )


def _shifted(job: TraceJob, origin_s: float) -> TraceJob:
    return TraceJob(
        id=job.id,
        submitted_s=job.submitted_s - origin_s,
        length_s=job.length_s,
        devices=job.devices,
        limit_s=job.limit_s,
    )
