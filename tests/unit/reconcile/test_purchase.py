from datetime import timedelta
from decimal import Decimal

import pytest
from factories import a_job, an_offer

from broker.core.blocks import Cause
from broker.core.demand import Limits
from broker.core.errors import (
    CredentialsRefused,
    NoCapacity,
    OutcomeUnknown,
    ProviderUnavailable,
    QuotaExceeded,
    StaleLease,
)
from broker.core.leases import LeaseState
from broker.core.offers import InstanceSpec
from broker.core.usage import UsageKind, bounds
from broker.db import leases, purchasing, usage
from broker.reconcile import allot, launch, release


def test_a_wish_becomes_one_machine_of_the_cheapest_offer(rig):
    rig.sell(an_offer(price_per_hour=Decimal(5)), an_offer(provider="lambda-b", price_per_hour=Decimal(4)))
    rig.ask()
    rig.step(allot, launch)
    (lease,) = rig.ledger()
    assert (lease.state, lease.provider, lease.price_per_hour) == ("bootstrapping", "lambda-b", Decimal(4))
    assert rig.instances() == ["lambda-b-1"]


@pytest.mark.parametrize("error", [NoCapacity("sold"), QuotaExceeded("full")])
def test_a_refused_offer_is_followed_by_the_next_behind_the_same_name(rig, error):
    rig.providers["lambda-a"].fail_create = [error]
    rig.ask()
    rig.step(allot, launch)
    rig.step(allot, launch)
    assert [(x.attempt, x.state, x.provider) for x in rig.ledger()] == [
        (1, "released", "lambda-a"),
        (2, "bootstrapping", "lambda-b"),
    ]


def test_a_refused_credential_is_left_alone_from_then_on(rig):
    rig.providers["lambda-a"].fail_create = [CredentialsRefused("bad key")]
    rig.ask()
    rig.step(allot, launch)
    (block,) = rig.blocks("lambda-a")
    assert (block.cause, block.error) == (Cause.SALES_REFUSED, "bad key")
    rig.ask("h100-2", job_id=8)
    rig.step(allot, launch)
    assert [x.provider for x in rig.ledger() if x.state == "bootstrapping"] == ["lambda-b", "lambda-b"]


def test_a_machine_whose_purchase_was_answered_by_silence_is_adopted(rig):
    provider = rig.providers["lambda-a"]
    provider.fail_create, provider.lose_answers = [OutcomeUnknown("timeout")], True
    rig.ask()
    rig.until(lambda: rig.states() == ["bootstrapping"], 5)
    assert len(provider.created) == 1
    assert rig.ledger()[0].instance_id == "lambda-a-1"


def test_a_purchase_that_never_happened_is_made_elsewhere_only_after_the_visibility_lag(rig):
    rig.providers["lambda-a"].fail_create = [OutcomeUnknown("timeout")]
    rig.ask()
    rig.step(allot, launch)
    began = rig.clock()
    while rig.states() != ["released", "requested"]:
        rig.step(allot, launch)
    assert (rig.clock() - began).total_seconds() >= 2 * rig.providers["lambda-a"].visibility_lag_seconds


def test_a_machine_nobody_ever_saw_may_be_on_the_bill_so_the_ledger_bounds_what_it_cost(rig):
    provider = rig.providers["lambda-a"]
    provider.fail_create, provider.lose_answers = [OutcomeUnknown("timeout")], True
    lease = rig.ask()
    rig.step(allot, launch)
    provider.vanish("lambda-a-1")
    rig.until(lambda: rig.states()[0] == "released", 10)
    with rig.world.engine.begin() as db:
        used = usage.of_lease(db, lease.id)
    cost = bounds(used[UsageKind.START], used[UsageKind.END], rig.clock(), timedelta(minutes=1))
    assert cost.low == 0
    assert cost.high >= Decimal("4.29") / 60


def test_a_machine_adopted_late_is_charged_from_when_it_may_have_been_bought(rig):
    provider = rig.providers["lambda-a"]
    provider.fail_create, provider.lose_answers = [OutcomeUnknown("timeout")], True
    create = provider.create

    def slowly(spec):
        rig.clock.pass_seconds(30)
        return create(spec)

    provider.create = slowly
    lease = rig.ask()
    rig.step(allot)
    sent_at = rig.clock()
    rig.until(lambda: rig.states() == ["bootstrapping"], 5)
    with rig.world.engine.begin() as db:
        assert usage.of_lease(db, lease.id)[UsageKind.START].not_before <= sent_at


