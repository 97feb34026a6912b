"""Speaks to a job's waiting PrologSlurmctld (`slurm_plugins/prolog_slurmctld.sh`)."""

import contextlib
import errno
import os
from pathlib import Path

Door = tuple[int, int]
"""One waiter's FIFO: inode and time of its making. The job's next start leaves another one under the same name."""


def door(jobs_folder: Path, job_id: int) -> Door | None:
    """The FIFO that the job's waiter has now; look before Slurm is asked about the job, and tell only this one."""
    with contextlib.suppress(FileNotFoundError):
        return _door((jobs_folder / f"{job_id}.fifo").stat())
    return None


def tell(jobs_folder: Path, job_id: int, words: str, to: Door | None) -> bool:
    """Write one line to the waiter behind `to`. False: it waits no more.

    `start`: the job may start. `end` and a text: its user is told, and the job is cancelled. `gone`: Slurm has requeued
    the job; until its old waiter has ended, it would start it nowhere else.
    """
    writer = _open(jobs_folder / f"{job_id}.fifo")
    if writer is None:
        return False
    try:
        if _door(os.fstat(writer)) != to:
            return False  # what we know of the job is older than this waiter
        os.write(writer, (" ".join(words.split()) + "\n").encode())
    except BrokenPipeError:  # it ended in this moment
        return False
    finally:
        os.close(writer)
    return True


def is_read(fifo: Path) -> bool:
    """Whether a waiter holds its FIFO open."""
    writer = _open(fifo)
    if writer is not None:
        os.close(writer)
    return writer is not None


def _door(stat: os.stat_result) -> Door:
    # An inode alone may be used again at once. Only a line of ours changes the second number, and that ends the waiter.
    return stat.st_ino, stat.st_ctime_ns


def _open(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in {errno.ENXIO, errno.ENOENT}:
            return None
        raise
