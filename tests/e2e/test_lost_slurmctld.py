"""slurmctld is killed outright under a rented job: it has forgotten what it did in its last seconds."""

import re
import time

import pytest
from e2e.lost import LINES, end, events, never_interleaved, runs_of

pytestmark = pytest.mark.rig


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.5, 8])
def test_a_slurmctld_killed_under_a_job_costs_a_machine_and_the_job_ends_well_with_its_output_whole(story, after_s):
    name = f"killed-{after_s}.txt"
    job = story.submit("--requeue", *story.fresh(), script=LINES.format(count=60, file=name))
    story.wait(lambda: runs_of(story, name))
    before = len(story.sandbox.bill())
    time.sleep(after_s)
    end(story, "slurmctld")
    story.sandbox.start("slurmctld")
    assert story.ends(job, 120) == "COMPLETED"
    order = never_interleaved(story, name)
    assert len(order) <= 2
    last = [line for line in story.home("alice", name).splitlines() if line.split()[:2] == order[-1]]
    assert [line.split()[2] for line in last] == [str(n) for n in range(1, len(last) + 1)]
    assert len(last) == (60 if order[-1][0] == "0" else 6)
    assert len(story.sandbox.bill()) <= before + 1, "a machine was bought twice"
    if len(story.sandbox.bill()) > before:
        assert any("has forgotten that job" in events(story, lease) for lease in story.of_job(job))
    story.all_given_back()


@pytest.fixture
def short_resume(story):
    """Slurm waits only a few seconds for a machine; the broker itself would wait longer."""
    conf = story.sandbox.layout.etc_slurm / "broker.conf"
    before = conf.read_text()
    # Not the global one: srun's patience hangs on it.
    short = re.sub(r"(?m)^(PartitionName=cloud .*\bResumeTimeout=)\d+", r"\g<1>12", before)
    assert short != before
    conf.write_text(short)
    assert story.sandbox.run("root", ["scontrol", "reconfigure"]).returncode == 0

    def back():
        conf.write_text(before)
        assert story.sandbox.run("root", ["scontrol", "reconfigure"]).returncode == 0

    yield back
    back()


@pytest.mark.slow
def test_when_slurms_resume_timeout_passes_the_machine_is_destroyed_and_the_job_runs_on_the_next(story, short_resume):
    story.sandbox.faults([{"kind": "ssh_never", "times": 1}])
    job = story.submit("--requeue", *story.fresh(), script="hostname >next.txt")
    (lease,) = story.wait(lambda: [x for x in story.of_job(job) if x["instance_id"]])
    story.wait(lambda: "ResumeTimeout" in events(story, lease), 90)
    story.wait(lambda: lease["instance_id"] not in story.sandbox.instances(), 60)
    short_resume()
    assert story.ends(job, 240) == "COMPLETED"
    assert story.home("alice", "next.txt").strip()
    assert len([x for x in story.of_job(job) if x["instance_id"]]) == 2
    story.all_given_back()
    story.wait(lambda: not [s for s in story.sandbox.nodes().values() if s.startswith(("down", "drain"))], 60)