def test_a_crash_after_the_purchase_buys_nothing_twice(rig):
    lease = rig.ask()
    bought = rig.providers["lambda-a"].create

    def die_after(spec):
        bought(spec)
        raise KeyboardInterrupt

    rig.providers["lambda-a"].create = die_after
    rig.step(allot)
    with pytest.raises(KeyboardInterrupt):
        launch.launch(rig.world, lease.id)
    rig.providers["lambda-a"].create = bought
    rig.step(allot, launch)
    assert rig.states() == ["bootstrapping"]
    assert rig.instances() == ["lambda-a-1"]


def test_a_lease_given_up_while_its_machine_was_bought_gives_it_back(rig):
    lease = rig.ask()
    bought = rig.providers["lambda-a"].create

    def overtaken(spec):
        with rig.world.engine.begin() as db:
            leases.move(db, leases.get(db, lease.id), LeaseState.RELEASING, "suspended", rig.clock())
        return bought(spec)

    rig.providers["lambda-a"].create = overtaken
    rig.step(allot)
    launch.launch(rig.world, lease.id)
    rig.clock.pass_seconds(60)
    rig.until(lambda: rig.states() == ["released"], 10)
    assert rig.instances() == []


def test_limits_are_held_by_the_intent_itself(rig):
    object.__setattr__(rig.world.site, "limits", Limits(max_nodes=1))
    rig.ask("h100-1")
    rig.ask("h100-2", job_id=8)
    rig.step(allot, launch)
    assert sorted(rig.states()) == ["bootstrapping", "requested"]
    assert "max_nodes = 1" in next(x.reason for x in rig.ledger() if x.state == "requested")


def test_money_per_hour_is_limited(rig):
    object.__setattr__(rig.world.site, "limits", Limits(max_usd_per_hour=Decimal("4")))
    rig.ask()
    rig.step(allot, launch)
    assert rig.states() == ["requested"]
    assert "max_usd_per_hour" in rig.ledger()[0].reason


def test_while_buying_is_paused_nothing_is_bought_and_the_reason_stands_once_in_the_history(rig):
    with rig.world.engine.begin() as db:
        purchasing.set_paused(db, "maintenance", "root")
    lease = rig.ask()
    for _ in range(20):
        rig.step(allot, launch)
    assert rig.instances() == []
    with rig.world.engine.begin() as db:
        assert [e.reason for e in leases.events(db, lease.id)][1:] == ["buying is paused: maintenance"]


def test_when_nothing_fits_the_node_is_given_up_and_the_job_tried_later(rig):
    rig.sell(an_offer(available=False))
    rig.slurm.job_table[7] = a_job()
    rig.ask()
    for _ in range(3):
        rig.step()
    assert rig.states() == ["released"]
    assert rig.slurm.power_downs == [(("h100-1",), "broker: nothing to buy for h100: 1 × sold out")]
    assert rig.slurm.admin_comments[7].startswith("broker: nothing to buy for h100")
    assert (rig.slurm.not_before[7] - rig.clock()).total_seconds() > 45


def test_a_machine_is_released_only_once_the_provider_has_forgotten_it(rig):
    rig.providers["lambda-a"]._deletes_take = 3
    rig.ask()
    rig.step(allot, launch)
    rig.clock.pass_seconds(60)
    with rig.world.engine.begin() as db:
        leases.move(db, leases.all_leases(db)[0], LeaseState.RELEASING, "enough", rig.clock())
    seen = []
    for _ in range(5):
        rig.step(release)
        seen.append((rig.states()[0], len(rig.instances())))
    assert seen[:3] == [("releasing", 1), ("releasing", 1), ("releasing", 0)]
    assert seen[-1] == ("released", 0)


