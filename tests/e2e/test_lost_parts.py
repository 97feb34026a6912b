"""What is lost, and what becomes of the job and the machine: each part of the path in turn, on real parts."""

import signal
import time

import pytest
from e2e.lost import address_of, booting, call, events, never_interleaved, reran, running, runs_of

pytestmark = pytest.mark.rig


def test_a_slurmctld_restarted_in_mid_resume_finds_its_node_and_buys_nothing_twice(story):
    before = len(story.sandbox.bill())
    job, lease = booting(story, script="hostname >resumed.txt")
    story.sandbox.signal("slurmctld", signal.SIGTERM)
    story.wait(lambda: not story.sandbox.is_alive("slurmctld"))
    story.sandbox.start("slurmctld")
    assert story.ends(job) == "COMPLETED"
    assert story.home("alice", "resumed.txt") == f"{lease['node']}\n"
    assert len(story.sandbox.bill()) == before + 1, "a second machine was bought"


def test_a_killed_slurmd_costs_the_machine_and_the_two_runs_never_interleave(story):
    job, lease = running(story, "slurmd.txt")
    kill = (
        "touch /run/broker-node/slurmd.stop; pkill -KILL -x slurmd"  # its keeper, too, sees that it shall not come back
    )
    done = story.broker("node", "ssh", lease["node"], "--", "sudo", "sh", "-c", kill)
    assert done.returncode == 0, done.stderr
    reran(story, job, lease, "slurmd.txt")
    told = events(story, lease)
    assert told.index("no slurmd runs") < told.index("asked to end"), told


@pytest.mark.slow
def test_a_machine_that_vanishes_under_its_job_is_replaced(story):
    job, lease = running(story, "vanish.txt")
    story.sandbox.vanish(lease["instance_id"])
    reran(story, job, lease, "vanish.txt")
    assert "vanished at the provider" in events(story, lease)


def test_a_machine_that_vanishes_while_it_boots_is_followed_by_the_next_offer_behind_the_same_name(story):
    story.sandbox.faults([{"kind": "ssh_never", "times": 1}])
    job, lease = booting(story)
    address_of(story, lease)
    story.sandbox.vanish(lease["instance_id"])
    assert story.ends(job) == "COMPLETED"
    first, second = sorted(story.of_job(job), key=lambda one: one["created_at"])
    assert (first["node"], second["node"]) == (lease["node"],) * 2
    assert "vanished" in first["reason"]
    assert "Restarts=0" in story.sandbox.run("root", ["scontrol", "show", "job", str(job)]).stdout


@pytest.mark.slow
def test_a_machine_that_is_taken_away_with_notice_is_fenced_and_the_job_runs_again(story):
    job, lease = running(story, "notice.txt", count=60)
    story.sandbox.take_away(lease["instance_id"])
    reran(story, job, lease, "notice.txt", 120)
    assert "takes the machine away (preempted)" in events(story, lease)


@pytest.mark.slow
def test_resume_fail_destroys_the_machine_and_the_name_can_be_used_again(story):
    story.sandbox.faults([{"kind": "ssh_never", "times": 1}])
    job, lease = booting(story)
    assert call(story, "resume-failed", lease["node"]).returncode == 0
    story.wait(lambda: lease["instance_id"] not in story.sandbox.instances())
    assert "ResumeTimeout" in events(story, lease)
    story.sandbox.run("alice", ["scancel", str(job)])
    story.wait(lambda: story.sandbox.nodes()[lease["node"]] == "idle~", 120)
    assert story.ends(story.submit("-w", lease["node"])) == "COMPLETED"


def test_a_second_resume_buys_nothing_and_a_suspend_of_what_was_never_bought_breaks_nothing(story):
    before = len(story.sandbox.bill())
    asleep = story.fresh()[1]
    job, lease = booting(story)
    for verb, nodes in (("resume", lease["node"]), ("suspend", asleep if asleep != lease["node"] else "a10-4")):
        assert call(story, verb, nodes).returncode == 0
    assert call(story, "resume", lease["node"]).returncode == 0
    assert story.ends(job) == "COMPLETED"
    assert len(story.sandbox.bill()) == before + 1
    assert story.broker("status").returncode == 0


@pytest.mark.slow
def test_half_written_calls_are_set_aside_and_told_and_the_others_go_on(story):
    spool = "/var/spool/broker/intents"
    script = (
        f'cd {spool}; printf \'{{"version": 1, "verb": "res\' >1-1-resume.json; : >2-1-resume.json;'
        "touch -d '-5 min' .tmp-3-1-resume.json; chown slurm:broker 1-1-resume.json 2-1-resume.json .tmp-3-1-resume.json"
    )
    assert story.sandbox.run("root", ["sh", "-c", script]).returncode == 0
    try:
        story.wait(
            lambda: "3 of Slurm's calls could not be read" in " ".join(story.broker("status").stdout.split()), 15
        )
        assert story.ends(story.submit()) == "COMPLETED"
    finally:
        story.sandbox.run("root", ["sh", "-c", f"rm -rf {spool}/bad"])
    story.wait(lambda: "could not be read" not in story.broker("status").stdout, 15)


