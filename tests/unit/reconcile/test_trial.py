"""`broker provider test --buy`: one machine, looked at and given back, whatever happens in between."""

from datetime import timedelta
from decimal import Decimal

import pytest
from factories import a_shape, an_offer

from broker.core.demand import Limits
from broker.core.errors import NoCapacity, OutcomeUnknown, Refused
from broker.core.usage import UsageKind
from broker.db import blocks, leases, purchasing, usage
from broker.db.engine import reading
from broker.reconcile import release
from broker.reconcile.trial import Trials

OFFER = an_offer()


class Bench:
    """A rig and its trials; `step` runs them and `release`, and never two of one key, as the driver does."""

    def __init__(self, rig):
        self.rig = rig
        self.trials = Trials(rig.world)

    def start(self, offer=OFFER, max_price="5"):
        return self.trials.start(offer, a_shape(), Decimal(max_price), "root")

    def step(self):
        busy = set()
        for find in (self.trials.find, lambda: release.find(self.rig.world)):
            for task in list(find()):
                if task.key not in busy:
                    busy.add(task.key)
                    task.run()
        for machine in self.rig.machines.machines.values():
            machine.outputs["facts"]["epoch"] = str(int(self.rig.clock().timestamp()))
        self.rig.clock.pass_seconds(3)

    def until_released(self, steps=400):
        for _ in range(steps):
            if self.rig.states() == ["released"]:
                return
            self.step()
        raise AssertionError(f"{[(x.state, x.reason, x.not_before) for x in self.rig.ledger()]}")

    def said(self):
        with reading(self.rig.world.engine) as db:
            return [event.reason for lease in leases.all_leases(db) for event in leases.events(db, lease.id)]


@pytest.fixture
def bench(rig):
    return Bench(rig)


def test_a_machine_that_fits_is_accepted_given_back_and_charged(bench, rig):
    lease_id = bench.start()
    bench.until_released()
    assert any(said.startswith("accepted as a node of shape h100") for said in bench.said())
    assert rig.instances() == []
    assert len(rig.providers["lambda-a"].created) == 1
    with reading(rig.world.engine) as db:
        assert {*usage.of_lease(db, lease_id)} == {UsageKind.START, UsageKind.END}


def test_a_machine_that_lies_is_not_accepted_and_given_back(bench, rig):
    rig.machines.machines["192.0.2.1"].outputs["facts"]["cpus"] = "2"
    bench.start()
    bench.until_released()
    assert any(said.startswith("not accepted: ") and "CPUs" in said for said in bench.said())
    assert rig.instances() == []


def test_a_machine_that_never_answers_is_given_back_after_the_credentials_boot_timeout(bench, rig):
    rig.machines.machines["192.0.2.1"].unreachable = "connection refused"
    bench.start()
    bench.until_released(1000)
    assert any("not accepted: " in said and "connection refused" in said for said in bench.said())
    assert rig.instances() == []


def test_a_refused_purchase_ends_the_test_with_the_providers_words(bench, rig):
    rig.providers["lambda-a"].fail_create = [NoCapacity("none left")]
    bench.start()
    bench.until_released()
    assert "not bought: none left" in bench.said()
    assert len(rig.ledger()) == 1


@pytest.mark.parametrize("happened", [True, False])
def test_a_lost_answer_leaves_no_machine_whether_it_was_bought_or_not(bench, rig, happened):
    provider = rig.providers["lambda-a"]
    provider.fail_create, provider.lose_answers = [OutcomeUnknown("timeout")], happened
    bench.start()
    bench.until_released()
    assert rig.instances() == []
    assert len(provider.created) == int(happened)


@pytest.mark.parametrize("steps", range(6))
def test_a_daemon_that_dies_after_any_step_leaves_no_machine(bench, rig, steps):
    bench.start()
    for _ in range(steps):
        bench.step()
    bench.trials = Trials(rig.world)  # what a new daemon knows
    bench.until_released()
    assert rig.instances() == []
    assert len(rig.providers["lambda-a"].created) <= 1


def test_a_daemon_that_dies_in_the_purchase_finds_the_machine_by_its_label(bench, rig):
    create = rig.providers["lambda-a"].create

    def die_after(spec):
        create(spec)
        raise KeyboardInterrupt

    rig.providers["lambda-a"].create = die_after
    bench.start()
    with pytest.raises(KeyboardInterrupt):
        bench.step()
    assert len(rig.instances()) == 1
    bench.trials = Trials(rig.world)
    bench.until_released()
    assert rig.instances() == []


def test_nothing_is_bought_above_the_price_the_limits_or_a_pause(bench, rig):
    with pytest.raises(Refused, match="more than 4"):
        bench.start(max_price="4")
    object.__setattr__(rig.world.site, "limits", Limits(max_nodes=0))
    with pytest.raises(Refused, match="max_nodes"):
        bench.start()
    object.__setattr__(rig.world.site, "limits", Limits())
    with rig.world.engine.begin() as db:
        blocks.pause(db, "lambda-a", "the bill is checked", "root", rig.clock())
    with pytest.raises(Refused, match="the bill is checked"):
        bench.start()
    with rig.world.engine.begin() as db:
        blocks.resume(db, "lambda-a", "root", rig.clock())
        purchasing.set_paused(db, "weekend", "root")
    with pytest.raises(Refused, match="weekend"):
        bench.start()
    assert rig.ledger() == []


def test_a_slow_boot_is_not_taken_from_under_the_test(bench, rig):
    rig.machines.machines["192.0.2.1"].unreachable = "booting"
    bench.start()
    for _ in range(100):
        bench.step()
    assert len(rig.instances()) == 1
    assert rig.clock() - rig.ledger()[0].created_at > timedelta(seconds=200)
    rig.machines.machines["192.0.2.1"].unreachable = None
    bench.until_released()
    assert any(said.startswith("accepted") for said in bench.said())
