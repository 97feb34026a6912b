"""Exports that the tests carry, and where a project checkout keeps the whole of them."""

import os
from pathlib import Path

import pytest

from broker.accounting.export import joined, read
from broker.accounting.history import current
from broker.accounting.slices import Window
from broker.accounting.totals import By, add_up

CARRIED = Path(__file__).parents[2] / "data" / "sacct"
RIG = CARRIED / "x-unix.psv"
PHILLIPS_COLUMNS = [
    "jobid", "jobidraw", "cluster", "partition", "qos", "account", "group", "gid", "user", "uid", "submit", "eligible", "start",
    "end", "elapsed", "exitcode", "state", "nnodes", "ncpus", "reqcpus", "reqmem", "reqtres", "alloctres", "timelimit",
    "nodelist", "jobname",
]  # fmt: skip


@pytest.fixture
def shared():
    """`../shared/data/sacct` beside the checkout, or in BROKER_SHARED_DATA."""
    place = Path(os.environ.get("BROKER_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "sacct"
    if not place.is_dir():
        pytest.skip(f"needs the exports of ../shared/data/sacct, which are not at {place}")
    return place


@pytest.fixture
def export(tmp_path):
    """Writes an export and gives its path."""

    def write(text, name="export.psv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def totals(*paths, by=By.USER, window=None, **how):
    """What a report of these files says."""
    runs = current(joined(read(path, **how) for path in paths).runs).runs
    return add_up(runs, by, window or Window())
