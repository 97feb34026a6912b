"""A machine that stops being a node under a job. The order is the point: fenced, asked to end, and only then requeued."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest
from factories import a_job

from broker.core.errors import ProviderUnavailable
from broker.core.offers import InstanceSpec, InstanceState
from broker.db import jobs
from broker.reconcile import allot, attend, launch, lost, release
from broker.reconcile.attend import WaitingJob
from broker.reconcile.sign import Sign
from broker.reconcile.sweep import Sweep
from broker.reconcile.watch import Watch


@pytest.fixture
def signs(rig):
    """What knocking at h100-1's slurmd tells, changed by the test."""
    signs = {"h100-1": Sign.ALIVE}
    names = {address: name for name, address in rig.world.site.addresses.items()}
    rig.world = replace(rig.world, knock=lambda address: signs.get(names[address], Sign.ALIVE))
    return signs


def busy(rig):
    """A ready node with a running job, whose home is there."""
    rig.ask()
    rig.until(lambda: "slurmd" in rig.machines.machines["192.0.2.1"].ran)
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    rig.until(lambda: "ready" in rig.states())
    lease = rig.ledger()[0]
    rig.slurm.job_table[7] = a_job(state="RUNNING")
    with rig.world.engine.begin() as db:
        jobs.attend(db, 7, lease.id, "alice", rig.clock())
        jobs.mounted(db, 7, lease.id, rig.clock())
    rig.as_user.export_home("alice", lease.id, "key", "10.77.0.2")
    return lease


