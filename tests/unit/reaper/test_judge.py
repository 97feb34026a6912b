from datetime import timedelta

import pytest
from factories import NOON
from hypothesis import given
from hypothesis import strategies as st

from broker.core.living import HeldJob, KeptMachine, LivingWord
from broker.core.offers import Instance, InstanceState
from broker.reaper.judge import judge, needs_slurm

LABEL = "broker-test-l0123456789-e1"
MINUTE = timedelta(minutes=1)
QUIET = 30 * MINUTE
DAY = timedelta(days=1)


def an_instance(state=InstanceState.RUNNING):
    return Instance(
        id="i1",
        label=LABEL,
        state=state,
        raw_state=state.value,
        address=None,
        instance_type=None,
        zone=None,
        price_per_hour=None,
    )


def a_word(*jobs, keep=QUIET, known=True):
    """What the daemon said at noon; `jobs`: until how many minutes after noon each may run."""
    machine = KeptMachine(
        label=LABEL,
        provider="lambda-a",
        node="h100-1",
        keep_until=NOON + keep,
        jobs=tuple(HeldJob(id=number, until=NOON + until * MINUTE) for number, until in enumerate(jobs, start=7)),
    )
    return LivingWord(cluster="test", said_at=NOON, quiet=QUIET, machines={LABEL: machine} if known else {})


def verdict(word, minutes, *, busy=None, instance=None, seen=DAY, max_age=None):
    now = NOON + minutes * MINUTE
    return judge(instance or an_instance(), word, now, busy=busy, seen_since=now - seen, max_age=max_age)


def test_while_the_daemon_speaks_every_machine_is_kept():
    assert not verdict(a_word(), 29).end
    assert not verdict(a_word(known=False), 29).end


def test_after_its_silence_an_idle_machine_is_ended():
    assert verdict(a_word(), 30).end
    assert "last heard of at 2026-11-24 12:00:00" in verdict(a_word(), 30).why


def test_a_running_jobs_machine_is_kept_until_the_job_must_be_over():
    assert not verdict(a_word(90), 89).end
    assert "job 7 may run on h100-1" in verdict(a_word(90), 89).why
    assert verdict(a_word(90), 90).end


def test_of_several_jobs_the_last_one_counts():
    assert not verdict(a_word(10, 90, 40), 89).end


def test_slurms_word_that_the_node_is_free_ends_it_earlier_but_only_after_the_silence():
    assert not verdict(a_word(90), 29, busy=set()).end
    assert verdict(a_word(90), 31, busy={"h100-2"}).end
    assert not verdict(a_word(90), 31, busy={"h100-1"}).end


def test_slurm_cannot_keep_a_machine_longer_than_the_job_had():
    assert verdict(a_word(90), 90, busy={"h100-1"}).end


def test_slurm_is_asked_only_when_a_job_might_be_over_early():
    assert not needs_slurm(a_word(90), LABEL, NOON + 29 * MINUTE)
    assert needs_slurm(a_word(90), LABEL, NOON + 31 * MINUTE)
    assert not needs_slurm(a_word(90), LABEL, NOON + 91 * MINUTE)
    assert not needs_slurm(a_word(90, known=False), LABEL, NOON + DAY)
    assert not needs_slurm(None, LABEL, NOON)


def test_a_machine_that_was_given_up_long_ago_is_ended_though_the_daemon_lives():
    assert verdict(a_word(keep=-MINUTE), 1).end
    assert "could not end it" in verdict(a_word(keep=-MINUTE), 1).why


def test_a_machine_bought_after_the_last_word_is_ended_after_the_silence():
    assert verdict(a_word(known=False), 30).end


def test_what_the_provider_ends_already_is_left_alone():
    assert not verdict(a_word(), 500, instance=an_instance(InstanceState.STOPPING)).end


@pytest.mark.parametrize("state", [s for s in InstanceState if s is not InstanceState.STOPPING])
def test_a_machine_in_any_other_state_costs_money_and_is_ended(state):
    assert verdict(a_word(), 31, instance=an_instance(state)).end


def test_without_a_word_nothing_is_ended_but_what_is_older_than_the_maximum():
    assert not verdict(None, 0).end
    assert not verdict(None, 0, seen=DAY - MINUTE, max_age=DAY).end
    assert verdict(None, 0, seen=DAY, max_age=DAY).end


def test_a_maximum_age_does_not_overrule_the_daemons_word():
    assert not verdict(a_word(90), 89, seen=9 * DAY, max_age=DAY).end


@given(st.lists(st.integers(-100, 300), max_size=3), st.integers(0, 400), st.none() | st.just(set()))
def test_what_is_ended_once_stays_ended_as_time_passes(jobs, minutes, busy):
    if verdict(a_word(*jobs), minutes, busy=busy).end:
        assert verdict(a_word(*jobs), minutes + 1, busy=busy).end
