"""What Prometheus is told of a node's life, with a real ledger behind it."""

import contextlib
import re
from datetime import timedelta

import pytest
from factories import NOON, an_offer
from prometheus_client.parser import text_string_to_metric_families
from unit.cli.conftest import ROOT

from broker.core.errors import BrokerError, NoCapacity, OutcomeUnknown, StaleLease
from broker.core.offers import InstanceSpec
from broker.db import blocks, leases, purchasing
from broker.metrics.catalogue import SPECS
from broker.metrics.metrics import Metrics
from broker.metrics.reasons import OTHER
from broker.providers.fake import FakeProvider
from broker.providers.http import Exchange, Wait
from broker.reconcile.driver import Activity, Done, Driver, Task
from broker.reconcile.sweep import Sweep
from broker.reconcile.world import Happening
from broker.services import purchases


class Scraped:
    """One scrape: `value(name, label=…)` is 0 for what is not there."""

    def __init__(self, metrics):
        self.families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name, **labels):
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found)

    def labels(self, name, label):
        return {sample.labels[label] for sample in self.samples if sample.name == name}


@pytest.fixture
def metrics():
    return Metrics("1.2.3")


@pytest.fixture
def followed(rig, metrics):
    metrics.follow(
        engine=rig.world.engine,
        credentials=frozenset(rig.providers),
        image="0" * 12,
        jobs_folder=rig.world.site.jobs_folder,
        clock=rig.clock,
    )
    return metrics


def test_every_metric_is_in_the_reference_with_its_kind_its_labels_and_its_help():
    text = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(broker_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)

    assert sorted(rows) == sorted(
        (
            spec.name,
            spec.kind,
            ", ".join(f"`{label}`" for label in spec.labels),
            spec.help,
        )
        for spec in SPECS
    )


def test_every_metric_is_shown_and_nothing_else_of_ours(followed):
    shown = {family for family in Scraped(followed).families if family.startswith("broker_")}

    assert shown == {spec.name.removesuffix("_total") for spec in SPECS}


def test_names_and_units_are_as_prometheus_wants_them():
    for spec in SPECS:
        assert spec.name.endswith("_total") == (spec.kind == "counter")
        assert bool(spec.buckets) == (spec.kind == "histogram")
        assert spec.kind != "histogram" or spec.name.endswith("_seconds")


def test_no_label_has_values_without_end():
    endless = {"job", "job_id", "user", "node", "lease", "lease_id", "instance", "instance_id", "address"}
    assert not endless & {label for spec in SPECS for label in spec.labels}


def a_node_lives(rig):
    rig.ask()
    rig.until(lambda: "slurmd" in rig.machines.machines["192.0.2.1"].ran)
    rig.slurm.set_node("h100-1", "ALLOCATED", "CLOUD")
    rig.until(lambda: "ready" in rig.states())
    with rig.world.engine.begin() as db:
        purchases.give_up(db, leases.holding(db, "h100-1"), "Slurm let the idle node go", rig.clock())
    rig.until(lambda: rig.states() == ["released"])


def test_a_nodes_life_is_counted_move_by_move_with_the_time_of_each_stage(rig, followed):
    a_node_lives(rig)

    seen = Scraped(followed)

    moves = [
        ("none", "requested", "asked"),
        ("requested", "launching", "buying"),
        ("launching", "bootstrapping", "bought"),
        ("bootstrapping", "ready", "joined"),
        ("ready", "draining", "idle"),
        ("draining", "releasing", "idle"),
        ("releasing", "released", "confirmed"),
    ]
    for was, became, reason in moves:
        assert seen.value("broker_lease_transitions_total", was=was, became=became, reason=reason) == 1
    assert seen.value("broker_lease_transitions_total") == len(moves)
    for stage in ("asked", "address", "join", "register", "ready", "release"):
        assert seen.value("broker_stage_seconds_count", stage=stage) == 1, stage
    assert seen.value("broker_stage_seconds_sum", stage="ready") == 3
    assert seen.value("broker_stage_seconds_sum", stage="release") == 6


def test_nothing_is_counted_twice_and_nothing_from_before_the_start(rig, followed):
    a_node_lives(rig)
    first = Scraped(followed).value("broker_lease_transitions_total")
    assert Scraped(followed).value("broker_lease_transitions_total") == first == 7

    later = Metrics("1")
    later.follow(
        engine=rig.world.engine,
        credentials=frozenset(),
        image="",
        jobs_folder=rig.world.site.jobs_folder,
        clock=rig.clock,
    )
    assert Scraped(later).value("broker_lease_transitions_total") == 0


def test_refused_offers_and_lost_answers_have_their_classes(rig, followed):
    provider = rig.providers["lambda-a"]
    provider.fail_create = [NoCapacity("gone"), OutcomeUnknown("cut")]
    rig.sell(an_offer(), an_offer(zone="us-west-1"))
    rig.ask()
    rig.step()
    provider.lose_answers = True
    rig.until(lambda: "bootstrapping" in rig.states())

    seen = Scraped(followed)

    assert seen.value("broker_lease_transitions_total", became="released", reason="sold_out") == 1
    assert seen.value("broker_stage_seconds_count", stage="next_offer") == 1
    assert seen.value("broker_adopted_total", provider="lambda-a") == 1
    assert OTHER not in seen.labels("broker_lease_transitions_total", "reason")


