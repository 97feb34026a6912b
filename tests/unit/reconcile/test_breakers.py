"""What one purchase's end means for the next ones."""

from dataclasses import replace

import pytest
from factories import a_job, an_offer

from broker.core.blocks import Cause, Scope
from broker.core.errors import (
    CredentialsRefused,
    NoCapacity,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
)
from broker.db import blocks, leases
from broker.db.engine import reading
from broker.reconcile import allot, launch, refresh_offers


@pytest.fixture
def lone(rig):
    """One credential and one offer."""
    rig.sell(an_offer())
    return rig


def nodes_of(rig, state="bootstrapping"):
    return sorted(x.node for x in rig.ledger() if x.state == state)


def causes(rig, provider="lambda-a"):
    return [block.cause for block in rig.blocks(provider)]


@pytest.mark.parametrize(
    ("error", "cause", "scope"),
    [
        (NoCapacity("none left"), Cause.SOLD_OUT, Scope.OFFER),
        (QuotaExceeded("5 of 5"), Cause.QUOTA, Scope.FAMILY),
        (CredentialsRefused("inactive"), Cause.SALES_REFUSED, Scope.CREDENTIAL),
        (ProviderUnavailable("down"), Cause.UNREACHABLE, Scope.CREDENTIAL),
        (ProviderError("odd"), Cause.DECLINED, Scope.OFFER),
    ],
)
def test_a_refusal_blocks_what_it_speaks_of_and_keeps_the_providers_words(lone, error, cause, scope):
    lone.providers["lambda-a"].fail_create = [error]
    lone.ask()
    lone.step(allot, launch)
    (block,) = lone.blocks("lambda-a")
    assert (block.cause, block.scope, block.error) == (cause, scope, str(error))


def test_a_purchase_that_nobody_answered_and_nobody_saw_lets_others_go_first(lone):
    lone.providers["lambda-a"].fail_create = [OutcomeUnknown("timeout")]
    lone.ask()
    for _ in range(20):
        lone.step(allot, launch)
    assert Cause.UNANSWERED in causes(lone)


def test_a_purchase_that_died_with_the_daemon_blocks_nothing(lone):
    lone.ask()
    lone.step(allot)
    lone.providers["lambda-a"].create = lambda spec: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        lone.step(launch)
    lone.clock.pass_seconds(1)
    lone.world = replace(lone.world, started_at=lone.clock())
    for _ in range(20):
        lone.step(launch)
    assert [x.state for x in lone.ledger()] == ["released", "requested"]
    assert causes(lone) == []


def test_a_full_quota_of_one_model_leaves_the_others_on_sale(rig):
    rig.providers["lambda-a"].fail_create = [QuotaExceeded("5 of 5")]
    rig.sell(an_offer())
    rig.ask()
    rig.step(allot, launch)
    with reading(rig.world.engine) as db:
        seen = blocks.view(db, rig.clock(), rig.world.site.image)
    assert seen.stop(an_offer(zone="elsewhere")).words == "lambda-a's quota is full"
    assert seen.stop(an_offer(accelerator="A10")) is None


def test_after_a_sell_out_one_node_tries_and_its_machine_opens_the_door_for_the_rest(lone):
    provider = lone.providers["lambda-a"]
    provider.fail_create = [NoCapacity("none left")]
    lone.ask("h100-1")
    lone.step(allot, launch)
    end_all(lone)
    assert lone.blocks("lambda-a")[0].is_open(lone.clock())
    lone.clock.pass_seconds(60)
    for number in (2, 3, 4):
        lone.ask(f"h100-{number}", job_id=number)
    lone.step(allot)
    allotted = [x for x in lone.ledger() if x.state == "requested" and x.offer_id]
    assert len(allotted) == 1
    assert lone.blocks("lambda-a")[0].trying == allotted[0].id
    waiting = {x.reason for x in lone.ledger() if x.state == "requested" and not x.offer_id}
    assert waiting == {"sold out when it was tried; one attempt is being made"}
    lone.step(launch)
    assert causes(lone) == []
    lone.step(allot, launch)
    assert nodes_of(lone) == ["h100-2", "h100-3", "h100-4"]


def test_an_attempt_that_fails_closes_the_door_for_longer(lone):
    lone.providers["lambda-a"].fail_create = [NoCapacity("none left")] * 2
    lone.ask("h100-1")
    lone.step(allot, launch)
    lone.clock.pass_seconds(60)
    lone.ask("h100-2", job_id=8)
    lone.step(allot, launch)
    (block,) = lone.blocks("lambda-a")
    assert (block.strikes, block.trying) == (2, None)
    assert (block.until - block.at).total_seconds() == 120


def test_an_attempt_that_is_given_up_leaves_the_door_to_the_next(lone):
    lone.providers["lambda-a"].fail_create = [NoCapacity("none left")]
    lone.ask("h100-1")
    lone.step(allot, launch)
    end_all(lone)
    lone.clock.pass_seconds(60)
    given_up = lone.ask("h100-2", job_id=8)
    lone.step(allot)
    assert lone.blocks("lambda-a")[0].trying == given_up.id
    with lone.world.engine.begin() as db:
        leases.move(db, leases.get(db, given_up.id), "released", "cancelled", lone.clock())
    lone.ask("h100-3", job_id=9)
    lone.step(allot, launch)
    assert nodes_of(lone) == ["h100-3"]


