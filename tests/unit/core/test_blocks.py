from datetime import timedelta

import pytest
from factories import NOON, an_offer
from hypothesis import given
from hypothesis import strategies as some

from broker.core.blocks import RULES, Block, Blocks, Cause, Failure, Scope, after_failure, target_of

IMAGE = "0" * 12


def failure(cause, subject="", provider="lambda-a"):
    return Failure(cause=cause, provider=provider, subject=subject, reason="why", error="raw")


def after(cause, *minutes, subject=""):
    """The block after failures so many minutes after noon."""
    block = None
    for at in minutes:
        block = after_failure(block, failure(cause, subject), NOON + timedelta(minutes=at))
    return block


def at(minutes, *blocks, job_id=None):
    return Blocks(blocks, NOON + timedelta(minutes=minutes), IMAGE, job_id)


def test_a_block_is_open_then_half_open_and_opens_for_twice_as_long_when_the_attempt_fails():
    first, second = after(Cause.SOLD_OUT, 0), after(Cause.SOLD_OUT, 0, 1)
    assert (first.until - first.at, second.until - second.at) == (timedelta(minutes=1), timedelta(minutes=2))
    assert first.is_open(NOON)
    assert first.is_half_open(NOON + timedelta(minutes=1))
    assert second.since == NOON


@given(times=some.lists(some.floats(0, 10_000), min_size=1, max_size=60), cause=some.sampled_from(list(Cause)))
def test_no_row_of_failures_blocks_for_longer_than_the_rule_says(times, cause):
    block = after(cause, *sorted(times))
    assert block.until is None or timedelta(0) <= block.until - block.at <= RULES[cause].longest


def test_what_was_under_way_when_a_block_opened_counts_no_more():
    block = after(Cause.QUOTA, 0)
    assert after_failure(block, failure(Cause.QUOTA), NOON + timedelta(seconds=1)) is block


def test_failures_long_ago_are_forgotten():
    assert after(Cause.SOLD_OUT, 0, 1, 3, 7, 16, 300).strikes == 1


@pytest.mark.parametrize(("cause", "needed"), [(Cause.BAD_BOOTS, 3), (Cause.PROTECTED, 5), (Cause.BAD_MACHINE, 1)])
def test_machines_that_do_not_boot_block_after_so_many_in_a_row(cause, needed):
    before, block = after(cause, *range(needed - 1)) if needed > 1 else None, after(cause, *range(needed))
    assert block.is_open(block.at)
    assert before is None or not (before.is_open(before.at) or before.is_half_open(before.at))


SUBJECTS = {
    Scope.CREDENTIAL: "",
    Scope.IMAGE: IMAGE,
    Scope.FAMILY: "H100",
    Scope.OFFER: an_offer(machine="m-7").id,
    Scope.MACHINE: "m-7",
}


@pytest.mark.parametrize("cause", list(Cause))
def test_a_block_covers_what_its_scope_says_and_nothing_else(cause):
    block = after(cause, *range(RULES[cause].strikes), subject=SUBJECTS[RULES[cause].scope])
    seen = at(0, block)
    assert seen.stop(an_offer(machine="m-7")) is not None
    assert seen.stop(an_offer(machine="m-7", provider="lambda-b")) is None
    others = {
        Scope.IMAGE: Blocks([block], NOON, "another").stop(an_offer(machine="m-7")),
        Scope.FAMILY: seen.stop(an_offer(machine="m-7", accelerator="A100")),
        Scope.OFFER: seen.stop(an_offer(machine="m-8", instance_type="other")),
        Scope.MACHINE: seen.stop(an_offer(machine="m-8")),
    }
    assert others.get(RULES[cause].scope) is None


@pytest.mark.parametrize("cause", [cause for cause in Cause if not RULES[cause].by_word])
def test_after_its_time_one_attempt_is_let_through_and_no_other_job(cause):
    block = after(cause, *([0] * RULES[cause].strikes), subject=SUBJECTS[RULES[cause].scope])
    offer = an_offer(machine="m-7")
    later = RULES[cause].first.total_seconds() / 60
    assert at(later, block).to_try(target_of(offer, IMAGE)) == [block]
    assert at(later, block).stop(offer) is None
    tried = Block(**{**vars(block), "trying": "l1", "trying_job": 7})
    assert at(later, tried).stop(offer).words.endswith("one attempt is being made")
    assert at(later, tried, job_id=8).stop(offer) is not None
    assert at(later, tried, job_id=7).stop(offer) is None
    assert at(later, tried).stop_at(target_of(offer, IMAGE), "l1") is None


@pytest.mark.parametrize("cause", [Cause.PAUSED, Cause.REFUSED])
def test_no_time_ends_what_a_word_must_end(cause):
    seen = at(60 * 24 * 365, after(cause, 0))
    assert seen.stop(an_offer()) is not None
    assert seen.to_try(target_of(an_offer(), IMAGE)) == []
    assert "lambda-a" in seen.closed_credentials()


def test_of_several_blocks_the_longest_says_when_to_come_back():
    sold_out, quota = after(Cause.SOLD_OUT, 0, subject=an_offer().id), after(Cause.QUOTA, 0, subject="H100")
    assert at(0, sold_out, quota).stop(an_offer()).until == quota.until
