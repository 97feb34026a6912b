"""A thousand jobs that wait for their machines: the waiters that slurmctld then holds, as they are installed."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from measure import Figure
from programs import installed

_LIMIT_S = 120.0


def figures(folder: Path, count: int) -> list[Figure]:
    """Start `count` waiters at once, weigh them while they wait, then let them all go."""
    spool = folder / "waiting"
    (spool / "jobs").mkdir(parents=True)
    os.mkfifo(spool / "knock")
    waiter = str(installed(folder / "programs-waiting", spool) / "prolog_slurmctld.sh")
    began = time.monotonic()
    waiting = [
        subprocess.Popen([waiter], env={"SLURM_JOB_ID": str(job), "SLURM_JOB_PARTITION": "cloud"}, stdin=subprocess.DEVNULL)
        for job in range(1, count + 1)
    ]  # fmt: skip
    try:
        _until(lambda: len(list((spool / "jobs").glob("[0-9]*.job"))) == count)
        held = time.monotonic() - began
        time.sleep(1.0)
        processes = [pid for parent in waiting for pid in (parent.pid, *_children(parent.pid))]
        kib = sum(_pss_kib(pid) for pid in processes)
        began = time.monotonic()
        for fifo in (spool / "jobs").glob("*.fifo"):
            with fifo.open("w") as writer:
                writer.write("start\n")
        left = [process.wait(_LIMIT_S) for process in waiting]
        gone = time.monotonic() - began
    finally:
        for process in waiting:
            process.kill()
            process.wait()
    if any(left):
        raise RuntimeError(f"{sum(map(bool, left))} of {count} waiters did not let their job go")
    return [
        Figure(what=f"{count} jobs that wait: memory of their waiters (PSS)", value=kib / 1024, unit="MiB", against="< 2048"),
        Figure(what=f"{count} jobs that wait: processes of their waiters", value=len(processes), unit=""),
        Figure(what=f"{count} jobs that wait: until all waiters stand", value=held, unit="s"),
        Figure(what=f"{count} jobs that wait: until all are let go", value=gone, unit="s"),
    ]  # fmt: skip


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def _until(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + _LIMIT_S
    while not reached():
        if time.monotonic() > limit:
            raise RuntimeError(f"the waiters do not stand after {_LIMIT_S:.0f} s")
        time.sleep(0.1)
