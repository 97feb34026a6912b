"""The kernel says who calls; operators may everything, others look at what is theirs."""

import os

import pytest
from unit.api.memory import a_view

from broker.api.auth import operator_uids
from broker.core.errors import ConfigError
from broker.services.views import Why


def a_story(owner):
    return Why(target="4711", headline="It runs.", story=(), awaited=None, owner=owner, leases=())


@pytest.mark.parametrize("target", ["/api/v1/status", "/api/v1/offers"])
def test_every_user_may_see_the_status_and_the_offers(api, target):
    assert api.ask_as_user("GET", target).status == 200


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/api/v1/leases", None),
        ("GET", "/api/v1/leases/l0000000001", None),
        ("GET", "/api/v1/leases/l0000000001/logs/boot", None),
        ("POST", "/api/v1/leases/l0000000001/release", {"reason": "mine"}),
        ("POST", "/api/v1/pause", {"reason": "why not"}),
        ("POST", "/api/v1/resume", None),
        ("GET", "/api/v1/nodes/h100-1/access", None),
        ("GET", "/api/v1/why/h100-1", None),
        ("GET", "/api/v1/providers", None),
        ("GET", "/api/v1/providers/lambda-a", None),
        ("GET", "/api/v1/providers/lambda-a/quote?max_price=9", None),
        ("POST", "/api/v1/providers/lambda-a/test", None),
        ("POST", "/api/v1/providers/lambda-a/trial", {"offer_id": "x", "max_price": "9"}),
        ("POST", "/api/v1/providers/lambda-a/pause", {"reason": "mine"}),
        ("POST", "/api/v1/providers/lambda-a/resume", None),
    ],
)
def test_the_rest_is_for_operators_and_the_refusal_says_what_to_do(api, method, target, body):
    api.operations.add(a_view(id="l0000000001"))

    answer = api.ask_as_user(method, target, body)

    assert answer.status == 403
    assert "operator" in answer.json["detail"]
    assert api.operations.actors == []


def test_a_user_may_ask_about_their_own_job(api):
    api.operations.stories["4711"] = a_story("nobody")

    assert api.ask_as_user("GET", "/api/v1/why/4711").json["headline"] == "It runs."


@pytest.mark.parametrize("owner", ["alice", None])
def test_a_user_may_not_ask_about_another_job(api, owner):
    api.operations.stories["4711"] = a_story(owner)

    answer = api.ask_as_user("GET", "/api/v1/why/4711")

    assert answer.status == 403
    assert "headline" not in answer.text


def test_an_operator_may_ask_about_every_job(api):
    api.operations.stories["4711"] = a_story("alice")

    assert api.ask("GET", "/api/v1/why/4711").status == 200


def test_a_caller_cannot_say_who_it_is(api):
    headers = {"X-Forwarded-User": "root", "X-Forwarded-For": "0", "Forwarded": "for=root", "Remote-User": "root"}

    assert api.ask_as_user("POST", "/api/v1/resume", None, headers).status == 403


def test_root_is_an_operator_always():
    assert operator_uids([]) == {0}


def test_an_operator_whom_the_host_does_not_know_is_a_mistake_in_the_configuration():
    with pytest.raises(ConfigError, match='no user "nobody-of-that-name"'):
        operator_uids(["root", "nobody-of-that-name"])


def test_the_socket_lets_every_user_connect(api):
    assert os.stat(api.socket).st_mode & 0o777 == 0o666  # noqa: PTH116
