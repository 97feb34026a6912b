"""Jobs of several nodes: bought whole, in one place, or not at all."""

import os
from datetime import timedelta
from decimal import Decimal

import pytest
from factories import a_job, a_lease, an_offer

from broker.core.demand import Limits
from broker.core.errors import NoCapacity
from broker.core.leases import LeaseState
from broker.core.usage import UsageEvent, UsageKind
from broker.db import leases, steps, usage
from broker.reconcile import allot, hand_back, launch, release, waiter
from broker.services import purchases

NODES = ("h100-1", "h100-2", "h100-3")
EAST, WEST = an_offer(), an_offer(provider="lambda-b", zone="us-west-1", price_per_hour=Decimal(5))


def wake(rig, nodes=NODES, job_id=7, call="r1"):
    """One call of ResumeProgram for the nodes of one job."""
    rig.slurm.job_table[job_id] = a_job(id=job_id, nodes=tuple(nodes))
    for node in nodes:
        add(rig, node, job_id, call)


def add(rig, node, job_id, call):
    with rig.world.engine.begin() as db:
        return purchases.request(
            db,
            node=node,
            shape="h100",
            job_id=job_id,
            request_id=call,
            at=rig.clock(),
            deadline=rig.clock() + timedelta(minutes=25),
            now=rig.clock(),
        )


def standing(rig):
    return {lease.node: (lease.provider, lease.zone) for lease in rig.ledger() if lease.state == "bootstrapping"}


def test_all_nodes_of_a_job_are_bought_in_one_place(rig):
    rig.sell(EAST, WEST)
    wake(rig)
    rig.step(allot, launch)
    assert standing(rig) == dict.fromkeys(NODES, ("lambda-a", "us-east-1"))


def test_a_place_with_too_few_machines_gets_nothing_and_the_whole_job_goes_elsewhere(rig):
    rig.sell(EAST, WEST)
    create = rig.providers["lambda-a"].create

    def one_only(spec):
        if rig.providers["lambda-a"].created:
            raise NoCapacity("no more")
        return create(spec)

    rig.providers["lambda-a"].create = one_only
    wake(rig)
    rig.until(lambda: len(standing(rig)) == 3, 8)
    assert standing(rig) == dict.fromkeys(NODES, ("lambda-b", "us-west-1"))
    rig.clock.pass_seconds(60)
    rig.until(lambda: [i.split("-")[1] for i in rig.instances()] == ["b"] * 3, 5)
    assert len(rig.providers["lambda-a"].created) == 1


def test_what_a_dissolved_group_bought_goes_to_the_next_job_of_the_call(rig):
    rig.sell(EAST)
    create = rig.providers["lambda-a"].create

    def two_only(spec):
        if len(rig.providers["lambda-a"].created) == 2:
            raise NoCapacity("no more")
        return create(spec)

    rig.providers["lambda-a"].create = two_only
    wake(rig)
    wake(rig, ["h100-4"], job_id=8)
    for _ in range(4):
        rig.step(allot, launch, hand_back)
        rig.clock.pass_seconds(-2.5)
    taken = [lease for lease in rig.ledger() if lease.node == "h100-4" and lease.state == "bootstrapping"]
    assert [(lease.job_id, lease.instance_id is not None) for lease in taken] == [(8, True)]
    assert len(rig.providers["lambda-a"].created) == 2
    rig.clock.pass_seconds(20)
    rig.until(lambda: len(rig.instances()) == 1, 5)


def test_a_machine_that_lies_is_replaced_where_the_others_stand(rig):
    rig.sell(EAST, an_offer(instance_type="gpu_1x_h100_pcie", price_per_hour=Decimal(6)), WEST)
    wake(rig)
    rig.step(allot, launch)
    with rig.world.engine.begin() as db:
        purchases.abandon(db, leases.holding(db, "h100-2"), "it lies about its GPU", rig.clock())
    rig.step(allot, launch)
    assert standing(rig)["h100-2"] == ("lambda-a", "us-east-1")
    assert len(standing(rig)) == 3


def test_a_limit_counts_the_whole_job(rig):
    object.__setattr__(rig.world.site, "limits", Limits(max_usd_per_hour=Decimal(10)))
    wake(rig)
    rig.step(allot, launch)
    assert rig.instances() == []
    assert "max_usd_per_hour" in rig.slurm.admin_comments[7]


def test_a_job_larger_than_the_site_allows_is_held_and_told_why(rig):
    object.__setattr__(rig.world.site, "limits", Limits(max_nodes=2))
    wake(rig)
    for _ in range(3):
        rig.step(allot, launch, hand_back)
    assert rig.slurm.held == [7]
    assert "3 nodes can never be bought: [limits] max_nodes = 2" in rig.slurm.admin_comments[7]


def test_half_of_a_job_waits_for_a_moment_for_the_other_half(rig):
    rig.slurm.job_table[7] = a_job(nodes=NODES)
    add(rig, "h100-1", 7, "r1")
    rig.step(allot, launch)
    assert rig.instances() == []
    for node in NODES[1:]:
        add(rig, node, 7, "r2")
    rig.clock.pass_seconds(-2)
    rig.step(allot, launch)
    assert len(rig.instances()) == 3