def test_gauges_say_what_the_ledger_says_now(rig, followed):
    rig.ask()
    rig.until(lambda: rig.instances())
    (rig.world.site.jobs_folder / "7.job").write_text("job=7\n")
    with rig.world.engine.begin() as db:
        purchasing.set_paused(db, "budget", "root")
        blocks.pause(db, "lambda-b", "the bill is checked", "root", rig.clock())

    seen = Scraped(followed)

    assert seen.value("broker_leases", state="bootstrapping") == 1
    assert seen.value("broker_leases") == 1
    assert seen.labels("broker_leases", "state") >= {"requested", "ready", "releasing"}
    assert seen.value("broker_leases_price_per_hour", provider="lambda-a", currency="USD") == 4.29
    assert seen.value("broker_offers", provider="lambda-a", available="yes") == 1
    assert seen.value("broker_offers_read_timestamp_seconds", provider="lambda-a") == NOON.timestamp()
    assert seen.value("broker_credential_suspended", provider="lambda-b") == 1
    assert seen.value("broker_credential_suspended", provider="lambda-a") == 0
    assert (seen.value("broker_buying_paused"), seen.value("broker_jobs_waiting")) == (1, 1)
    assert seen.value("broker_build_info", version="1.2.3") == 1


def test_a_ledger_that_is_gone_is_told_and_hides_nothing_else(rig, followed):
    with rig.world.engine.begin() as db:
        db.exec_driver_sql("DROP TABLE offers")
    followed.intent("resume")

    seen = Scraped(followed)

    assert seen.value("broker_ledger_up") == 0
    assert seen.value("broker_intents_total", verb="resume") == 1


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "bought"), (NoCapacity("no"), "sold_out"), (OutcomeUnknown("cut"), "unknown")]
)
def test_purchases_are_counted_by_what_came_of_them_and_the_rest_is_the_providers(metrics, error, outcome):
    provider = FakeProvider("lambda-a", lambda: [an_offer()])
    provider.fail_create = [error] if error else []
    counting = metrics.counting(provider)
    spec = InstanceSpec(label="x", instance_type="t", zone="z", user_data="", ssh_public_key="")
    with contextlib.suppress(NoCapacity, OutcomeUnknown):
        counting.create(spec)

    assert Scraped(metrics).value("broker_creates_total", provider="lambda-a", outcome=outcome) == 1
    assert (counting.name, len(counting.offers().offers), counting.visibility_lag_seconds) == ("lambda-a", 1, 10.0)


def test_calls_of_providers_and_their_waits_are_counted(metrics):
    for status in (200, 429, None):
        metrics.hear(Exchange(provider="a", method="GET", endpoint="/instances", status=status, seconds=0.2, date=None))
    metrics.hear(Wait(provider="a", seconds=1.5))

    seen = Scraped(metrics)

    for status in ("200", "429", "none"):
        assert seen.value("broker_provider_requests_total", status=status, endpoint="/instances") == 1
    assert seen.value("broker_provider_request_seconds_sum", provider="a") == pytest.approx(0.6)
    assert seen.value("broker_provider_wait_seconds_sum", provider="a") == 1.5


def test_an_orphan_and_a_node_without_a_machine_are_counted(rig, metrics):
    spec = InstanceSpec(
        label="broker-test-l0123456789-e1", instance_type="t", zone="z", user_data="", ssh_public_key=""
    )
    rig.providers["lambda-a"].create(spec)
    rig.world = rig_world = type(rig.world)(**{**vars(rig.world), "happened": metrics.happened})
    rig.slurm.set_node("h100-1", "IDLE", "CLOUD")
    sweep = Sweep(rig_world, grace=timedelta(seconds=60))
    for _ in range(2):
        for task in sweep.find():
            task.run()
        rig.clock.pass_seconds(61)

    seen = Scraped(metrics)

    assert seen.value("broker_orphans_ended_total", provider="lambda-a") == 1
    assert seen.value("broker_nodes_unbacked_total") >= 1
    assert Happening.ORPHAN_ENDED in set(Happening)


def fails(error):
    raise error


def test_an_activitys_passes_and_tasks_are_counted_by_how_they_end(metrics, clock):
    done = []
    tasks = [
        Task(key="a", run=lambda: None),
        Task(key="b", run=lambda: fails(BrokerError("no"))),
        Task(key="c", run=lambda: fails(StaleLease("l1"))),
        Task(key="d", run=lambda: fails(ZeroDivisionError())),
    ]
    activities = [
        Activity(name="good", interval_seconds=3600, find=lambda: tasks),
        Activity(name="bad", interval_seconds=3600, find=lambda: fails(BrokerError("no"))),
    ]
    driver = Driver(activities, clock, workers=1, done=lambda what: (done.append(what), metrics.done(what)))
    driver.start()
    driver.stop()

    seen = Scraped(metrics)

    assert all(isinstance(each, Done) for each in done)
    assert seen.value("broker_activity_passes_total", activity="good", outcome="ok") == 1
    assert seen.value("broker_activity_passes_total", activity="bad", outcome="failed") == 1
    for outcome, count in (("ok", 1), ("failed", 2), ("overtaken", 1)):
        assert seen.value("broker_activity_tasks_total", activity="good", outcome=outcome) == count
    assert seen.value("broker_activity_last_success_timestamp_seconds", activity="good") > 0
    assert seen.labels("broker_activity_last_success_timestamp_seconds", "activity") == {"good"}
