import os
from dataclasses import replace
from datetime import timedelta

import pytest
from factories import a_job

from broker.core.errors import BrokerError, NodeUnreachable
from broker.core.leases import LeaseState
from broker.core.offers import InstanceSpec, InstanceState
from broker.core.usage import UsageKind
from broker.db import jobs, leases, usage
from broker.reconcile import allot, attend, bootstrap, exports, launch, overlay, release
from broker.reconcile.attend import WaitingJob, find_forgotten
from broker.reconcile.attend import find as find_attending
from broker.reconcile.renew import find as renew
from broker.reconcile.sweep import Sweep
from broker.services import purchases


@pytest.fixture
def waiting(rig):
    """PrologSlurmctld of job 7 waits: its FIFO has a reader, as the real waiter's has."""
    folder = rig.world.site.jobs_folder
    os.mkfifo(folder / "7.fifo")
    reader = os.open(folder / "7.fifo", os.O_RDONLY | os.O_NONBLOCK)
    (folder / "7.job").write_text("job=7\nuser=alice\nuid=1001\nnodes=h100-1\npartition=cloud\n")
    rig.slurm.job_table[7] = a_job()
    yield reader
    os.close(reader)


def slurm_sees(rig):
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")


def joined(rig):
    return "slurmd" in rig.machines.machines["192.0.2.1"].ran


def ready(rig, job_id=7):
    rig.ask(job_id=job_id)
    rig.until(lambda: joined(rig))
    slurm_sees(rig)
    rig.until(lambda: "ready" in rig.states())
    return rig.ledger()[0]


def test_a_bought_machine_becomes_a_node_once_slurm_sees_it(rig):
    rig.ask()
    rig.until(lambda: joined(rig))
    rig.step()
    assert rig.states() == ["bootstrapping"]
    slurm_sees(rig)
    rig.until(lambda: rig.states() == ["ready"], 3)


def test_the_hub_knows_the_node_by_one_key_at_its_address(rig):
    ready(rig)
    assert [peer.address for peer in rig.net.peers()] == [str(rig.world.site.addresses["h100-1"])]


def test_a_join_that_loses_its_connection_goes_on_where_it_stopped(rig):
    machine = rig.machines.machines["192.0.2.1"]
    machine.failures["munge"] = NodeUnreachable("gone")
    rig.ask()
    for _ in range(4):
        rig.step()
    del machine.failures["munge"]
    rig.until(lambda: joined(rig))
    assert machine.ran.count("bundle") == 1


def test_a_machine_that_lies_about_its_gpu_is_given_back_and_the_next_one_bought(rig):
    rig.machines.machines["192.0.2.1"].outputs["facts"] |= {"gpu_0": "NVIDIA A10, 24000"}
    rig.ask()
    rig.until(lambda: len(rig.ledger()) == 2)
    first, second = rig.ledger()
    assert "NVIDIA A10" in first.reason
    rig.clock.pass_seconds(30)
    rig.until(lambda: rig.ledger()[0].state == "released", 10)
    assert rig.ledger()[1].provider == "lambda-b"
    assert second.deadline == first.deadline


def test_a_machine_slurm_never_sees_is_given_back(rig):
    rig.ask()
    rig.until(lambda: joined(rig))
    rig.until(lambda: len(rig.ledger()) == 2, 60)
    assert "Slurm saw no node" in rig.ledger()[0].reason


def test_a_job_starts_only_when_its_home_is_there(rig, waiting):
    rig.ask()
    rig.until(lambda: joined(rig))
    slurm_sees(rig)
    rig.until(lambda: "job_until" in rig.machines.machines["192.0.2.1"].ran)
    rig.until(lambda: not list(rig.world.site.jobs_folder.glob("*.job")), 5)
    assert os.read(waiting, 100) == b"start\n"
    assert [(e.user, e.lease) for e in rig.as_user.exports()] == [("alice", rig.ledger()[0].id)]


def test_a_job_whose_home_cannot_be_mounted_is_not_let_go(rig, waiting):
    rig.machines.machines["192.0.2.1"].failures["home_mount"] = (1, "no such host")
    rig.ask()
    rig.until(lambda: joined(rig))
    slurm_sees(rig)
    for _ in range(5):
        rig.step()
    assert os.read(waiting, 100) == b""


def test_a_job_whose_end_cannot_be_promised_to_the_reaper_is_not_let_go(rig, waiting):
    def fails(lease, job_id, until):
        raise BrokerError("living.json cannot be written (No space left on device)")

    promise, rig.world = rig.world.promise, replace(rig.world, promise=fails)
    with pytest.raises(BrokerError, match="No space left"):
        ready(rig)
    assert os.read(waiting, 100) == b""
    rig.world = replace(rig.world, promise=promise)
    slurm_sees(rig)
    rig.until(lambda: "ready" in rig.states())
    rig.step()
    assert os.read(waiting, 100) == b"start\n"


