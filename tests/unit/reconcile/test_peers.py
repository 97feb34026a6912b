"""The machines of one job become peers of one another."""

import pytest
from factories import a_job

from broker.core.leases import LeaseState
from broker.db import leases, steps
from broker.reconcile import attend, hand_back, lost, peers
from broker.reconcile.attend import WaitingJob

NODES = ("h100-1", "h100-2")


@pytest.fixture
def pair(rig):
    """Two joined machines of job 7, each with a key of its own."""
    for node in NODES:
        rig.ask(node)
    rig.slurm.job_table[7] = a_job(nodes=NODES)
    rig.until(lambda: sum("slurmd" in machine.ran for machine in rig.machines.machines.values()) == 2)
    found = []
    with rig.world.engine.begin() as db:
        for number, node in enumerate(NODES):
            lease = leases.holding(db, node)
            steps.record(
                db, lease.id, "overlay", {"public_key": f"key{number}", "listen_port": "4500"}, 0.1, rig.clock()
            )
            found.append(leases.amend(db, lease, None, rig.clock(), private_address=f"10.19.0.{number}"))
    return found


def meets(rig, lease, *keys):
    rig.machines.machines[lease.address].outputs["peers_met"] = {"met": " ".join(keys)}


def test_machines_that_have_met_on_both_sides_are_no_strangers(rig, pair):
    meets(rig, pair[0], "key1")
    meets(rig, pair[1], "key0")
    assert peers.introduce(rig.world, 7, pair) == []


def test_one_side_alone_is_not_enough(rig, pair):
    meets(rig, pair[0], "key1")
    meets(rig, pair[1])
    assert peers.introduce(rig.world, 7, pair) == ["h100-1 and h100-2"]


def test_a_job_whose_machines_cannot_meet_is_not_started_but_held_with_the_reason(rig, pair):
    for lease in pair:
        meets(rig, lease)
        rig.slurm.set_node(lease.node, "ALLOCATED", "CLOUD")
    for _ in range(3):
        rig.step()
    attend.attend(rig.world, WaitingJob(id=7, user="alice", nodes=NODES))
    rig.step(hand_back)
    assert rig.slurm.held == [7]
    assert "h100-1 and h100-2 cannot reach one another" in rig.slurm.admin_comments[7]
    assert {name for names, _ in rig.slurm.power_downs for name in names} == {*NODES}
    with rig.world.engine.begin() as db:
        assert leases.holding(db, "h100-1").state is LeaseState.READY, "Slurm's own call lets it go"


def test_a_machine_that_cannot_be_introduced_is_given_back_after_a_while_and_its_job_starts_anew(rig, pair):
    meets(rig, pair[0], "key1")
    for lease in pair:
        rig.slurm.set_node(lease.node, "ALLOCATED", "CLOUD")
    for _ in range(3):
        rig.step()
    rig.machines.machines[pair[1].address].failures["peers"] = (1, "wg: no such device")
    waiting = WaitingJob(id=7, user="alice", nodes=NODES)
    began = rig.clock()
    while "draining" not in rig.states():
        with pytest.raises(peers.Untold, match="h100-2 cannot be introduced"):
            attend.attend(rig.world, waiting)
        rig.clock.pass_seconds(10)
    assert 120 <= (rig.clock() - began).total_seconds() <= 140
    assert rig.states() == ["ready", "draining"], "the machine that is well is kept"
    assert [names for names, _ in rig.slurm.power_downs] == [("h100-2",)]
    assert "cannot be introduced" in rig.ledger()[1].reason
    rig.step(lost)
    assert rig.slurm.requeued_now == [7]


def test_a_short_trouble_with_an_introduction_costs_no_machine(rig, pair):
    meets(rig, pair[0], "key1")
    meets(rig, pair[1], "key0")
    machine = rig.machines.machines[pair[1].address]
    waiting = WaitingJob(id=7, user="alice", nodes=NODES)
    for _ in range(3):
        machine.failures["peers"] = (1, "wg: no such device")
        for _ in range(6):
            with pytest.raises(peers.Untold):
                attend.attend(rig.world, waiting)
            rig.clock.pass_seconds(10)
        del machine.failures["peers"]
        attend.attend(rig.world, waiting)
        rig.world.introduced.clear()
    assert "draining" not in rig.states() and rig.slurm.power_downs == []
