"""Each credential is tried every hour by a call that buys nothing, and sooner after a refusal."""

from datetime import timedelta

import pytest

from broker.core.blocks import Cause
from broker.core.errors import CredentialsRefused, ProviderUnavailable
from broker.db import looks
from broker.db.engine import reading
from broker.reconcile import probe


def asked(rig):
    """Run what is due; which credentials were asked."""
    tasks = list(probe.find(rig.world))
    for task in tasks:
        task.run()
    return sorted(task.key.removeprefix("probe:") for task in tasks if task.key != "probe:forget")


def last(rig, name="lambda-a"):
    with reading(rig.world.engine) as db:
        return looks.latest(db)[name]


def fails(rig, error, name="lambda-a"):
    def ask():
        raise error

    rig.providers[name].instances = ask


def test_each_credential_is_asked_once_an_hour_and_what_it_said_is_kept_with_its_time(rig):
    assert asked(rig) == ["lambda-a", "lambda-b"]
    assert (last(rig).error, last(rig).at) == (None, rig.clock())
    rig.clock.pass_seconds(3599)
    assert asked(rig) == []
    rig.clock.pass_seconds(1)
    assert asked(rig) == ["lambda-a", "lambda-b"]


def test_a_refusal_suspends_and_is_asked_again_ever_more_rarely_until_the_key_is_taken(rig):
    ask = rig.providers["lambda-a"].instances
    fails(rig, CredentialsRefused("HTTP 401"))
    asked(rig)
    began, gaps = rig.clock(), []
    while rig.clock() - began < timedelta(hours=3):
        rig.clock.pass_seconds(60)
        if "lambda-a" in asked(rig):
            gaps.append((rig.clock() - began).total_seconds() / 60)
            began = rig.clock()
        if len(gaps) == 8:
            break
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [(block.cause, block.error) for block in rig.blocks("lambda-a")] == [(Cause.REFUSED, "HTTP 401")]
    rig.providers["lambda-a"].instances = ask
    rig.clock.pass_seconds(3600)
    asked(rig)
    assert rig.blocks("lambda-a") == []


@pytest.mark.parametrize("error", [ProviderUnavailable("HTTP 500")])
def test_a_silence_is_kept_and_says_nothing_of_the_credential(rig, error):
    fails(rig, error)
    asked(rig)
    assert last(rig).error == "HTTP 500"
    assert rig.blocks("lambda-a") == []