def test_what_a_lease_cost_is_known_at_its_end(rig):
    lease = rig.ask()
    rig.step(allot, launch)
    rig.clock.pass_seconds(600)
    with rig.world.engine.begin() as db:
        leases.move(db, leases.get(db, lease.id), LeaseState.RELEASING, "enough", rig.clock())
    rig.until(lambda: rig.states() == ["released"], 5)
    with rig.world.engine.begin() as db:
        used = usage.of_lease(db, lease.id)
    assert {*used} == {"start", "end"}
    assert 600 <= (used["end"].not_after - used["start"].not_before).total_seconds() <= 620


def test_an_overtaken_worker_changes_nothing(rig):
    lease = rig.ask()
    with rig.world.engine.begin() as db:
        leases.move(db, lease, LeaseState.RELEASED, "suspended", rig.clock())
    with pytest.raises(StaleLease), rig.world.engine.begin() as db:
        leases.move(db, lease, LeaseState.LAUNCHING, "late", rig.clock(), label="x")


def test_a_provider_that_does_not_answer_for_a_moment_costs_no_node_its_place(rig):
    for provider in rig.providers.values():
        provider.fail_create = [ProviderUnavailable("down")]
    rig.ask("h100-1")
    rig.ask("h100-2", job_id=8)
    for _ in range(6):
        rig.step(allot, launch)
    assert rig.slurm.power_downs == []
    assert sorted(x.node for x in rig.ledger() if x.state == "bootstrapping") == ["h100-1", "h100-2"]


def test_an_answer_lost_late_is_looked_for_as_long_as_one_lost_early(rig):
    provider = rig.providers["lambda-a"]
    create = provider.create

    def answer_lost_after_a_minute(spec):
        rig.clock.pass_seconds(60)
        raise OutcomeUnknown("timeout")

    provider.create = answer_lost_after_a_minute
    rig.ask()
    rig.step(allot, launch)
    rig.clock.pass_seconds(2)
    provider.create = create
    create(provider_spec(rig))
    rig.step(allot, launch)
    assert rig.states() == ["bootstrapping"]
    assert len(rig.instances()) == 1


def provider_spec(rig):
    (lease,) = rig.ledger()
    return InstanceSpec(label=lease.label, instance_type="t", zone="z", user_data="", ssh_public_key="ssh-ed25519 A")


def test_machines_are_given_back_while_the_listing_fails(rig):
    rig.ask()
    rig.step(allot, launch)
    provider = rig.providers["lambda-a"]
    rig.clock.pass_seconds(60)
    with rig.world.engine.begin() as db:
        leases.move(db, leases.all_leases(db)[0], LeaseState.RELEASING, "enough", rig.clock())

    def broken():
        raise ProviderUnavailable("HTTP 500")

    provider.instances = broken
    for _ in range(3):
        rig.step(release)
    assert rig.states() == ["released"]


def test_a_machine_bought_late_is_not_believed_gone_while_it_may_be_hidden(rig):
    lease = rig.ask()
    rig.clock.pass_seconds(300)
    rig.step(allot, launch)
    provider = rig.providers["lambda-a"]
    provider.vanish("lambda-a-1")  # not visible yet, as far as anybody can tell
    with rig.world.engine.begin() as db:
        leases.move(db, leases.get(db, lease.id), LeaseState.RELEASING, "cancelled", rig.clock())
    rig.step(release)
    assert rig.states() == ["releasing"]


def test_a_machine_that_ended_by_itself_is_bounded_from_its_start(rig):
    lease = rig.ask()
    rig.step(allot, launch)
    bought = rig.clock()
    rig.providers["lambda-a"].vanish("lambda-a-1")
    rig.clock.pass_seconds(1200)
    with rig.world.engine.begin() as db:
        leases.move(db, leases.get(db, lease.id), LeaseState.RELEASING, "vanished", rig.clock())
    rig.until(lambda: rig.states() == ["released"], 5)
    with rig.world.engine.begin() as db:
        end = usage.of_lease(db, lease.id)["end"]
    assert end.not_before <= bought <= end.not_after


def test_without_slurms_resume_file_the_job_that_waits_is_found_and_its_wishes_count(rig):
    rig.slurm.job_table[9] = a_job(id=9, comment="broker:providers=lambda-b")
    rig.ask(job_id=None)
    rig.step(allot, launch)
    (lease,) = rig.ledger()
    assert (lease.job_id, lease.provider) == (9, "lambda-b")
