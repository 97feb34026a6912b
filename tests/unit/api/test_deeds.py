"""POSTs: what they do, who is written down for it, and what a repetition does."""

import os
import pwd

from unit.api.memory import a_view

from broker.core.errors import Refused

ME = pwd.getpwuid(os.getuid()).pw_name


def test_a_release_is_done_in_the_callers_name(api):
    api.operations.add(a_view(id="l0000000001"))

    answer = api.ask("POST", "/api/v1/leases/l0000000001/release", {"reason": "  too slow "})

    assert answer.json["lease"]["state"] == "releasing"
    assert answer.json["lease"]["reason"] == "too slow"
    assert api.operations.actors == [ME]


def test_buying_is_paused_with_a_reason_and_resumed(api):
    assert api.ask("POST", "/api/v1/pause", {"reason": "weekend"}).json["paused"] == "weekend"
    assert api.ask("POST", "/api/v1/resume").json["paused"] is None
    assert api.operations.actors == [ME, ME]


def test_a_deed_wants_a_reason(api):
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "a\nb"}, {"reason": 3}, {"reason": "x", "y": 1}, "{"):
        answer = api.ask("POST", "/api/v1/pause", body)
        assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json"), body
    assert api.operations.paused is None


def test_a_repeated_key_gets_the_first_answer_and_does_nothing(api):
    api.operations.add(a_view(id="l0000000001"))
    ask = ("POST", "/api/v1/leases/l0000000001/release", {"reason": "done"}, {"Idempotency-Key": "k1"})

    first, second = api.ask(*ask), api.ask(*ask)

    assert first.text == second.text
    assert api.operations.actors == [ME]


def test_a_key_is_not_taken_for_another_request(api):
    api.ask("POST", "/api/v1/pause", {"reason": "one"}, {"Idempotency-Key": "k1"})

    answer = api.ask("POST", "/api/v1/pause", {"reason": "two"}, {"Idempotency-Key": "k1"})

    assert answer.status == 409
    assert "take a new key" in answer.json["detail"]
    assert api.operations.paused == "one"


def test_a_failed_request_may_be_repeated_with_its_key(api):
    api.operations.fails = Refused("not now")
    assert api.ask("POST", "/api/v1/pause", {"reason": "one"}, {"Idempotency-Key": "k1"}).status == 403

    api.operations.fails = None
    assert api.ask("POST", "/api/v1/pause", {"reason": "one"}, {"Idempotency-Key": "k1"}).status == 200
