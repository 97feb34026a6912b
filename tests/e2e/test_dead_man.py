"""The daemon is dead for more than twice the nodes' timer, in a sandbox of its own with a timer that is short enough."""

import json
import os
import shutil
import signal
import time
from decimal import Decimal
from pathlib import Path

import pytest
from e2e.conftest import Story

from broker.sandbox.rig import Sandbox

pytestmark = pytest.mark.rig

TIMER_S = 12


@pytest.fixture
def story():
    if os.geteuid() != 0 or shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("the sandbox needs root and Slurm")
    directory = Path(__file__).parents[2] / ".sandbox-dead-man"
    sandbox = Sandbox(directory, say=lambda line: None)
    sandbox.down()
    try:
        sandbox.up(boot_seconds=0.5, limits="off", suspend_time_s=5, dead_man_s=TIMER_S)
        yield Story(sandbox)
    finally:
        sandbox.down()
        if not os.environ.get("KEEP"):
            shutil.rmtree(directory, ignore_errors=True)


def answers(story, lease):
    """Whether the machine behind the lease has a living sshd."""
    probe = f"timeout 2 bash -c 'read -r banner </dev/tcp/{lease['address']}/22 && echo $banner'"
    return "SSH" in story.sandbox.run("root", ["sh", "-c", probe]).stdout


def reap(story, *words):
    done = story.sandbox.run("broker", ["broker", "reap", "--json", *words])
    assert done.returncode == 0, done.stderr
    return {machine["instance_id"]: machine for machine in json.loads(done.stdout)["machines"]}


def test_with_the_daemon_dead_the_job_ends_well_and_every_machine_ends_at_the_provider(story):
    idle = story.submit()
    long = story.submit("--time=3", script=f"sleep {2 * TIMER_S + 8}; echo end >end.txt")
    story.wait(lambda: story.job(long)["JobState"] == "RUNNING")
    assert story.ends(idle) == "COMPLETED"
    (first,), (second,) = story.of_job(idle), story.of_job(long)
    assert {machine["outcome"] for machine in reap(story).values()} == {"kept"}, "the daemon lives"

    story.sandbox.signal("broker", signal.SIGKILL)
    died = time.monotonic()
    story.wait(lambda: not answers(story, first), 3 * TIMER_S)
    assert answers(story, second), "the machine of the running job goes on"
    assert set(story.sandbox.instances()) == {first["instance_id"], second["instance_id"]}, "still on the bill"

    time.sleep(max(0.0, died + 2 * TIMER_S + 1 - time.monotonic()))
    seen = reap(story)
    assert (seen[first["instance_id"]]["outcome"], seen[second["instance_id"]]["outcome"]) == ("ended", "kept")
    assert f"job {long}" in seen[second["instance_id"]]["why"]
    assert story.sandbox.instances() == [second["instance_id"]]

    assert story.ends(long) == "COMPLETED"
    assert story.home("alice", "end.txt") == "end\n"
    assert reap(story)[second["instance_id"]]["outcome"] == "ended"
    assert story.sandbox.instances() == []

    story.sandbox.start("broker")
    story.wait(lambda: all(lease["state"] == "released" for lease in story.leases()), 90)
    billed = {row["instance_id"]: Decimal(row["amount"]) for row in story.sandbox.bill()}
    assert billed.keys() == {first["instance_id"], second["instance_id"]}, "something was bought twice"
    for lease in story.leases():
        assert Decimal(lease["cost"]["low"]) <= billed[lease["instance_id"]] <= Decimal(lease["cost"]["high"])
