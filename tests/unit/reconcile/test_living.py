"""What the daemon leaves for the reaper."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from factories import a_job

from broker.core.errors import BrokerError, OutcomeUnknown
from broker.core.living import from_text
from broker.core.usage import UsageKind, bounds
from broker.db import jobs, leases, usage
from broker.db.engine import reading
from broker.reconcile.living import Living, latest_end

QUIET = timedelta(minutes=30)
MARGIN = timedelta(minutes=15)


@pytest.fixture
def said(rig, tmp_path):
    """A machine that is bought, and the words about it: `said()` reads the file."""
    rig.ask()
    rig.until(lambda: rig.instances())
    return Said(rig, tmp_path / "living.json")


class Said:
    def __init__(self, rig, path):
        self.rig, self.path = rig, path
        self.living = self.new()

    def new(self):
        return Living(
            path=self.path,
            engine=self.rig.world.engine,
            slurm=self.rig.slurm,
            cluster="test",
            quiet=QUIET,
            clock=self.rig.clock,
        )

    @property
    def lease(self):
        return self.rig.ledger()[0]

    def attend(self, job):
        self.rig.slurm.job_table[job.id] = job
        lease = self.lease
        with self.rig.world.engine.begin() as db:
            jobs.attend(db, job.id, lease.id, job.user, self.rig.clock())

    def word(self):
        return from_text(self.path.read_text())

    def until(self):
        return [job.until for job in self.word().machines[self.lease.label].jobs]


def test_each_bought_machine_is_kept_as_long_as_the_silence_may_last(said):
    said.living.say()

    machine = said.word().machines[said.lease.label]
    assert (machine.node, machine.provider, machine.jobs) == ("h100-1", "lambda-a", ())
    assert machine.keep_until == said.rig.clock() + QUIET
    assert said.word().said_at == said.rig.clock()


def test_a_lease_without_a_purchase_and_a_released_one_are_not_in_it(said):
    said.rig.ask("h100-2")
    with said.rig.world.engine.begin() as db:
        for lease in leases.living(db):
            if lease.label is not None:
                going = leases.move(db, lease, "releasing", "test", said.rig.clock())
                leases.move(db, going, "released", "test", said.rig.clock())

    said.living.say()

    assert said.word().machines == {}


def test_a_machine_that_is_to_go_is_not_kept_anew_at_every_word(said):
    lease = said.lease
    with said.rig.world.engine.begin() as db:
        leases.move(db, lease, "releasing", "test", said.rig.clock())
    since = said.rig.clock()
    said.rig.clock.pass_seconds(600)

    said.living.say()

    assert said.word().machines[said.lease.label].keep_until == since + QUIET


def test_a_promise_stands_there_when_it_returns(said):
    said.attend(a_job(state="CONFIGURING"))
    until = said.rig.clock() + timedelta(hours=5)

    said.living.promise(said.lease, 7, until)

    assert said.until() == [until]


def test_a_promise_that_cannot_be_written_is_refused(said):
    said.attend(a_job())
    said.path.mkdir()
    with pytest.raises(BrokerError, match="no job is let go"):
        said.living.promise(said.lease, 7, said.rig.clock())


def test_a_job_that_slurm_lets_run_longer_is_kept_longer(said):
    started = said.rig.clock()
    said.attend(a_job(state="RUNNING", started_at=started, time_limit=timedelta(hours=1)))
    said.living.say()
    assert said.until() == [started + timedelta(hours=1) + MARGIN]

    said.attend(a_job(state="RUNNING", started_at=started, time_limit=timedelta(hours=3)))
    said.living.say()
    assert said.until() == [started + timedelta(hours=3) + MARGIN]


def test_the_limit_of_a_job_that_is_suspended_does_not_pass(rig):
    started = rig.clock()
    rig.clock.pass_seconds(1800)
    job = a_job(state="SUSPENDED", started_at=started, time_limit=timedelta(hours=1))
    assert latest_end(job, rig.clock()) == rig.clock() + timedelta(hours=1) + MARGIN


def test_a_job_that_is_over_or_elsewhere_holds_the_machine_no_longer(said):
    for gone in (a_job(state="COMPLETED"), a_job(state="RUNNING", nodes=("h100-2",))):
        said.attend(gone)
        said.living.say()
        assert said.until() == []


def test_a_requeued_job_holds_it_until_its_home_is_taken_away(said):
    said.attend(a_job(state="CONFIGURING"))
    until = said.rig.clock() + timedelta(hours=5)
    said.living.promise(said.lease, 7, until)
    said.attend(a_job(state="PENDING", nodes=()))

    said.living.say()
    assert said.until() == [until]

    lease = said.lease
    with said.rig.world.engine.begin() as db:
        jobs.end(db, 7, lease.id, said.rig.clock())
    said.living.say()
    assert said.until() == []


def test_while_slurmctld_is_away_what_was_said_before_stands_also_over_a_restart(said):
    said.attend(a_job(state="RUNNING", started_at=said.rig.clock(), time_limit=timedelta(hours=2)))
    said.living.say()
    before = said.until()
    said.rig.slurm.available = False

    said.living.say()
    assert said.until() == before
    again = said.new()
    again.say()
    assert said.until() == before


def test_a_job_of_which_nothing_is_known_may_run_for_ever(said):
    said.attend(a_job(state="RUNNING"))
    said.rig.slurm.available = False
    said.path.write_text("spoiled")

    said.new().say()

    assert said.until()[0] > said.rig.clock() + timedelta(days=300)


def test_the_word_is_whole_whenever_it_is_read_and_no_one_elses_to_read(said):
    said.living.say()
    json.loads(said.path.read_text())
    assert [path.name for path in said.path.parent.glob("*living*")] == ["living.json"]
    assert said.path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("away_s", [1900, 600])
def test_a_purchase_in_mid_air_that_is_gone_after_a_silence_may_have_cost_all_of_it(rig, away_s):
    provider = rig.providers["lambda-a"]
    provider.fail_create, provider.lose_answers = [OutcomeUnknown("cut")], True
    lease = rig.ask()
    rig.until(lambda: rig.instances())
    began = rig.ledger()[0].state_since
    rig.clock.pass_seconds(away_s)
    provider.vanish(rig.instances()[0])
    rig.world = replace(rig.world, started_at=rig.clock())

    rig.until(lambda: rig.ledger()[0].state == "released")

    with reading(rig.world.engine) as db:
        used = usage.of_lease(db, lease.id)
    spent = bounds(used[UsageKind.START], used[UsageKind.END], rig.clock(), timedelta(minutes=1))
    assert spent.low == 0
    assert spent.high > lease_price(rig) * (rig.world.started_at - began) / timedelta(hours=1)


def lease_price(rig):
    return float(rig.ledger()[0].price_per_hour)
