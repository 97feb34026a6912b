"""An export of `sacct --parsable2`: a site replays its own month. Tolerant of extra columns, steps and broken lines."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from broker.simulate.text_file import opened
from broker.simulate.trace import BadLine, Trace, TraceJob, Unreadable, made

_GPUS = re.compile(r"(?:^|,)gres/gpu=(\d+)")
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?$")
_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "CONFIGURING", "COMPLETING")


def read_sacct(path: Path, *, zone: tzinfo | None, count: str) -> Trace:
    """The jobs that ended, steps aside. `zone`: whose wall clock the times are (None: UTC).

    `count`: what a device is, `gpus` or `cpus`; jobs without one are left out with that reason.
    Unreadable: a column that is needed is not there, or no line is a job.
    """
    jobs: list[tuple[float, TraceJob]] = []
    bad: list[BadLine] = []
    with opened(path) as lines:
        text = (line.rstrip("\r\n") for line in lines)
        header = [name.strip().lower() for name in next(text, "").split("|")]
        if not header[-1]:  # `--parsable` ends each line with a bar, `--parsable2` does not
            header.pop()
        _check(path, header, count)
        for number, values in _records(text, len(header)):
            if values is None:
                bad.append(BadLine(number=number, reason=f"not {len(header)} fields"))
                continue
            job = _job(dict(zip(header, values, strict=False)), zone or UTC, count)
            if isinstance(job, str):
                bad.append(BadLine(number=number, reason=job))
            elif job is not None:
                jobs.append((job.submitted_s, job))
    first = min((at for at, _ in jobs), default=0.0)
    origin = datetime.fromtimestamp(first, UTC).replace(minute=0, second=0, microsecond=0)
    shifted = [replace(job, submitted_s=at - origin.timestamp()) for at, job in jobs]
    return made(shifted, bad, origin, str(path))


def _check(path: Path, header: list[str], count: str) -> None:
    has = set(header)
    needs = [
        ({"jobid", "jobidraw"}, "JobID"),
        ({"submit"}, "Submit"),
        ({"elapsedraw", "elapsed"}, "ElapsedRaw"),
        ({"alloctres"} if count == "gpus" else {"alloccpus", "ncpus", "alloctres"}, "AllocTRES"),
    ]
    if missing := [name for names, name in needs if not names & has]:
        raise Unreadable(
            f"{path}: line 1 has no column {', '.join(missing)}; export it with "
            f"sacct --parsable2 --allocations --format=JobID,State,Submit,ElapsedRaw,TimelimitRaw,AllocTRES"
        )


def _records(lines: Iterable[str], width: int) -> Iterator[tuple[int, list[str] | None]]:
    """Line number and fields of each record. A SubmitLine or a comment may hold line breaks: such a record goes on
    over the lines that follow, until it is whole; None: it is none."""
    parts: list[str] = []
    began = 0
    for number, line in enumerate(lines, 2):
        if not parts:
            if not line.strip():
                continue
            began = number
        parts.append(line)
        fields = "\n".join(parts).split("|")
        if len(fields) == width + 1 and not fields[-1]:
            fields.pop()
        if len(fields) >= width:
            whole = len(fields) == width
            # What went wrong may have begun on an earlier line: this one may be good by itself.
            alone = line.split("|")
            if not whole and len(parts) > 1 and len(alone) == width:
                yield began, None
                yield number, alone
            else:
                yield began, fields if whole else None
            parts = []
        elif len(parts) > 50:
            yield began, None
            parts = []
    if parts:
        yield began, None


def _job(row: dict[str, str], zone: tzinfo, count: str) -> TraceJob | str | None:
    """The job, why the line is none, or None: a step, which its job's line stands for."""
    identity = row.get("jobid") or row.get("jobidraw") or ""
    if "." in identity:
        return None
    if row.get("state", "").upper().startswith(_ALIVE):
        return "it has not ended"
    submitted = _moment(row["submit"], zone)
    if submitted is None:
        return "no submit time"
    elapsed = _span(row.get("elapsedraw", "")) or _span(row.get("elapsed", "")) or 0.0
    if elapsed <= 0:
        return "it did not run"
    devices = _devices(row, count)
    if devices is None:
        return "no GPU" if count == "gpus" else "no processors"
    limit = row.get("timelimitraw", "")
    return TraceJob(
        id=identity,
        submitted_s=submitted,
        length_s=elapsed,
        devices=devices,
        # sacct prints TimelimitRaw in minutes.
        limit_s=float(limit) * 60 if limit.isdigit() else _span(row.get("timelimit", "")),
    )


def _devices(row: dict[str, str], count: str) -> int | None:
    tres = row.get("alloctres", "")
    if count == "gpus":
        # With typed GPUs sacct names each type beside the total: gres/gpu=4,gres/gpu:a100=4. The total comes first.
        found = _GPUS.search(tres)
        number = int(found[1]) if found else sum(int(n) for n in re.findall(r"gres/gpu:[^=,]+=(\d+)", tres))
    else:
        said = row.get("alloccpus") or row.get("ncpus") or ""
        found = re.search(r"(?:^|,)cpu=(\d+)", tres)
        number = int(said) if said.isdigit() else int(found[1]) if found else 0
    return number or None


def _moment(text: str, zone: tzinfo) -> float | None:
    text = text.strip()
    if text.isdigit():  # SLURM_TIME_FORMAT=%s
        return float(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()


def _span(text: str) -> float | None:
    """Seconds of `123` or `1-02:03:04`."""
    text = text.strip()
    if text.isdigit():
        return float(text)
    clock = _CLOCK.match(text)
    if clock is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