def test_a_block_that_opens_between_the_choice_and_the_purchase_stops_it(lone):
    lone.ask("h100-1")
    lone.step(allot)
    with lone.world.engine.begin() as db:
        blocks.pause(db, "lambda-a", "the bill is checked", "root", lone.clock())
    lone.step(launch)
    assert lone.instances() == []
    assert "lambda-a is paused by root: the bill is checked" in str([e.reason for e in events(lone)])


def test_the_job_is_told_why_and_comes_back_when_the_first_block_falls(lone):
    lone.providers["lambda-a"].fail_create = [QuotaExceeded("5 of 5")]
    lone.slurm.job_table[7] = a_job()
    lone.ask()
    for _ in range(4):
        lone.step()
    assert lone.slurm.admin_comments[7].startswith(
        "broker: nothing to buy for h100: 1 × lambda-a's quota is full (again from 13:0"
    )
    # The quota is tried again in an hour, and Slurm's job at least every half hour.
    assert 1700 < (lone.slurm.not_before[7] - lone.clock()).total_seconds() <= 1800


def test_a_provider_that_does_not_answer_is_waited_for_on_the_node(lone):
    lone.providers["lambda-a"].fail_create = [ProviderUnavailable("down")]
    lone.ask()
    lone.step(allot, launch)
    lone.step(allot, launch)
    lone.step(allot, launch)
    assert nodes_of(lone) == ["h100-1"]
    assert causes(lone) == []


def test_a_refused_credential_is_shouted_once_and_bought_from_again_when_it_is_taken(lone, caplog):
    provider = lone.providers["lambda-a"]
    read = provider.offers

    def refuse():
        raise CredentialsRefused("key revoked")

    provider.offers = refuse
    for _ in range(3):
        refresh_offers.Refresh(lone.world).read(provider)
    lone.ask()
    lone.step(allot, launch)
    assert lone.instances() == []
    assert [r.levelname for r in caplog.records if "refused" in r.getMessage()].count("ERROR") == 1
    provider.offers = read
    refresh_offers.Refresh(lone.world).read(provider)
    lone.ask("h100-2", job_id=8)
    lone.step(allot, launch)
    assert nodes_of(lone) == ["h100-2"]


def test_a_marketplaces_machine_that_lies_is_not_bought_again_by_anybody(rig, bad_boots):
    liar = an_offer(machine="m-7")
    rig.sell(liar)
    rig.ask()
    rig.step(allot, launch)
    bad_boots(1)
    with reading(rig.world.engine) as db:
        seen = blocks.view(db, rig.clock(), rig.world.site.image)
    assert seen.stop(liar).words == "its machine failed before"
    assert seen.stop(replace(liar, machine="m-8")) is None


def test_one_bad_machine_of_a_pool_blocks_nothing_and_three_in_a_row_block_the_offer(rig, bad_boots):
    rig.sell(an_offer())
    for number in (1, 2, 3):
        rig.ask(f"h100-{number}", job_id=number)
    rig.step(allot, launch)
    bad_boots(2)
    assert not any(block.is_open(rig.clock()) for block in rig.blocks("lambda-a"))
    bad_boots(1)
    assert [b.cause for b in rig.blocks("lambda-a") if b.is_open(rig.clock())] == [Cause.BAD_BOOTS]


def test_an_image_that_boots_nowhere_is_protected_from_being_bought_for_until_one_boots(rig, bad_boots):
    zones = [an_offer(zone=f"zone-{number}") for number in range(8)]
    for number in range(5):
        rig.sell(zones[number])
        rig.ask("h100-1", job_id=number)
        rig.step(allot, launch)
        bad_boots(1)
        end_all(rig)
    assert Cause.PROTECTED in [b.cause for b in rig.blocks("lambda-a") if b.is_open(rig.clock())]
    rig.sell(zones[5], zones[6])
    rig.ask("h100-1", job_id=20)
    rig.step(allot, launch)
    assert nodes_of(rig) == []
    assert "protected mode" in rig.ledger()[-1].reason
    rig.clock.pass_seconds(600)
    rig.ask("h100-2", job_id=21)
    rig.ask("h100-3", job_id=22)
    rig.step(allot, launch)
    assert len(nodes_of(rig)) == 1
    for machine in rig.machines.machines.values():
        machine.outputs["facts"]["epoch"] = str(int(rig.clock().timestamp()))
    for name in ("h100-2", "h100-3"):
        rig.slurm.set_node(name, "IDLE", "CLOUD")
    rig.step()
    rig.step()
    assert nodes_of(rig, "ready")
    assert Cause.PROTECTED not in causes(rig)


@pytest.fixture
def bad_boots(rig):
    """So many of the booting machines turn out to be no good."""
    from broker.reconcile import bootstrap  # noqa: PLC0415

    def run(count):
        booting = [x for x in rig.ledger() if x.state == "bootstrapping"][:count]
        assert len(booting) == count
        for lease in booting:
            bootstrap._abandon(rig.world, lease, "the machine is no good: no GPU", bootstrap._Fault.MACHINE)

    return run


def end_all(rig):
    with rig.world.engine.begin() as db:
        for lease in leases.all_leases(db):
            if lease.state == "requested":
                leases.move(db, lease, "released", "cancelled", rig.clock())


def events(rig):
    with reading(rig.world.engine) as db:
        return [event for lease in leases.all_leases(db) for event in leases.events(db, lease.id)]
