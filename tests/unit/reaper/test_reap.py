import json
from datetime import timedelta

import pytest
from factories import NOON, Clock, an_offer

from broker.core.errors import (
    BrokerError,
    ConfigError,
    CredentialsRefused,
    ProviderUnavailable,
    Refused,
    SlurmUnavailable,
)
from broker.core.living import HeldJob, KeptMachine, LivingWord
from broker.core.offers import InstanceSpec
from broker.providers.fake import FakeProvider
from broker.reaper.reap import Credential, NotConfirmed, NoWord, Outcome, Reaper
from broker.reaper.sightings import Sightings

OURS = "broker-test-l0123456789-e1"
OTHERS = ["broker-test2-l0123456789-e1", "broker-te-l0123456789-e1", "somebodys", "broker-test-x", None]
QUIET = timedelta(minutes=30)


class Rig:
    """A reaper at one fake provider; `word` is what the daemon said last, an exception when it cannot be read."""

    def __init__(self, **more):
        self.clock = Clock()
        self.provider = FakeProvider("lambda-a", lambda: [an_offer()], deletes_take=more.pop("deletes_take", 2))
        self.skew = timedelta(0)
        self.word = a_word()
        self.busy = set()
        self.asked_slurm = 0
        self.more = more

    def buy(self, label):
        spec = InstanceSpec(label=label, instance_type="t", zone="z", user_data="", ssh_public_key="")
        return self.provider.create(spec).id

    def look(self, **more):
        reaper = Reaper(
            cluster="test",
            credentials={"lambda-a": Credential(provider=self.provider, skew=lambda: self.skew)},
            read_word=self.read,
            busy_nodes=self.slurm,
            clock=self.clock,
            sleep=self.clock.pass_seconds,
            **self.more,
        )
        return reaper.look(**more)

    def read(self):
        word = self.word() if callable(self.word) else self.word
        if isinstance(word, Exception):
            raise word
        return word

    def slurm(self):
        self.asked_slurm += 1
        if isinstance(self.busy, Exception):
            raise self.busy
        return self.busy

    def living(self):
        return [instance.id for instance in self.provider.instances()]


def a_word(*, at=NOON, cluster="test", label=OURS, until=None):
    jobs = (HeldJob(id=7, until=until),) if until else ()
    machine = KeptMachine(label=label, provider="lambda-a", node="h100-1", keep_until=at + QUIET, jobs=jobs)
    return LivingWord(cluster=cluster, said_at=at, quiet=QUIET, machines={label: machine})


@pytest.fixture
def rig():
    return Rig()


def outcomes(look):
    return [finding.outcome for finding in look.findings]


def test_an_idle_machine_is_ended_and_its_end_confirmed(rig):
    rig.buy(OURS)
    assert outcomes(rig.look()) == [Outcome.KEPT]

    rig.clock.pass_seconds(1801)
    look = rig.look()

    assert outcomes(look) == [Outcome.ENDED]
    assert (look.findings[0].node, look.findings[0].label) == ("h100-1", OURS)
    assert rig.living() == []
    assert look.problems == ()


def test_what_does_not_carry_our_clusters_label_is_never_touched(rig):
    ids = [rig.buy(label) for label in OTHERS]
    rig.clock.pass_seconds(9e6)

    look = rig.look()

    assert rig.living() == ids
    assert (look.findings, look.strangers) == ((), len(OTHERS))


def test_a_dry_run_ends_nothing(rig):
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)

    assert outcomes(rig.look(dry_run=True)) == [Outcome.WOULD_END]
    assert len(rig.living()) == 1


def test_a_running_job_is_left_alone_and_slurm_may_say_that_it_is_over(rig):
    rig.buy(OURS)
    rig.word = a_word(until=NOON + timedelta(hours=9))
    rig.clock.pass_seconds(3600)
    rig.busy = {"h100-1"}
    assert outcomes(rig.look()) == [Outcome.KEPT]
    rig.busy = SlurmUnavailable("no answer")
    assert outcomes(rig.look()) == [Outcome.KEPT]
    rig.busy = {"h100-2"}
    assert outcomes(rig.look()) == [Outcome.ENDED]


def test_slurm_is_not_asked_for_idle_machines(rig):
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)
    rig.look()
    assert rig.asked_slurm == 0


def test_a_slurm_that_refuses_keeps_the_machine_and_is_told(rig):
    rig.buy(OURS)
    rig.word = a_word(until=NOON + timedelta(hours=9))
    rig.clock.pass_seconds(3600)
    rig.busy = BrokerError("squeue is not installed")
    look = rig.look()
    assert outcomes(look) == [Outcome.KEPT]
    assert [str(problem) for problem in look.problems] == ["squeue is not installed"]


