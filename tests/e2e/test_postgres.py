"""The ledger on a real PostgreSQL, reached by peer authentication, in a sandbox of its own."""

import os
import shutil
import signal
from decimal import Decimal
from pathlib import Path

import pytest
from e2e.conftest import Story
from postgres import MISSING, programs

from broker.sandbox.rig import Sandbox

pytestmark = pytest.mark.rig


@pytest.fixture(scope="module")
def story():
    if os.geteuid() != 0:
        pytest.skip("the sandbox makes namespaces and mounts: it needs root")
    if programs() is None:
        pytest.skip(MISSING)
    directory = Path(__file__).parents[2] / ".sandbox-postgres"
    sandbox = Sandbox(directory, say=lambda line: None)
    sandbox.down()
    try:
        sandbox.up(boot_seconds=1.0, limits="off", suspend_time_s=8, database="postgres")
        story = Story(sandbox)
        yield story
        story.all_given_back()
    finally:
        sandbox.down()
        if not os.environ.get("KEEP"):
            shutil.rmtree(directory, ignore_errors=True)


def test_a_job_has_its_whole_life_and_its_cost_contains_the_bill(story):
    job = story.submit(script="hostname >here.txt")
    assert story.ends(job) == "COMPLETED"
    assert story.home("alice", "here.txt").strip() == story.job(job)["NodeList"]
    (lease,) = story.wait(lambda: [x for x in story.of_job(job) if x["state"] == "released"], 90)
    (bill,) = story.sandbox.bill()
    assert bill["instance_id"] == lease["instance_id"]
    assert Decimal(lease["cost"]["low"]) <= Decimal(bill["amount"]) <= Decimal(lease["cost"]["high"])


def test_while_the_database_is_away_nothing_is_bought_and_then_it_goes_on(story):
    sandbox = story.sandbox
    bought = len(sandbox.bill())
    sandbox.signal("postgres", signal.SIGQUIT)
    story.wait(lambda: not sandbox.is_alive("postgres"))
    job = story.submit(*["-w", "h100-5"], script="echo back >back.txt")
    story.wait(lambda: story.job(job)["JobState"] == "CONFIGURING")

    told = story.wait(lambda: (done := story.broker("status")).returncode and done)
    assert told.returncode == 5 and "PostgreSQL" in told.stderr and "nothing is bought" in told.stderr
    assert len(sandbox.bill()) == bought

    sandbox.start("postgres")
    assert story.ends(job) == "COMPLETED"
    assert story.home("alice", "back.txt") == "back\n"
    assert len(sandbox.bill()) == bought + 1


def test_a_ledger_moves_from_postgresql_to_sqlite_by_its_backup(story):
    sandbox = story.sandbox
    before = story.leases()
    assert story.broker("ledger", "backup", "/root/ledger.jsonl").returncode == 0
    sandbox.signal("broker", signal.SIGTERM)
    story.wait(lambda: not sandbox.is_alive("broker"))
    # Its own name, so that the daemon comes up on PostgreSQL again for the other stories.
    move = "grep -v ^database /etc/broker/broker.toml >/etc/broker/sqlite.toml; chgrp broker /etc/broker/sqlite.toml"
    sandbox.run("root", ["sh", "-c", move])
    done = story.broker("ledger", "restore", "--config", "/etc/broker/sqlite.toml", "/root/ledger.jsonl")
    again = story.broker("ledger", "backup", "--config", "/etc/broker/sqlite.toml", "--json", "/root/again.jsonl")
    sandbox.start("broker")

    assert done.returncode == 0, done.stderr
    assert again.returncode == 0, again.stderr
    same = "tail -n +2 /root/ledger.jsonl | grep '\"leases\"' | sort; echo; tail -n +2 /root/again.jsonl"
    first, _, second = sandbox.run("root", ["sh", "-c", f"{same} | grep '\"leases\"' | sort"]).stdout.partition("\n\n")
    assert sorted(first.splitlines()) == sorted(second.splitlines()) and len(before) == len(first.splitlines())
