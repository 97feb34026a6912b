"""Deliveries of providers, over the real socket: known by their signature, whoever brings them."""

import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest

from broker.providers.vast_webhook import VastWebhook


@pytest.fixture
def looks(served):
    app, _ = served
    seen = []
    hook = VastWebhook("vast-a", "whsec_1", lambda: datetime.now(UTC), lambda: seen.append("look"))
    app.state.webhooks = {"vast-a": hook.receive}
    yield seen
    app.state.webhooks = {}


def signed(body, by="whsec_1"):
    now = str(int(time.time()))
    digest = hmac.new(by.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    return {"X-Vast-Timestamp": now, "X-Vast-Signature-256": f"sha256={digest}", "X-Vast-Event-Id": "e1"}


def test_a_signed_delivery_is_taken_from_any_user_of_the_host(api, looks):
    answer = api.ask_as_user(
        "POST", "/api/v1/webhooks/vast-a", '{"notif_type": "outbid"}', signed('{"notif_type": "outbid"}')
    )
    assert (answer.status, answer.text, looks) == (204, "", ["look"])


def test_a_delivery_with_another_secret_is_refused(api, looks):
    answer = api.ask("POST", "/api/v1/webhooks/vast-a", "{}", signed("{}", "whsec_2"))
    assert (answer.status, looks) == (403, [])
    assert "webhook_secret_file" in answer.json["detail"]


def test_where_no_secret_is_configured_nothing_is_taken(api):
    assert api.ask("POST", "/api/v1/webhooks/vast-a", "{}", signed("{}")).status == 404