def test_a_home_goes_when_its_job_has_ended(rig, waiting):
    test_a_job_starts_only_when_its_home_is_there(rig, waiting)
    rig.slurm.job_table[7] = a_job(state="COMPLETED")
    rig.until(lambda: "job_end" in rig.machines.machines["192.0.2.1"].ran, 5)
    assert list(rig.as_user.exports()) == []
    with rig.world.engine.begin() as db:
        assert jobs.open_jobs(db) == []


def test_a_node_let_go_is_stopped_fenced_and_given_back_in_that_order(rig):
    lease = ready(rig)
    with rig.world.engine.begin() as db:
        leases.move(db, leases.get(db, lease.id), "draining", "idle", rig.clock())
    rig.clock.pass_seconds(60)
    rig.until(lambda: rig.states() == ["released"], 10)
    assert "drain" in rig.machines.machines["192.0.2.1"].ran
    assert list(rig.net.peers()) == []
    assert rig.instances() == []


def test_the_dead_man_timer_of_a_working_node_is_put_forward(rig):
    ready(rig)
    for task in renew(rig.world):
        task.run()
    assert "renew" in rig.machines.machines["192.0.2.1"].ran


def test_an_orphan_of_ours_is_ended_after_a_grace_and_a_stranger_is_not_touched(rig):

    provider = rig.providers["lambda-a"]
    for label in ("broker-test-l0123456789-e1", "broker-other-l0123456789-e1", "somebody's"):
        provider.create(
            InstanceSpec(label=label, instance_type="t", zone="z", user_data="", ssh_public_key="ssh-ed25519 A")
        )
    sweep = Sweep(rig.world, timedelta(seconds=60))
    sweep.instances(provider)
    assert len(provider.instances()) == 3
    rig.clock.pass_seconds(61)
    sweep.instances(provider)
    assert [i.label for i in provider.instances()] == ["broker-other-l0123456789-e1", "somebody's"]


@pytest.mark.parametrize("fate", ["doubled", "late"])
def test_an_orphan_whose_lease_is_known_is_billed_between_bounds_that_hold_what_it_cost(rig, fate):
    lease = ready(rig)
    provider = rig.providers["lambda-a"]
    if fate == "late":
        rig.world.slurm.power_down_force(["h100-1"], "test")
        with rig.world.engine.begin() as db:
            purchases.give_up(db, lease, "test", rig.clock())
        rig.until(lambda: rig.states() == ["released"])
    began = rig.clock()
    stray = provider.create(
        InstanceSpec(label=lease.label or "", instance_type="t", zone="z", user_data="", ssh_public_key="ssh-ed25519 A")
    )
    sweep = Sweep(rig.world, timedelta(seconds=60))
    for _ in range(2):
        sweep.instances(provider)
        rig.clock.pass_seconds(61)
    sweep.instances(provider)
    sweep.instances(provider)
    assert stray.id in [i.id for i in provider.instances()], "it is ended as a lease, and not before it is one"
    rig.until(lambda: rig.states()[-1] == "released" and len(rig.states()) == 2, 10)
    ended = rig.clock()
    assert stray.id not in rig.instances()
    with rig.world.engine.begin() as db:
        own = next(row for row in leases.all_leases(db) if row.instance_id == stray.id)
        events = usage.of_lease(db, own.id)
        told = [event.reason for event in leases.events(db, lease.id)]
    assert any(f"orphan {stray.id}" in reason and own.id in reason for reason in told)
    assert events[UsageKind.START].not_before <= began <= events[UsageKind.START].not_after
    assert events[UsageKind.END].not_before <= ended and ended - events[UsageKind.END].not_after < timedelta(seconds=10)
    assert own.job_id is None, "a job's rounds are not counted by what nobody meant to buy"


def test_a_machine_that_vanished_ends_its_lease_after_three_listings(rig):

    lease = ready(rig)
    provider = rig.providers["lambda-a"]
    sweep = Sweep(rig.world, timedelta(seconds=60))
    provider.vanish(lease.instance_id)
    for expected in ("ready", "ready", "releasing"):
        sweep.instances(provider)
        assert rig.states() == [expected]
    rig.step(release)
    assert rig.slurm.power_downs[0][0] == ("h100-1",)


def test_a_booting_machine_the_provider_ends_is_replaced(rig):
    rig.ask()
    rig.step(allot, launch)
    rig.providers["lambda-a"].set_state("lambda-a-1", InstanceState.STOPPING)
    rig.until(lambda: len(rig.ledger()) == 2, 5)
    assert "ended the machine" in rig.ledger()[0].reason


