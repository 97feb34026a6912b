"""The ledger is lost while machines work: a backup brings it back, and the machines bought since are adopted by label."""

import json
import signal
from decimal import Decimal

import pytest

pytestmark = pytest.mark.rig


def test_a_restored_ledger_adopts_the_machine_that_was_bought_after_the_backup(story):
    sandbox = story.sandbox
    before = {row["instance_id"] for row in sandbox.bill()}
    first = story.submit(*story.fresh(), script="sleep 30; echo one >one.txt")
    story.wait(lambda: story.job(first)["JobState"] == "RUNNING")
    sandbox.run("root", ["rm", "-f", "/root/ledger.jsonl"])
    done = story.broker("ledger", "backup", "/root/ledger.jsonl")
    assert done.returncode == 0, done.stderr
    second = story.submit(*story.fresh(), script="sleep 20; echo two >two.txt")
    story.wait(lambda: story.job(second)["JobState"] == "RUNNING")
    machines = set(sandbox.instances())

    running = story.broker("ledger", "restore", "/root/ledger.jsonl")
    sandbox.signal("broker", signal.SIGKILL)
    story.wait(lambda: not sandbox.is_alive("broker"))
    sandbox.run("root", ["sh", "-c", "rm /var/lib/broker/broker.db*"])
    with pytest.raises(Exception, match="broker ledger restore"):
        sandbox.start("broker")
    planned = story.broker("ledger", "restore", "--dry-run", "--json", "/root/ledger.jsonl")
    restored = story.broker("ledger", "restore", "--json", "/root/ledger.jsonl")
    assert restored.returncode == 0, restored.stderr
    sandbox.start("broker")

    assert running.returncode == 3 and "stop it first" in running.stderr
    assert planned.returncode == 0, planned.stderr
    fates = {row["job_id"]: row["fate"] for row in json.loads(restored.stdout)["leases"]}
    assert fates == {row["job_id"]: row["fate"] for row in json.loads(planned.stdout)["leases"]}
    assert (fates[first], fates[second]) == ("kept", "adopted")
    assert (story.ends(first), story.ends(second)) == ("COMPLETED", "COMPLETED")
    assert (story.home("alice", "one.txt"), story.home("alice", "two.txt")) == ("one\n", "two\n")
    story.wait(lambda: not machines & set(sandbox.instances()), 90)
    story.wait(lambda: all(x["state"] == "released" for x in story.of_job(first) + story.of_job(second)), 60)
    bills = {row["instance_id"]: row for row in sandbox.bill() if row["instance_id"] not in before}
    ledger = {lease["instance_id"]: lease for lease in story.of_job(first) + story.of_job(second)}
    assert bills.keys() == ledger.keys() and len(bills) == 2
    for instance_id, bill in bills.items():
        cost = ledger[instance_id]["cost"]
        assert Decimal(cost["low"]) <= Decimal(bill["amount"]) <= Decimal(cost["high"])
    exports = sandbox.run("root", ["ls", "/var/lib/broker-exports/.keys"]).stdout
    assert exports == ""
