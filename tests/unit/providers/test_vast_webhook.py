"""A webhook is a reason to look, when it is signed, fresh and new."""

import hashlib
import hmac
import json
import logging

import pytest
from factories import Clock

from broker.core.errors import Refused
from broker.providers.vast_webhook import VastWebhook

SECRET = "whsec_0123456789"
BODY = json.dumps({"event_id": "e1", "notif_type": "outbid", "subject": "Your instance\nwas outbid"}).encode()


class Receiver:
    def __init__(self):
        self.clock = Clock()
        self.looks = 0
        self.hook = VastWebhook("vast-a", SECRET, self.clock, self._look)

    def _look(self):
        self.looks += 1

    def headers(self, body=BODY, secret=SECRET, age=0, event="e1", **changes):
        timestamp = str(int(self.clock().timestamp()) - age)
        digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        told = {"x-vast-timestamp": timestamp, "x-vast-signature-256": f"sha256={digest}", "x-vast-event-id": event}
        return told | changes


@pytest.fixture
def receiver():
    return Receiver()


def test_a_signed_event_is_looked_after_once(receiver):
    for _ in range(3):
        receiver.hook.receive(receiver.headers(), BODY)
    receiver.hook.receive(receiver.headers(event="e2"), BODY)
    assert receiver.looks == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "another"},
        {"x-vast-signature-256": ""},
        {"x-vast-signature-256": "sha256=é"},
        {"x-vast-timestamp": ""},
        {"x-vast-timestamp": "1790000000"},
        {"body": BODY + b" "},
        {"age": 301},
        {"age": -301},
    ],
)
def test_what_is_not_signed_or_not_fresh_is_refused(receiver, changes):
    with pytest.raises(Refused) as caught:
        receiver.hook.receive(receiver.headers(**changes), BODY)
    assert receiver.looks == 0
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("time", ["²", "-5", "1" * 13, "now"])
def test_a_time_that_is_none_is_refused_though_it_is_signed(receiver, time):
    digest = hmac.new(SECRET.encode(), time.encode() + b"." + BODY, hashlib.sha256).hexdigest()
    with pytest.raises(Refused):
        receiver.hook.receive({"x-vast-timestamp": time, "x-vast-signature-256": f"sha256={digest}"}, BODY)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000, b"7"])
def test_a_signed_body_of_any_sort_is_a_reason_to_look(receiver, body):
    receiver.hook.receive(receiver.headers(body=body), body)
    assert receiver.looks == 1


def test_an_operator_reads_of_an_outbid_machine_on_one_line(receiver, caplog):
    with caplog.at_level(logging.WARNING, "broker.vast"):
        receiver.hook.receive(receiver.headers(), BODY)
    (line,) = caplog.messages
    assert line == "provider=vast-a webhook=outbid 'Your instance was outbid'"