def test_the_files_of_a_waiter_whose_job_was_cancelled_are_removed(rig, waiting):
    for task in find_forgotten(rig.world):
        task.run()
    assert len(list(rig.world.site.jobs_folder.iterdir())) == 2
    rig.slurm.job_table[7] = a_job(state="CANCELLED")
    for task in find_forgotten(rig.world):
        task.run()
    assert list(rig.world.site.jobs_folder.iterdir()) == []


def test_a_machine_that_takes_no_home_is_given_back_and_its_job_requeued(rig, waiting):
    rig.machines.machines["192.0.2.1"].failures["home_mount"] = (1, "sshfs: cannot be mounted")
    lease = ready(rig)
    began = rig.clock()
    rig.until(lambda: rig.states()[0] == "released", 120)
    assert (rig.clock() - began).total_seconds() >= 150
    assert "no home can be brought" in rig.ledger()[0].reason
    assert rig.slurm.power_downs[0][0] == (lease.node,)
    assert rig.instances() == []
    assert rig.as_user.exports() == []


def test_a_fifo_alone_goes_once_it_is_old_and_nobody_reads_it(rig, waiting):
    folder = rig.world.site.jobs_folder
    (folder / "7.job").unlink()  # we died before the other file followed
    os.mkfifo(folder / "8.fifo")
    for name in ("7.fifo", "8.fifo"):
        os.utime(folder / name, (rig.clock().timestamp(), rig.clock().timestamp()))
    assert list(find_forgotten(rig.world)) == []
    assert len(list(folder.iterdir())) == 2
    rig.clock.pass_seconds(61)
    assert list(find_forgotten(rig.world)) == []
    assert [path.name for path in folder.iterdir()] == ["7.fifo"]


def test_a_next_job_of_the_same_user_keeps_the_home_that_the_last_ones_end_would_take(rig, waiting):
    test_a_job_starts_only_when_its_home_is_there(rig, waiting)
    ran = rig.machines.machines["192.0.2.1"].ran
    rig.slurm.job_table[7] = a_job(state="COMPLETED")
    rig.slurm.job_table[8] = a_job(id=8)
    (rig.world.site.jobs_folder / "8.job").write_text("job=8\nuser=alice\nuid=1001\nnodes=h100-1\npartition=cloud\n")
    tasks = {task.key: task for task in find_attending(rig.world)}
    tasks["job:8"].run()
    tasks[f"home:{rig.ledger()[0].id}:7"].run()
    assert "job_end" not in ran
    assert [e.user for e in rig.as_user.exports()] == ["alice"]


def test_a_home_being_taken_away_is_brought_anew_for_the_next_job(rig, waiting):
    test_a_job_starts_only_when_its_home_is_there(rig, waiting)
    ran = rig.machines.machines["192.0.2.1"].ran
    rig.slurm.job_table[7] = a_job(state="COMPLETED")
    rig.slurm.job_table[8] = a_job(id=8)
    (rig.world.site.jobs_folder / "8.job").write_text("job=8\nuser=alice\nuid=1001\nnodes=h100-1\npartition=cloud\n")
    tasks = {task.key: task for task in find_attending(rig.world)}
    tasks[f"home:{rig.ledger()[0].id}:7"].run()
    tasks["job:8"].run()
    assert ran[-4:] == ["job_end", "job_identity", "home_mount", "job_until"]
    assert [e.user for e in rig.as_user.exports()] == ["alice"]


def test_a_hub_that_lost_its_peers_gets_them_again_and_a_stranger_is_fenced(rig):
    lease = ready(rig)
    rig.net.remove_peer(rig.ledger()[0].overlay_key)
    rig.net.set_peer("c3RyYW5nZXIncyBrZXkgZm9yIHRlc3RzISEhISEhISE=", "10.77.0.200")
    overlay.mend(rig.world)
    assert [peer.address for peer in rig.net.peers()] == [str(rig.world.site.addresses[lease.node])]


def test_a_dead_broker_net_keeps_no_machine_on_the_bill(rig):
    lease = ready(rig)

    def dead(key):
        raise BrokerError("broker-net does not answer")

    rig.net.remove_peer = dead
    with rig.world.engine.begin() as db:
        leases.move(db, leases.get(db, lease.id), "draining", "idle", rig.clock())
    rig.clock.pass_seconds(60)
    rig.until(lambda: rig.states() == ["released"], 10)
    assert rig.instances() == []


