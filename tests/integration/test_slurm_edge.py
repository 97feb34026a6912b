"""Slurm's edge at a real slurmctld: what it asks of us, what it holds for us, what it refuses for us, what it answers.

The tests share one site, and each has nodes or jobs of its own there.
"""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from integration.slurm_site import SlurmSite, wait_for

from broker.core.errors import BrokerError, SlurmUnavailable
from broker.slurm.parse import resume_jobs

OTHER = os.environ.get("BROKER_SLURM_PREFIX", "")
"""Where another Slurm than the host's is installed, to try the edge at that one."""

pytestmark = [
    pytest.mark.rig,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None, reason="no slurmctld here"),
]


@pytest.fixture(scope="module")
def site():
    site = SlurmSite(Path(OTHER) if OTHER else None)
    yield site
    site.close()


@pytest.fixture(scope="module", autouse=True)
def late_job(site):
    """A job whose machine never comes; Slurm gives it up while the other tests run."""
    return site.submit("-p", "late", "--wrap", "true")


def waiter(site, job):
    """Its FIFO, once the waiter of `job` is there."""
    wait_for(lambda: (site.jobs / f"{job}.job").exists(), f"a waiter for job {job}", site.log)
    return site.jobs / f"{job}.fifo"


def say(fifo, word):
    """As the daemon does it: without waiting."""
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, word)
    os.close(writer)


def wait_for_state(site, job, state, limit_s=15.0):
    wait_for(lambda: site.state(job) == state, f"job {job} {state}", site.log, limit_s)


@pytest.fixture(scope="module")
def job(site):
    """A job on h100-[1-2] that Slurm has woken the nodes for, of a user whose words look like fields."""
    evil = "x\n   UserId=mallory(0) JobState=COMPLETED"
    return site.submit(
        *("-p", "h100", "-w", "h100-[1-2]", "--gpus-per-node=2", "--time=1:00:00", f"--job-name={evil}"),
        *("--comment=broker:spot=no,zones=a+b", "--wrap", "sleep 300"),
    )


def test_a_job_on_an_elastic_partition_becomes_an_intent_and_a_knock(site, job):
    site.knocks()
    intent = site.intent("resume", "h100-2")
    assert (intent["version"], intent["verb"]) == (1, "resume")
    assert (job, ("h100-1", "h100-2")) in resume_jobs(intent["resume"])
    assert abs(intent["at"] - time.time()) < 60
    assert site.knocks() > 0
    (path,) = [path for path in site.intents.glob("*.json") if "h100" in path.read_text()]
    assert path.owner() == "slurm"


def test_the_job_waits_with_its_nodes_up_until_the_word_and_then_starts_at_once(site, job):
    fifo = waiter(site, job)
    assert (site.jobs / f"{job}.job").read_text() == f"job={job}\nuser=root\nuid=0\nnodes=h100-[1-2]\npartition=h100\n"
    for node in ("h100-1", "h100-2"):
        site.boot(node)
    up = lambda: sum(node.is_up for node in site.client("nodes") if node.name in {"h100-1", "h100-2"}) == 2  # noqa: E731
    wait_for(up, "both nodes up", site.log, 60)
    # Nodes without their GPUs would be drained: configless slurmd got broker.conf and gres.conf.
    assert not any("DRAIN" in node.flags for node in site.client("nodes"))
    assert site.state(job) == "CONFIGURING"

    said = time.monotonic()
    say(fifo, b"start\n")
    wait_for_state(site, job, "RUNNING", 5.0)
    assert time.monotonic() - said < 5
    wait_for(lambda: not fifo.exists(), "the waiter's files gone", site.log)


def test_the_client_reads_jobs_as_they_are_whatever_their_names_say(site, job, late_job):
    (read,) = site.client("jobs", [job])
    assert (read.id, read.user, read.uid, read.state, read.partition) == (job, "root", 0, "RUNNING", "h100")
    assert read.name == "x\n   UserId=mallory(0) JobState=COMPLETED"
    assert (read.nodes, read.batch, read.time_limit) == (("h100-1", "h100-2"), True, timedelta(hours=1))
    assert (read.comment, read.admin_comment, read.ended_at) == ("broker:spot=no,zones=a+b", "", None)
    assert abs(read.started_at - datetime.now(UTC)) < timedelta(minutes=2)
    assert {each.id for each in site.client("jobs")} >= {job, late_job}
    assert [each.id for each in site.client("jobs", [job, 99999])] == [job]
    assert site.client("jobs", [99999]) == []
    assert site.client("jobs", []) == []


def test_what_we_tell_a_jobs_owner_stands_in_the_admin_comment(site, job):
    site.client("set_admin_comment", job, "broker: booting an H100,\nexpected 14:05 = soon")
    assert site.client("jobs", [job])[0].admin_comment == "broker: booting an H100, expected 14:05 = soon"
    site.client("set_admin_comment", job, "")
    assert site.client("jobs", [job])[0].admin_comment == ""
    site.client("set_admin_comment", 99999, "nobody")


def test_jobs_of_other_partitions_do_not_wait(site):
    local = site.submit("-p", "local", "--comment=broker:nonsense", "--wrap", "true")
    wait_for_state(site, local, "COMPLETED", 10.0)
    assert not list(site.jobs.glob(f"{local}.*"))