def test_an_hour_of_total_sell_out_costs_few_calls_and_the_job_is_told(rig):
    rig.sell(an_offer(available=False))
    began, calls = rig.clock(), 0
    while rig.clock() - began < timedelta(hours=1) and not rig.slurm.held:
        calls += 1
        wake(rig, ["h100-1"], call=f"r{calls}")
        rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD", "POWERING_UP")
        for _ in range(4):
            rig.step(allot, launch, hand_back)
        assert rig.slurm.job_table[7].state == "PENDING"
        assert "nothing to buy for h100" in rig.slurm.admin_comments[7]
        if not rig.slurm.held:
            rig.clock.now = max(rig.clock.now, rig.slurm.not_before[7])
    assert calls <= 10
    assert rig.instances() == []


def test_after_six_rounds_the_job_is_held_until_somebody_releases_it(rig):
    rig.sell(an_offer(available=False))
    for number in range(7):
        wake(rig, ["h100-1"], call=f"r{number}")
        rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD", "POWERING_UP")
        for _ in range(4):
            rig.step(allot, launch, hand_back)
    assert rig.slurm.held == [7]
    assert "scontrol release 7" in rig.slurm.admin_comments[7]


@pytest.mark.parametrize("size", [1, 3])
def test_an_interactive_job_is_told_and_ended_by_its_waiter_rather_than_kept_waiting(rig, size):
    fifo = rig.world.site.jobs_folder / "7.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    rig.sell(an_offer(available=False))
    wake(rig, NODES[:size])
    rig.slurm.job_table[7] = a_job(nodes=NODES[:size], batch=False)
    rig.step(allot, launch, hand_back)
    assert os.read(reader, 999).startswith(b"end broker: nothing to buy for")
    os.close(reader)
    assert rig.slurm.power_downs == [], "srun would have died of it, without a word"
    rig.step(hand_back)
    assert rig.slurm.cancelled == [7], "nobody waited any more: it is ended all the same"
    rig.step(hand_back)
    assert rig.slurm.held == []


def test_an_offer_that_boots_later_than_slurm_waits_is_not_bought(rig):
    rig.sell(EAST, WEST)
    with rig.world.engine.begin() as db:
        for number in range(5):
            past = a_lease(node=f"old-{number}", state=LeaseState.RELEASED, request_id=f"old-{number}")
            leases.add(db, past, "long ago", rig.clock())
            steps.record(db, past.id, "slurmd", {}, 1.0, rig.clock() + timedelta(minutes=30))
            usage.record(
                db,
                UsageEvent(
                    lease_id=past.id,
                    kind=UsageKind.START,
                    not_before=rig.clock(),
                    not_after=rig.clock(),
                    price_per_hour=Decimal(4),
                    currency="USD",
                ),
            )
    rig.ask()
    rig.step(allot, launch)
    assert standing(rig) == {"h100-1": ("lambda-b", "us-west-1")}


def test_nothing_is_bought_for_a_job_that_has_ended(rig):
    rig.ask()
    rig.slurm.job_table[7] = a_job(state="CANCELLED", nodes=())
    for _ in range(2):
        rig.step(allot, launch, hand_back)
    assert (rig.states(), rig.instances()) == (["released"], [])
    assert rig.slurm.power_downs[0][0] == ("h100-1",)


def test_another_jobs_wishes_count_when_the_node_went_over_to_it(rig):
    rig.ask()
    rig.slurm.job_table[7] = a_job(state="CANCELLED", nodes=())
    rig.slurm.job_table[8] = a_job(id=8, comment="broker:providers=lambda-b")
    rig.step(allot, launch)
    assert [(x.job_id, x.provider) for x in rig.ledger()] == [(8, "lambda-b")]


def test_a_group_given_back_whole_leaves_nothing(rig):
    wake(rig)
    rig.step(allot, launch)
    with rig.world.engine.begin() as db:
        for node in NODES:
            purchases.give_up(db, leases.holding(db, node), "cancelled", rig.clock())
    rig.clock.pass_seconds(60)
    for _ in range(4):
        rig.step(release)
    assert rig.instances() == []


def test_a_word_for_a_waiter_never_reaches_that_of_the_jobs_next_start(rig):
    folder = rig.world.site.jobs_folder
    os.mkfifo(folder / "7.fifo")
    old = waiter.door(folder, 7)
    (folder / "7.fifo").unlink()
    os.mkfifo(folder / "7.fifo")
    reader = os.open(folder / "7.fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert not waiter.tell(folder, 7, "start", old)
    assert os.read(reader, 99) == b""
    assert waiter.tell(folder, 7, "start", waiter.door(folder, 7))
    assert os.read(reader, 99) == b"start\n"
    os.close(reader)


def test_surplus_that_was_given_up_meanwhile_is_taken_by_nobody(rig, monkeypatch):
    rig.sell(EAST)
    create = rig.providers["lambda-a"].create

    def two_only(spec):
        if len(rig.providers["lambda-a"].created) == 2:
            raise NoCapacity("no more")
        return create(spec)

    rig.providers["lambda-a"].create = two_only
    wake(rig)
    wake(rig, ["h100-4"], job_id=8)
    rig.step(allot, launch)
    fits = allot._fits

    def given_up_now(look, party, machine):
        with rig.world.engine.begin() as db:
            current = leases.get(db, machine.id)
            if current.state is LeaseState.BOOTSTRAPPING:
                purchases.give_up(db, current, "Slurm let the node go", rig.clock())
        return fits(look, party, machine)

    monkeypatch.setattr(allot, "_fits", given_up_now)
    rig.step(allot)
    assert [lease.state for lease in rig.ledger() if lease.node == "h100-4"] == ["requested"]