def test_a_dead_waiters_file_neither_ends_another_users_job_nor_opens_a_second_home(rig, waiting):
    rig.slurm.job_table[7] = a_job(state="CANCELLED", nodes=())
    rig.slurm.job_table[8] = a_job(id=8, user="bob", state="RUNNING")
    lease = ready(rig, job_id=8)
    with rig.world.engine.begin() as db:
        jobs.attend(db, 8, lease.id, "bob", rig.clock())
        jobs.mounted(db, 8, lease.id, rig.clock())
    rig.as_user.export_home("bob", lease.id, "ssh-ed25519 AAAA", "10.77.0.2")
    for task in find_attending(rig.world):
        task.run()
    assert "job_end" not in rig.machines.machines["192.0.2.1"].ran
    assert [export.user for export in rig.as_user.exports()] == ["bob"]
    assert list(rig.world.site.jobs_folder.glob("7.*")) == []


def test_a_node_that_slurm_gave_up_and_nothing_stands_behind_is_made_free_again(rig):
    rig.slurm.set_node("h100-2", "DOWN", "CLOUD", "POWERED_DOWN")
    rig.slurm.set_node("h100-3", "IDLE", "CLOUD", "POWERED_DOWN")
    rig.slurm.set_node("h100-4", "IDLE", "CLOUD", "POWERED_DOWN")
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    sweep = Sweep(rig.world, timedelta(seconds=60))
    sweep.nodes()
    assert rig.slurm.power_downs == []
    rig.clock.pass_seconds(61)
    sweep.nodes()
    assert sorted(rig.slurm.power_downs[0][0]) == ["h100-1", "h100-2"]


def test_a_node_whose_wake_up_call_nobody_has_read_yet_is_not_powered_down(rig):
    """A daemon that was behind powered down what Slurm had just woken, every 15 s anew (found by chaos)."""
    unread = {"h100-1"}
    for node in ("h100-1", "h100-2"):
        rig.slurm.set_node(node, "ALLOCATED", "CLOUD", "POWERING_UP")
    for node in ("h100-3", "h100-4"):
        rig.slurm.set_node(node, "IDLE", "CLOUD", "POWERED_DOWN")
    sweep = Sweep(rig.world, timedelta(seconds=60), lambda: unread)
    for seconds in (0, 61, 15):
        rig.clock.pass_seconds(seconds)
        sweep.nodes()
    assert [list(names) for names, _ in rig.slurm.power_downs] == [["h100-2"]], "the next waking has its own grace"
    unread.clear()
    for seconds in (0, 61):
        rig.clock.pass_seconds(seconds)
        sweep.nodes()
    assert "h100-1" in rig.slurm.power_downs[-1][0]


def test_one_users_clean_up_in_trouble_keeps_no_other_home_open(rig):
    lease = ready(rig)
    with rig.world.engine.begin() as db:
        jobs.attend(db, 11, lease.id, "alice", rig.clock())
        jobs.attend(db, 12, lease.id, "bob", rig.clock())
    keys = [task.key for task in find_attending(rig.world)]
    assert sorted(keys) == [f"home:{lease.id}:11", f"home:{lease.id}:12"]


def test_while_slurmctld_is_away_no_good_machine_is_thrown_away(rig):
    machine = rig.machines.machines["192.0.2.1"]
    rig.ask()
    rig.step(allot, launch)
    machine.failures["slurmd"] = (1, "no controller")
    rig.slurm.available = False
    for _ in range(10):
        rig.step(bootstrap)
    assert rig.states() == ["bootstrapping"]
    rig.slurm.available = True
    del machine.failures["slurmd"]
    rig.until(lambda: joined(rig))
    slurm_sees(rig)
    rig.until(lambda: rig.states() == ["ready"], 5)


def test_a_machine_fenced_while_a_home_is_brought_to_it_keeps_no_export(rig, waiting):
    lease = ready(rig)
    export = rig.as_user.export_home

    def fenced_first(user, lease_id, key, address):
        with rig.world.engine.begin() as db:
            leases.move(db, leases.get(db, lease_id), LeaseState.RELEASING, "lost", rig.clock())
        return export(user, lease_id, key, address)

    rig.as_user.export_home = fenced_first
    with rig.world.engine.begin() as db:
        jobs.end(db, 7, lease.id, rig.clock())
    rig.as_user.unexport_home("alice", lease.id)
    with pytest.raises(BrokerError, match="no home is brought"):
        attend.attend(rig.world, WaitingJob(id=7, user="alice", nodes=("h100-1",)))
    assert rig.as_user.exports() == []


def test_an_export_that_no_job_needs_is_taken_away(rig, waiting):
    lease = ready(rig)
    rig.as_user.export_home("bob", lease.id, "ssh-ed25519 AAAA", "10.77.0.2")
    exports.mend(rig.world)
    assert [export.user for export in rig.as_user.exports()] == ["alice"]
