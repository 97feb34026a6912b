"""GAIA's csv: `arrival_time,length,cpus`, in whatever unit its maker chose; the caller must know which."""

import csv
from pathlib import Path

from broker.simulate.text_file import opened
from broker.simulate.trace import BadLine, Trace, TraceJob, Unreadable, made

_COLUMNS = ("arrival_time", "length", "cpus")


def read_gaia(path: Path, seconds_per_unit: float) -> Trace:
    """The jobs of a file whose times are in units of `seconds_per_unit`. Unreadable: columns are missing, or no job."""
    jobs: list[TraceJob] = []
    bad: list[BadLine] = []
    with opened(path) as lines:
        rows = csv.reader(lines)
        header = [name.strip() for name in next(rows, [])]
        if missing := [name for name in _COLUMNS if name not in header]:
            raise Unreadable(f"{path}: line 1 has no column {', '.join(missing)}; a GAIA csv has {', '.join(_COLUMNS)}")
        places = [header.index(name) for name in _COLUMNS]
        for row in rows:
            if not row:
                continue
            try:
                arrival, length, devices = (float(row[place]) for place in places)
            except (ValueError, IndexError):
                bad.append(BadLine(number=rows.line_num, reason="not three numbers"))
                continue
            if reason := _unfit(arrival, length, devices):
                bad.append(BadLine(number=rows.line_num, reason=reason))
                continue
            jobs.append(
                TraceJob(
                    id=str(rows.line_num - 1),
                    submitted_s=_seconds(arrival, seconds_per_unit),
                    length_s=_seconds(length, seconds_per_unit),
                    devices=int(devices),
                )
            )
    return made(jobs, bad, None, str(path))


def _unfit(arrival: float, length: float, devices: float) -> str | None:
    # Written so that NaN fails each of them.
    if not 0 <= arrival < float("inf"):
        return "arrival_time is not a time after the start"
    if not 0 < length < float("inf"):
        return "length is not above 0"
    if not (1 <= devices < 1e6 and devices == int(devices)):
        return "cpus is not a whole number above 0"
    return None


def _seconds(amount: float, unit: float) -> float:
    # 25.408055555555556 h are 91469 s: without rounding a whole second may fall to the one before.
    return amount if unit == 1.0 else round(amount * unit, 6)