LOCK = """
import sqlite3, sys, time
db = sqlite3.connect("/var/lib/broker/broker.db", isolation_level=None, timeout=30)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[1]))
db.execute("ROLLBACK")
"""


def test_while_the_ledger_is_locked_nothing_is_bought_and_the_reason_is_told(story):
    before = len(story.sandbox.bill())
    where = story.fresh()
    job = None
    locker = story.sandbox.start_program("root", ["python3", "-c", LOCK, "14"])
    try:
        assert locker.stdout.readline() == b"locked\n"
        job = story.submit(*where)
        said = story.wait(lambda: _said(story, "database is locked"), 30)
        assert "nothing is bought" in said
        assert len(story.sandbox.bill()) == before
    finally:
        locker.wait(30)
        locker.stdout.close()
    assert story.ends(job) == "COMPLETED"
    assert len(story.sandbox.bill()) == before + 1


def _said(story, text):
    shown = " ".join(story.broker("status").stdout.split())
    return shown if text in shown else None


def test_while_the_ledger_is_gone_nothing_is_bought_and_the_api_says_so(story):
    before = len(story.sandbox.bill())
    where = story.fresh()
    story.sandbox.run("root", ["sh", "-c", "cd /var/lib/broker && mv broker.db away.db"])
    try:
        job = story.submit(*where)
        done = story.broker("status")
        assert (done.returncode, "is gone" in done.stderr) == (5, True), done.stderr
        time.sleep(2)
        assert len(story.sandbox.bill()) == before
    finally:
        story.sandbox.run("root", ["sh", "-c", "cd /var/lib/broker && mv away.db broker.db"])
    assert story.ends(job) == "COMPLETED"


@pytest.mark.slow
def test_a_provider_that_is_down_for_a_release_is_asked_until_it_answers(story):
    job = story.submit(*story.fresh(), script="true")
    assert story.ends(job) == "COMPLETED"
    (lease,) = story.of_job(job)
    story.sandbox.faults(
        [{"kind": "error_500", "credential": lease["provider"], "path": "/instance-operations/terminate"}]
    )
    assert story.broker("lease", "release", lease["id"], "--reason", "test").returncode == 0
    story.wait(lambda: "could not be given back yet" in events(story, lease), 30)
    assert lease["instance_id"] in story.sandbox.instances()
    story.sandbox.faults([])
    story.wait(lambda: lease["instance_id"] not in story.sandbox.instances(), 30)


def test_answers_that_are_doubled_or_late_buy_one_machine(story):
    story.sandbox.faults([{"kind": "answer_late", "seconds": 3, "times": 1}, {"kind": "doubled", "path": "/instances"}])
    before = len(story.sandbox.bill())
    assert story.ends(story.submit(*story.fresh())) == "COMPLETED"
    assert len(story.sandbox.bill()) == before + 1


def test_a_cut_line_before_ssh_answers_is_waited_for(story):
    job, lease = booting(story)
    address = address_of(story, lease)
    story.sandbox.cut(address)
    time.sleep(3)
    story.sandbox.heal(address)
    assert story.ends(job) == "COMPLETED"
    assert len(story.of_job(job)) == 1


def test_a_short_cut_under_a_job_costs_nothing(story):
    job, lease = running(story, "short.txt", count=20)
    story.sandbox.cut(lease["address"])
    time.sleep(4)
    story.sandbox.heal(lease["address"])
    assert story.ends(job) == "COMPLETED"
    assert len(never_interleaved(story, "short.txt")) == 1


@pytest.mark.slow
def test_a_long_cut_is_fenced_and_the_job_runs_again_and_the_cut_machine_writes_nothing_when_it_is_back(story):
    job, lease = running(story, "long.txt", count=60)
    story.sandbox.faults([{"kind": "error_500", "path": "/instance-operations/terminate"}])
    story.sandbox.cut(lease["address"])
    story.wait(lambda: any(x["id"] == lease["id"] and x["state"] == "releasing" for x in story.leases()), 60)
    story.wait(lambda: len({tuple(run) for run in runs_of(story, "long.txt")}) == 2, 60)
    story.sandbox.heal(lease["address"])
    assert story.ends(job) == "COMPLETED"
    story.sandbox.faults([])
    reran(story, job, lease, "long.txt")


def test_a_full_disk_makes_slurms_call_fail_loudly_and_the_next_one_is_heard(story):
    before = len(story.sandbox.bill())
    intents = "/var/spool/broker/intents"
    tiny = "size=16k,mode=2770,uid=$(id -u slurm),gid=$(id -g broker)"
    fill = f"mount -t tmpfs -o {tiny} full {intents}; cat /dev/zero >{intents}/fill"
    story.sandbox.run("root", ["sh", "-c", fill])
    try:
        done = call(story, "resume", "h100-8")
        assert done.returncode == 1, "the shim lost a call and said nothing"
        assert story.sandbox.run("root", ["sh", "-c", f"rm {intents}/fill"]).returncode == 0
        assert story.ends(story.submit(*story.fresh())) == "COMPLETED"
    finally:
        story.sandbox.run("root", ["umount", intents])
    assert len(story.sandbox.bill()) == before + 1