def look(rig, watch, seconds):
    for _ in range(seconds // 2):
        for task in watch.find():
            task.run()
        rig.clock.pass_seconds(2)


def test_a_node_whose_slurmd_is_dead_is_fenced_and_ended_before_its_job_is_requeued(rig, signs):
    busy(rig)
    watch = Watch(rig.world, timedelta(seconds=40))
    signs["h100-1"] = Sign.REFUSED
    look(rig, watch, 8)
    assert rig.states() == ["ready"], "a slurmd that its keeper starts again is no loss"
    look(rig, watch, 6)
    assert rig.states() == ["releasing"]
    assert rig.slurm.power_downs == []
    told = rig.slurm.power_down_force

    def power_down_force(nodes, reason):
        assert rig.as_user.exports() == [] and rig.net.peers() == [] and rig.instances() == []
        told(nodes, reason)

    rig.slurm.power_down_force = power_down_force
    rig.step(release)
    assert rig.slurm.power_downs[0][0] == ("h100-1",)
    rig.step(lost)
    assert rig.slurm.requeued_now == [7]


def test_a_short_silence_costs_nothing_and_a_long_one_the_machine(rig, signs):
    busy(rig)
    watch = Watch(rig.world, timedelta(seconds=40))
    signs["h100-1"] = Sign.SILENT
    look(rig, watch, 20)
    signs["h100-1"] = Sign.ALIVE
    look(rig, watch, 10)
    signs["h100-1"] = Sign.SILENT
    look(rig, watch, 38)
    assert rig.states() == ["ready"]
    look(rig, watch, 6)
    assert rig.states() == ["releasing"]
    assert "did not answer" in rig.ledger()[0].reason


def test_while_the_provider_cannot_be_asked_a_silent_machine_is_kept(rig, signs):
    busy(rig)
    watch = Watch(rig.world, timedelta(seconds=40))
    signs["h100-1"] = Sign.SILENT

    def unreachable():
        raise ProviderUnavailable("no route")

    rig.providers["lambda-a"].instances = unreachable
    look(rig, watch, 120)
    assert rig.states() == ["ready"]


def test_trouble_on_this_side_says_nothing_about_the_nodes(rig, signs):
    busy(rig)
    signs["h100-1"] = Sign.UNKNOWN
    look(rig, Watch(rig.world, timedelta(seconds=40)), 120)
    assert rig.states() == ["ready"]


def test_a_silent_machine_that_its_provider_does_not_know_is_lost_at_once(rig, signs):
    lease = busy(rig)
    signs["h100-1"] = Sign.SILENT
    rig.providers["lambda-a"].vanish(lease.instance_id)
    look(rig, Watch(rig.world, timedelta(seconds=400)), 6)
    assert rig.states() == ["releasing"]


def test_a_node_that_slurm_holds_for_down_is_given_back(rig, signs):
    busy(rig)
    rig.slurm.set_node("h100-1", "DOWN", "CLOUD", reason="Not responding")
    look(rig, Watch(rig.world, timedelta(seconds=40)), 16)
    assert "Not responding" in rig.ledger()[0].reason
    rig.until(lambda: rig.slurm.power_downs, 4)


def test_a_machine_that_is_taken_away_is_fenced_and_its_job_requeued(rig):
    lease = busy(rig)
    provider = rig.providers["lambda-a"]
    provider.set_state(lease.instance_id, InstanceState.STOPPING)
    Sweep(rig.world, timedelta(seconds=60)).instances(provider)
    rig.step(release)
    assert rig.as_user.exports() == []
    assert rig.slurm.power_downs[0][0] == ("h100-1",)


def test_a_booting_machine_that_vanished_is_followed_by_the_next_offer(rig):
    rig.machines.machines["192.0.2.1"].unreachable = "no route"
    rig.ask()
    rig.step(allot, launch)
    rig.step()
    provider = rig.providers["lambda-a"]
    provider.vanish("lambda-a-1")
    rig.until(lambda: len(rig.ledger()) == 2, 15)
    assert "vanished" in rig.ledger()[0].reason
    assert rig.slurm.power_downs == []


def test_the_sweep_replaces_a_booting_machine_and_does_not_power_its_node_down(rig):
    rig.ask()
    rig.step(allot, launch)
    provider = rig.providers["lambda-a"]
    provider.vanish("lambda-a-1")
    sweep = Sweep(rig.world, timedelta(seconds=60))
    for _ in range(3):
        sweep.instances(provider)
    assert rig.states() == ["releasing", "requested"]
    assert rig.slurm.power_downs == []


def test_a_purchase_that_brought_two_machines_keeps_one(rig):
    lease = busy(rig)
    provider = rig.providers["lambda-a"]
    provider.create(
        InstanceSpec(label=lease.label, instance_type="t", zone="z", user_data="", ssh_public_key="ssh-ed25519 A")
    )
    sweep = Sweep(rig.world, timedelta(seconds=60))
    sweep.instances(provider)
    rig.clock.pass_seconds(61)
    sweep.instances(provider)
    rig.until(lambda: rig.instances() == [lease.instance_id], 3)


def test_a_node_that_answers_us_and_that_slurm_still_waits_for_registers_again(rig, signs):
    busy(rig)
    ran = rig.machines.machines["192.0.2.1"].ran
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD", "POWERING_UP", "NOT_RESPONDING")
    watch = Watch(rig.world, timedelta(seconds=40))
    look(rig, watch, 10)
    assert "register" not in ran
    look(rig, watch, 4)
    assert ran.count("register") == 1
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    look(rig, watch, 40)
    assert (ran.count("register"), rig.states()) == (1, ["ready"])


@pytest.fixture
def again(rig):
    """Job 7 runs on h100-1, and a waiter of it has come there now."""
    lease = busy(rig)
    fifo = rig.world.site.jobs_folder / "7.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    rig.slurm.job_table[7] = a_job()
    came = rig.clock() + timedelta(seconds=1)
    inode = fifo.stat().st_ino
    rig.waits = WaitingJob(
        id=7, user="alice", nodes=("h100-1",), inode=inode, door=(inode, int(came.timestamp() * 1_000_000_000))
    )
    rig.machines.machines[lease.address].outputs["job_runs"] = {"runs": "yes"}
    yield lease
    os.close(reader)


def test_a_job_that_slurm_starts_anew_where_it_runs_already_loses_the_machine_first(rig, again):
    attend.attend(rig.world, rig.waits)
    assert rig.states() == ["ready"], "a run that ends just now costs nothing"
    rig.clock.pass_seconds(6)
    attend.attend(rig.world, rig.waits)
    assert rig.states() == ["releasing"]
    assert "has forgotten that job 7 runs" in rig.ledger()[0].reason
    rig.step(release)
    rig.step(lost)
    assert (rig.slurm.power_downs[0][0], rig.slurm.requeued_now) == (("h100-1",), [7])


def test_what_srun_runs_goes_on_although_slurm_has_forgotten_its_start(rig, again):
    rig.slurm.job_table[7] = a_job(batch=False)
    for _ in range(3):
        attend.attend(rig.world, rig.waits)
        rig.clock.pass_seconds(6)
    assert rig.states() == ["ready"]


def test_a_rerun_waits_until_the_first_run_can_no_longer_write(rig):
    """slurmctld was killed and has forgotten the first run, or has given its node up: it starts the job elsewhere."""
    busy(rig)
    rig.slurm.set_node("h100-1", "DOWN", "CLOUD", "NOT_RESPONDING")
    rig.ask("h100-2")
    rig.until(lambda: "slurmd" in rig.machines.machines["192.0.2.2"].ran)
    rig.slurm.set_node("h100-2", "ALLOCATED", "CLOUD")
    rig.until(lambda: rig.states() == ["ready", "ready"])
    rig.slurm.job_table[7] = a_job(nodes=("h100-2",))
    again = WaitingJob(id=7, user="alice", nodes=("h100-2",))
    attend.attend(rig.world, again)
    assert rig.states() == ["releasing", "ready"]
    assert "home_mount" not in rig.machines.machines["192.0.2.2"].ran
    rig.step(release)
    assert rig.as_user.exports() == []
    attend.attend(rig.world, again)
    assert [export.lease for export in rig.as_user.exports()] == [rig.ledger()[1].id]