def test_a_job_that_may_not_start_is_tried_again_and_not_held(site):
    job = site.submit("-p", "h100", "-w", "h100-3", "--wrap", "true")
    say(waiter(site, job), b"stop\n")
    wait_for_state(site, job, "PENDING")
    (read,) = site.client("jobs", [job])
    assert "held" not in read.reason.lower()

    site.client("start_not_before", job, datetime.now(UTC) + timedelta(hours=3))
    start = int(site.run("env", "SLURM_TIME_FORMAT=%s", "squeue", "-h", f"--jobs={job}", "-O", "eligibletime"))
    assert abs(start - time.time() - 3 * 3600) < 60
    site.client("requeue_now", job)
    waiter(site, job)

    site.run("scancel", str(job))
    with pytest.raises(BrokerError, match="99999"):
        site.client("requeue_now", 99999)


def test_a_cancelled_job_leaves_no_reader_behind(site):
    job = site.submit("-p", "h100", "-w", "h100-4", "--wrap", "true")
    fifo = waiter(site, job)
    site.run("scancel", str(job))

    def nobody():
        try:
            say(fifo, b"start\n")
        except FileNotFoundError:
            return True
        except OSError as exc:
            return "No such device" in str(exc)
        return False

    wait_for(nobody, "no reader", site.log)


def test_nodes_that_are_given_up_are_handed_to_suspend(site, job):
    site.client("power_down_force", ["h100-2", "h100-1"], "broker: the machine\nvanished")
    intent = site.intent("suspend", "h100-1")
    assert (intent["nodes"], intent["resume"]) == ("h100-[1-2]", None)
    wait_for_state(site, job, "PENDING")
    node = next(node for node in site.client("nodes") if node.name == "h100-1")
    assert not node.is_up
    assert node.reason == "broker: the machine vanished"
    with pytest.raises(BrokerError, match="nobody-1"):
        site.client("power_down_force", ["nobody-1"], "x")
    site.run("scancel", str(job))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "h100", "--comment=broker:zone=a"], 'did you mean "zones"'),
        (["-p", "local,h100", "--comment=broker:premium=15"], "wanted a percentage, such as 15%"),
        (["-p", "h100", "-N1", ":", "-p", "h100", "-N1"], "a heterogeneous job cannot use the elastic partition h100"),
        (["-p", "local", "-N1", ":", "-p", "h100", "-N1"], "a heterogeneous job cannot use the elastic partition h100"),
    ],
)
def test_what_cannot_be_served_is_refused_at_submit_with_the_reason(site, words, said):
    script = site.folder / "script"
    script.write_text("#!/bin/sh\ntrue\n")
    for command in (["sbatch", *words, str(script)], ["srun", *words, "true"]):
        refused = site.try_(*command)
        assert refused.returncode != 0
        assert said in refused.stderr


def test_a_comment_cannot_be_changed_into_a_wrong_one(site):
    job = site.submit("-p", "h100", "--hold", "--comment=broker:spot=no", "--wrap", "true")
    assert site.try_("scontrol", "update", f"JobId={job}", "Comment=broker:spt=no").returncode != 0
    assert site.try_("scontrol", "update", f"JobId={job}", "Comment=broker:spot=yes").returncode == 0
    assert site.client("jobs", [job])[0].comment == "broker:spot=yes"
    site.run("scancel", str(job))


def test_a_machine_that_is_too_late_is_handed_to_resume_failed(site, late_job):
    assert site.intent("resume_failed", "late-1")["nodes"] == "late-1"
    site.run("scancel", str(late_job))


def test_slurm_reads_our_lines_and_finds_nothing_to_say(site):
    site.broker("--check")
    complaints = [line for line in (site.folder / "log/slurmctld.log").read_text().splitlines() if "error: " in line]
    wrong = ("specified more than once", "Parsing error", "invalid", "power_save module disabled", "job_submit")
    assert not [line for line in complaints if any(word in line for word in wrong)]
    assert f"{site.folder}/etc/broker/resume" in site.run("scontrol", "show", "config")


def test_a_job_waits_again_after_slurmctld_was_away(site):
    job = site.submit("-p", "h100", "-w", "h100-4", "--wrap", "sleep 300")
    waiter(site, job)
    pid = site.slurmctld_pid()
    site.run("kill", "-STOP", pid)
    with pytest.raises(SlurmUnavailable, match="did not answer within 1 s"):
        site.client("nodes", timeout=1.0)
    site.run("kill", "-CONT", pid)
    site.run("kill", "-TERM", pid)
    wait_for(lambda: site.try_("kill", "-0", pid).returncode, "slurmctld's end", site.log)
    with pytest.raises(SlurmUnavailable):
        site.client("jobs", [job], timeout=2.0)
    (site.jobs / f"{job}.job").unlink()
    site.start_slurmctld()
    if site.forgets_waiters():
        # Slurm 25.11 counts the prologs that it kills at its own end as done: what `reconcile/unattended.py` does then.
        wait_for_state(site, job, "CONFIGURING")
        assert not (site.jobs / f"{job}.job").exists()
        site.client("requeue", job)
        wait_for_state(site, job, "PENDING")
        site.client("requeue_now", job)
        site.boot("h100-4")  # until the machine is there Slurm holds the end of the first start for not confirmed
    fifo = waiter(site, job)
    if not site.forgets_waiters():
        site.boot("h100-4")
    wait_for(lambda: next(n for n in site.client("nodes") if n.name == "h100-4").is_up, "h100-4 up", site.log)
    assert site.state(job) == "CONFIGURING"
    say(fifo, b"start\n")
    wait_for_state(site, job, "RUNNING")
