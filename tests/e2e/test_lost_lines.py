"""The line between hub and node is cut at each stage, and healed; the controller's own disk is full."""

import signal
import time

import pytest
from e2e.lost import address_of, booting, events

pytestmark = [pytest.mark.rig, pytest.mark.slow]


def said_of(story, lease) -> str:
    """What the broker has done on the machine so far."""
    log = story.sandbox.layout.state / "leases" / lease["id"] / "boot.log"
    return log.read_text(errors="replace") if log.exists() else ""


@pytest.mark.parametrize("step", ["bundle", "home_key"])
def test_a_line_cut_in_the_middle_of_a_join_goes_on_where_it_stopped(story, step):
    job, lease = booting(story, script="echo joined >joined.txt")
    address = address_of(story, lease)
    story.wait(lambda: step in said_of(story, lease), 60)
    story.sandbox.cut(address)
    time.sleep(5)
    story.sandbox.heal(address)
    assert story.ends(job, 150) == "COMPLETED"
    assert story.home("alice", "joined.txt") == "joined\n"
    assert len(story.of_job(job)) == 1, "a machine was thrown away for a short cut"


@pytest.mark.parametrize("healed", [True, False])
def test_a_machine_that_is_cut_off_when_it_is_given_back_is_fenced_and_ended_all_the_same(story, healed):
    job, lease = booting(story)
    assert story.ends(job) == "COMPLETED"
    address = address_of(story, lease)
    story.sandbox.cut(address)
    assert story.broker("lease", "release", lease["id"], "--reason", "test").returncode == 0
    if healed:
        time.sleep(2)
        story.sandbox.heal(address)
    story.wait(lambda: lease["instance_id"] not in story.sandbox.instances(), 120)
    story.wait(lambda: next(x for x in story.leases() if x["id"] == lease["id"])["state"] == "released", 60)
    assert "confirms that the machine is gone" in events(story, lease)
    peers = story.sandbox.run("root", ["wg", "show", "broker0", "allowed-ips"]).stdout
    held = {x["node"] for x in story.leases() if x["state"] in {"bootstrapping", "ready", "draining"}}
    assert len(peers.splitlines()) <= len(held)


SMALL = """set -eu
cd /
size=$(($(du -sm /var/lib/broker | cut -f1) + 4))
mkdir /run/small
mount -t tmpfs -o "size=${size}m,mode=0750,uid=$(stat -c %u /var/lib/broker),gid=$(stat -c %g /var/lib/broker)" small /run/small
cp -a /var/lib/broker/. /run/small/
mount --move /run/small /var/lib/broker
"""
BACK = """set -eu
cd /
mkdir -p /run/kept
cp -a /var/lib/broker/. /run/kept/
umount /var/lib/broker
cp -a /run/kept/. /var/lib/broker/
rm -rf /run/kept /run/small
"""


def restarted(story, script):
    story.sandbox.signal("broker", signal.SIGKILL)  # whatever it was at, its ledger is whole
    story.wait(lambda: not story.sandbox.is_alive("broker"))
    done = story.sandbox.run("root", ["sh", "-c", script])
    story.sandbox.start("broker")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def small_disk(story):
    story.all_given_back()
    restarted(story, SMALL)
    yield
    story.sandbox.run("root", ["rm", "-f", "/var/lib/broker/fill"])
    restarted(story, BACK)


def test_with_a_full_state_disk_nothing_is_bought_the_reason_is_told_and_work_goes_on_with_room(story, small_disk):
    before = len(story.sandbox.bill())
    where = story.fresh()
    story.sandbox.run("root", ["sh", "-c", "cat /dev/zero >/var/lib/broker/fill"])
    job = story.submit(*where, script="echo room >room.txt")
    said = story.wait(lambda: "full" in " ".join(story.broker("status").stdout.split()) and story.broker("status"), 60)
    assert "nothing is bought" in " ".join(said.stdout.split())
    doctor = story.broker("doctor")
    assert "full" in doctor.stdout or "No space" in doctor.stdout, doctor.stdout
    assert len(story.sandbox.bill()) == before
    story.sandbox.run("root", ["rm", "/var/lib/broker/fill"])
    assert story.ends(job, 150) == "COMPLETED"
    assert story.home("alice", "room.txt") == "room\n"
    assert len(story.sandbox.bill()) == before + 1
    story.all_given_back()
