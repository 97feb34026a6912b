"""Speaks to a job's waiting PrologSlurmctld (`slurm_plugins/prolog_slurmctld.sh`)."""

import errno
import os
from pathlib import Path


def tell(jobs_folder: Path, job_id: int, words: str) -> bool:
    """Write one line to the job's waiter. False: nobody waits (any more).

    `start`: the job may start. `end` and a text: its user is told, and the job is cancelled. `gone`: Slurm has requeued
    the job; until its old waiter has ended, it would start it nowhere else.
    """
    writer = _open(jobs_folder / f"{job_id}.fifo")
    if writer is None:
        return False
    try:
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


def _open(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in {errno.ENXIO, errno.ENOENT}:
            return None
        raise
