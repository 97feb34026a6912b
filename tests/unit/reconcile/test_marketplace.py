"""What strangers' machines taught: a contract's end, a market that is not the one ordered, a bid that is outbid, a notice."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from factories import NOON, a_job, an_offer

from broker.core.offers import CapacityType, InstanceState
from broker.db import leases
from broker.reconcile import allot, launch, release
from broker.reconcile.sweep import Sweep

ONE_MACHINE = {"machine": "22990", "instance_type": "22990x1", "until": NOON + timedelta(days=9)}


def reasons(rig):
    return " | ".join(str(lease.reason) for lease in rig.ledger())


def test_what_is_bought_is_the_machine_and_the_market_of_the_offer_at_the_price_with_its_disk(rig):
    rig.slurm.job_table[7] = a_job(id=7, comment="broker:spot=yes")
    bid = an_offer(capacity_type=CapacityType.SPOT, disk_price_per_gib_hour=Decimal("0.001"), **ONE_MACHINE)
    rig.sell(bid)
    rig.ask()
    rig.step(allot, launch)
    (lease,) = rig.ledger()
    (spec,) = rig.providers["lambda-a"].created
    assert (spec.capacity_type, spec.machine, spec.disk_gib) == (CapacityType.SPOT, "22990", 100)
    assert spec.price_per_hour == lease.price_per_hour == bid.price_per_hour + Decimal("0.1")
    assert (lease.capacity_type, lease.machine) == (CapacityType.SPOT, "22990")


def test_a_machine_that_is_taken_back_before_the_job_could_end_is_left_out(rig):
    rig.sell(an_offer(**ONE_MACHINE | {"until": NOON + timedelta(minutes=80)}))
    rig.slurm.job_table[7] = a_job(id=7, time_limit=timedelta(hours=1))
    rig.ask()
    rig.step(allot)
    assert "takes the machine back before the job could end" in reasons(rig)


def test_a_job_short_enough_gets_the_same_machine(rig):
    rig.sell(an_offer(**ONE_MACHINE | {"until": NOON + timedelta(minutes=80)}))
    rig.slurm.job_table[7] = a_job(id=7, time_limit=timedelta(minutes=30))
    rig.ask()
    rig.step(allot, launch)
    assert rig.states() == ["bootstrapping"]


def test_a_machine_rented_in_another_market_than_ordered_is_given_back(rig):
    rig.ask()
    rig.step(allot, launch)
    provider = rig.providers["lambda-a"]
    (instance,) = provider.instances()
    provider._instances[instance.id] = replace(instance, capacity_type=CapacityType.SPOT)
    rig.step()
    assert "rented as spot, and ordered as on_demand" in rig.ledger()[0].reason
    assert rig.states()[0] == "releasing"


def test_an_outbid_machine_is_lost_given_back_and_asked_to_end(rig):
    rig.ask()
    rig.until(lambda: "slurmd" in rig.machines.machines["192.0.2.1"].ran)
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    rig.until(lambda: rig.states() == ["ready"])
    provider = rig.providers["lambda-a"]
    (lease,) = rig.ledger()
    provider.set_state(lease.instance_id, InstanceState.STOPPED)
    Sweep(rig.world, timedelta(seconds=60)).instances(provider)
    assert rig.ledger()[0].reason.startswith("lost:")
    rig.step(release)
    assert provider.instances() == [], "a stopped machine is not on its way out by itself"


def test_a_stopped_machine_that_nobody_holds_is_an_orphan(rig):
    rig.ask()
    rig.step(allot, launch)
    provider = rig.providers["lambda-a"]
    (lease,) = rig.ledger()
    with rig.world.engine.begin() as db:
        leases.put_back(db, replace(lease, state="released", fenced_at=NOON), "made for the test", NOON)
    provider.set_state(lease.instance_id, InstanceState.STOPPED)
    sweep = Sweep(rig.world, timedelta(seconds=60))
    sweep.instances(provider)
    rig.clock.pass_seconds(61)
    sweep.instances(provider)
    rig.step(release)
    assert provider.instances() == []


def test_a_notice_stands_in_the_leases_history_once(rig):
    rig.ask()
    rig.step(allot, launch)
    provider = rig.providers["lambda-a"]
    (instance,) = provider.instances()
    provider._instances[instance.id] = replace(instance, notice="the price rises")
    for _ in range(2):
        Sweep(rig.world, timedelta(seconds=60)).instances(provider)
    (lease,) = rig.ledger()
    with rig.world.engine.begin() as db:
        said = [event.reason for event in leases.events(db, lease.id)]
    assert said.count("notice of the provider: the price rises") == 1