def test_a_daemon_that_comes_back_in_the_last_moment_keeps_its_machine(rig):
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)
    words = [a_word(), a_word(at=rig.clock())]
    rig.word = lambda: words.pop(0)

    assert outcomes(rig.look()) == [Outcome.KEPT]
    assert len(rig.living()) == 1


@pytest.mark.parametrize("skew", [timedelta(minutes=3), timedelta(minutes=-3), timedelta(days=400), None])
def test_a_host_whose_clock_is_not_the_providers_ends_nothing(rig, skew):
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)
    rig.skew = skew

    look = rig.look()

    assert look.findings == ()
    assert isinstance(look.problems[0].error, Refused)
    assert "clock" in str(look.problems[0])
    assert len(rig.living()) == 1


def test_a_word_from_the_future_is_refused(rig):
    rig.buy(OURS)
    rig.word = a_word(at=NOON + timedelta(minutes=5))
    with pytest.raises(Refused, match="still to come"):
        rig.look()


def test_another_clusters_word_is_refused(rig):
    rig.word = a_word(cluster="test2")
    with pytest.raises(ConfigError, match="of cluster test2"):
        rig.look()


def test_without_a_word_nothing_is_ended_and_it_is_said(rig):
    rig.buy(OURS)
    rig.word = ConfigError("living.json cannot be read")
    rig.clock.pass_seconds(9e6)

    look = rig.look()

    assert outcomes(look) == [Outcome.KEPT]
    assert isinstance(look.problems[0].error, NoWord)


def test_without_a_word_and_without_a_machine_there_is_nothing_to_complain_of(rig):
    rig.word = ConfigError("living.json cannot be read")
    assert rig.look().problems == ()


def test_without_a_word_the_maximum_age_counts_from_when_a_machine_was_first_seen(tmp_path):
    rig = Rig(max_age=timedelta(hours=2), sightings=Sightings(tmp_path / "seen.json"))
    rig.word = ConfigError("living.json cannot be read")
    rig.buy(OURS)
    rig.look()
    rig.clock.pass_seconds(7100)
    rig.buy(OURS.replace("l0", "l1"))
    assert outcomes(rig.look()) == [Outcome.KEPT, Outcome.KEPT]
    rig.clock.pass_seconds(200)
    look = rig.look()
    assert outcomes(look) == [Outcome.ENDED, Outcome.KEPT]
    assert look.problems == ()


def test_a_provider_that_does_not_answer_is_a_problem_of_its_own(rig):
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)
    well = rig.provider.instances

    def fails():
        raise ProviderUnavailable("lambda-a GET /instances: refused")

    rig.provider.instances = fails
    look = rig.look()
    assert look.findings == ()
    assert [str(problem) for problem in look.problems] == ["lambda-a GET /instances: refused"]
    rig.provider.instances = well
    assert outcomes(rig.look()) == [Outcome.ENDED]


def test_an_end_that_is_not_confirmed_is_told_and_asked_again_by_the_next_look():
    rig = Rig(deletes_take=100)
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)

    look = rig.look()

    assert outcomes(look) == [Outcome.ASKED]
    assert isinstance(look.problems[0].error, NotConfirmed)
    assert outcomes(rig.look()) == [Outcome.ENDED]


def test_a_credential_that_is_refused_when_it_is_to_end_a_machine_is_told(rig):
    rig.buy(OURS)
    rig.clock.pass_seconds(1801)

    def refuses(instance_id):
        raise CredentialsRefused("the key may only read")

    rig.provider.delete = refuses
    look = rig.look()
    assert outcomes(look) == [Outcome.ASKED]
    assert str(look.problems[0]) == "lambda-a: the key may only read"
    assert len(rig.living()) == 1


def test_a_spoiled_memory_ends_nothing(tmp_path):
    path = tmp_path / "seen.json"
    path.write_text(json.dumps(["not", "an", "object"]))
    rig = Rig(max_age=timedelta(hours=1), sightings=Sightings(path))
    rig.word = ConfigError("gone")
    rig.buy(OURS)

    look = rig.look()

    assert look.findings == ()
    assert "remove it to begin anew" in str(look.problems[0])


def test_forgotten_instances_leave_the_memory_but_only_those_of_the_credential_that_was_asked(tmp_path):
    sightings = Sightings(tmp_path / "seen.json")
    sightings.note("a", ["1", "2"], NOON)
    sightings.note("b", ["1"], NOON)
    later = NOON + timedelta(hours=1)
    assert sightings.note("a", ["2", "3"], later) == {"2": NOON, "3": later}
    assert json.loads((tmp_path / "seen.json").read_text()).keys() == {"a/2", "a/3", "b/1"}
