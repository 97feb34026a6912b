"""Which kind of trace a file is, and its reader."""

from datetime import tzinfo
from pathlib import Path

from broker.simulate.read_gaia import read_gaia
from broker.simulate.read_sacct import read_sacct
from broker.simulate.read_swf import read_swf
from broker.simulate.text_file import opened
from broker.simulate.trace import Trace, Unreadable

SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}


def kind_of(path: Path) -> str:
    """`gaia`, `swf` or `sacct`, from the name and the first line that says something. Unreadable: none of them."""
    with opened(path) as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    names = {name.strip().lower() for name in first.replace("|", ",").split(",")}
    if {"arrival_time", "length"} <= names:
        return "gaia"
    if "|" in first and names & {"jobid", "jobidraw"}:
        return "sacct"
    if first.startswith(";") or ".swf" in path.name or len(first.split()) == 18:
        return "swf"
    raise Unreadable(
        f"{path}: its first line is none of: a header with arrival_time,length,cpus (GAIA csv); a header of "
        f"`sacct --parsable2` with JobID|…; a `;` comment or 18 numbers (SWF)"
    )


def read_jobs(path: Path, *, time_unit: str = "seconds", zone: tzinfo | None = None, count: str = "gpus") -> Trace:
    """The jobs of `path`. `time_unit`: of a GAIA csv; `zone`, `count`: of a sacct export. Unreadable: see the text."""
    match kind_of(path):
        case "gaia":
            return read_gaia(path, SECONDS[time_unit])
        case "swf":
            return read_swf(path)
        case _:
            return read_sacct(path, zone=zone, count=count)
