"""A sandbox leaves nothing behind, however it ends."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from broker.core.errors import BrokerError
from broker.sandbox.rig import Sandbox

pytestmark = pytest.mark.rig


@pytest.fixture
def directory():
    if os.geteuid() != 0 or shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("the sandbox needs root and Slurm")
    directory = Path(__file__).parents[2] / ".sandbox-crash"
    yield directory
    Sandbox(directory, say=lambda line: None).down()
    shutil.rmtree(directory, ignore_errors=True)


def machine():
    """What a sandbox could leave on this machine: users, mounts, links, namespaces, files of its services."""
    files = [
        path for folder in ("/etc/slurm", "/run", "/var/lib/broker", "/var/spool/broker") for path in _names(folder)
    ]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.count("\n")
    return (
        Path("/etc/passwd").read_text(),
        Path("/etc/hosts").read_text(),
        [line for line in Path("/proc/mounts").read_text().splitlines() if "sandbox" in line],
        links,
        files,
    )


def _names(folder):
    return sorted(str(path) for path in Path(folder).glob("*")) if Path(folder).exists() else []


def test_after_a_crash_nothing_is_left_and_the_next_one_comes_up(directory):
    before = machine()
    first = Sandbox(directory, say=lambda line: None)
    first.up(boot_seconds=0)
    assert first.run("alice", ["id", "-un"]).stdout == "alice\n"
    with pytest.raises(BrokerError, match="is up already"):
        Sandbox(directory, say=lambda line: None).up()
    namespace = Path(f"/proc/{first._supervisor()}/ns/pid").readlink()
    os.kill(first._supervisor(), signal.SIGKILL)
    first._process.wait(20)
    limit = time.monotonic() + 20
    while any(_namespace(path) == namespace for path in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < limit, "a process survived"
    assert machine() == before
    second = Sandbox(directory, say=lambda line: None)
    second.up(boot_seconds=0)
    assert second.is_up()
    assert second.down()
    assert machine() == before
    assert [path.name for path in directory.iterdir()] == ["log"]


def _namespace(process):
    try:
        return (process / "ns" / "pid").readlink()
    except OSError:
        return None
