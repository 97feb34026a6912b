"""What Slurm and people start: the shim, the waiter, the command line."""

import json
import os
import sys
import threading
from pathlib import Path, PurePosixPath

from measure import Row, Timed, program

from broker.core.demand import Shape
from broker.slurm.plugins import plugins
from broker.slurm.site import SlurmSite

_PYTHON = ["/usr/bin/python3", "-IES", "-c", "pass"]
_BARE = "python3 -IES -c pass"


def rows(folder: Path, n: int) -> list[Row]:
    """The programs as `broker slurm-conf --install` writes them, in `folder`."""
    return [*_shim_rows(folder, n), _waiter_row(folder, n), *_command_rows(n)]


def _shim_rows(folder: Path, n: int) -> list[Row]:
    rows = []
    for daemon in ("alive", "dead"):
        spool = folder / daemon
        shim = installed(folder / f"programs-{daemon}", spool) / "resume"
        shim.symlink_to("shim.py")
        (spool / "intents").mkdir(parents=True)
        os.mkfifo(spool / "knock")
        if daemon == "alive":
            _listen(spool / "knock")
        for names in (1, 1_000, 10_000):
            rows.append(
                Row(
                    what=f"resume shim, {names} name{'s' * (names > 1)}, daemon {daemon}",
                    run=_shim(shim, spool, names, folder),
                    baseline=_BARE,
                    against=lambda: program(_PYTHON),
                    n=n,
                )
            )
    return rows


def _shim(shim: Path, spool: Path, names: int, folder: Path) -> Timed:
    nodes = f"h100-[1-{names}]" if names > 1 else "h100-1"
    wanted = folder / f"resume-{names}.json"
    jobs = [{"job_id": number, "nodes": f"h100-{number}"} for number in range(1, names + 1)]
    wanted.write_text(json.dumps({"jobs": jobs, "all_nodes": nodes}))

    def run() -> float:
        seconds = program([str(shim), nodes], {"SLURM_RESUME_FILE": str(wanted)})
        (intent,) = (spool / "intents").iterdir()  # it must have left exactly one
        intent.unlink()
        return seconds

    return run


def _waiter_row(folder: Path, n: int) -> Row:
    waiter = str(installed(folder / "programs-waiter", folder / "waiter") / "prolog_slurmctld.sh")
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "local"}
    return Row(
        what="waiter, job of another partition",
        run=lambda: program([waiter], environment),
        baseline="sh -c :",
        against=lambda: program(["/bin/sh", "-c", ":"]),
        n=n,
    )


def _command_rows(n: int) -> list[Row]:
    python = sys.executable
    broker = str(Path(python).with_name("broker"))
    bare, against = "python -c pass (venv)", lambda: program([python, "-c", "pass"])
    return [
        Row(what="broker --help", run=lambda: program([broker, "--help"]), baseline=bare, against=against, n=n),
        Row(
            what="broker why 1, no daemon",
            run=lambda: program([broker, "--socket", "/nonexistent/api.sock", "why", "1"], expect=5),
            baseline=bare,
            against=against,
            n=n,
        ),
    ]


def installed(folder: Path, spool: Path) -> Path:
    """The programs as `broker slurm-conf --install` writes them, in `folder`, with their spool in `spool`."""
    folder.mkdir()
    shape = Shape(
        name="h100",
        partition="cloud",
        accelerator="H100",
        accelerator_count=1,
        cpus=1,
        memory_gib=1,
        disk_gib=1,
        nodes=1,
    )
    site = SlurmSite(
        shapes=(shape,),
        addresses={"h100-1": "10.77.0.2"},
        hub="10.77.0.1",
        resume_timeout_s=300,
        suspend_timeout_s=30,
        suspend_time_s=300,
        slurm_version="22.05.8",
        spool=PurePosixPath(spool),
    )
    for plugin in plugins(site):
        path = folder / plugin.name
        path.write_text(plugin.text)
        path.chmod(0o755)
    return folder


def _listen(knock: Path) -> None:
    """A reader on the FIFO, as the daemon is one."""
    reader = os.open(knock, os.O_RDWR)

    def read() -> None:
        while os.read(reader, 4096):
            pass

    threading.Thread(target=read, daemon=True).start()
