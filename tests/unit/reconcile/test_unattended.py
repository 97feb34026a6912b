"""Jobs that Slurm has stopped waiting for: none runs without its home, and each gets a waiter again."""

import os

import pytest
from factories import a_job

from broker.db import jobs
from broker.reconcile import lost
from broker.reconcile.unattended import Unattended


@pytest.fixture
def unattended(rig):
    return Unattended(rig.world)


def pass_by(rig, unattended, seconds):
    for _ in range(seconds // 2):
        for task in unattended.find():
            task.run()
        rig.clock.pass_seconds(2)


def joined(rig):
    rig.ask()
    rig.until(lambda: "slurmd" in rig.machines.machines["192.0.2.1"].ran)
    return rig.ledger()[0]


def ready(rig):
    lease = joined(rig)
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    rig.until(lambda: rig.states() == ["ready"])
    return lease


def at_home(rig, lease):
    with rig.world.engine.begin() as db:
        jobs.attend(db, 7, lease.id, "alice", rig.clock())
        jobs.mounted(db, 7, lease.id, rig.clock())


def test_a_batch_job_that_lost_its_waiter_while_its_machine_boots_is_started_anew_at_once(rig, unattended):
    rig.ask()
    rig.slurm.job_table[7] = a_job()
    pass_by(rig, unattended, 10)
    assert rig.slurm.requeued == [], "Slurm may be about to start the waiter"
    pass_by(rig, unattended, 4)
    assert rig.slurm.requeued == [7]
    assert "no longer waited for the job's home" in rig.slurm.admin_comments[7]
    rig.step(lost)
    assert rig.slurm.requeued_now == [7]
    assert rig.states() == ["requested"], "the machine is bought all the same: the job comes back to it"


def test_a_job_whose_waiter_waits_is_left_alone(rig, unattended):
    rig.ask()
    rig.slurm.job_table[7] = a_job()
    fifo = rig.world.site.jobs_folder / "7.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        pass_by(rig, unattended, 60)
    finally:
        os.close(reader)
    assert rig.slurm.requeued == []


@pytest.mark.parametrize("state", ["CONFIGURING", "RUNNING"])
def test_a_job_with_its_home_needs_no_waiter(rig, unattended, state):
    at_home(rig, ready(rig))
    rig.slurm.job_table[7] = a_job(state=state)
    pass_by(rig, unattended, 60)
    assert (rig.slurm.requeued, rig.slurm.cancelled) == ([], [])


def test_a_job_of_another_partition_has_no_home_and_needs_none(rig, unattended):
    ready(rig)
    rig.slurm.job_table[7] = a_job(state="RUNNING", partition="debug")
    pass_by(rig, unattended, 60)
    assert rig.slurm.requeued == []


def test_a_batch_job_that_runs_without_its_home_is_started_anew(rig, unattended):
    ready(rig)
    rig.slurm.job_table[7] = a_job(state="RUNNING")
    pass_by(rig, unattended, 2)
    assert rig.slurm.requeued == []
    pass_by(rig, unattended, 4)
    assert rig.slurm.requeued == [7]


def test_srun_that_runs_without_its_home_is_ended_with_the_reason(rig, unattended):
    ready(rig)
    rig.slurm.job_table[7] = a_job(state="RUNNING", batch=False)
    pass_by(rig, unattended, 6)
    assert (rig.slurm.requeued, rig.slurm.cancelled) == ([], [7])
    assert "it began without it" in rig.slurm.admin_comments[7]


def test_srun_that_lost_its_waiter_gets_its_home_as_soon_as_the_machine_is_joined(rig, unattended):
    lease = joined(rig)
    rig.slurm.job_table[7] = a_job(batch=False)
    pass_by(rig, unattended, 14)
    assert "home_mount" in rig.machines.machines["192.0.2.1"].ran
    assert [export.lease for export in rig.as_user.exports()] == [lease.id]
    pass_by(rig, unattended, 14)
    assert rig.slurm.cancelled == []
