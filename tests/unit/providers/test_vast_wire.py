"""Vast's limits and its noes."""

import httpx
import pytest
from factories import NOON

from broker.core.errors import (
    CredentialsRefused,
    InstanceNotFound,
    NoCapacity,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.offers import InstanceSpec
from broker.providers.http import Pace
from broker.providers.vast import VastProvider
from broker.providers.vast_http import Endpoint, VastWire

SPEC = InstanceSpec(
    label="broker-test-l0123456789-e1",
    instance_type="22990x1",
    zone="us",
    user_data="",
    ssh_public_key="ssh-ed25519 AAAA broker",
)


class Time:
    """Seconds that pass while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def wire(status=200, body=None, pace=None, text=None, headers=None):
    time = Time()
    answer = {"content": text} if text is not None else {"json": {} if body is None else body}
    transport = httpx.MockTransport(lambda request: httpx.Response(status, headers=headers, **answer))
    http = httpx.Client(transport=transport, base_url="http://vast.test")
    return VastWire("vast-a", http, lambda: NOON, pace=pace or Pace(), sleep=time.sleep, ticks=time), time


def refusal(status, body=None, **more):
    speaking, _ = wire(status, body, **more)
    with pytest.raises(ProviderError) as caught:
        speaking.call(Endpoint.SHOW, "GET", "/v0/instances/1/")
    return caught.value


def test_each_endpoint_waits_for_itself_only():
    speaking, time = wire()
    for _ in range(3):
        speaking.call(Endpoint.SEARCH, "POST", "/v0/bundles/")
    assert time.now == 12.0
    speaking.call(Endpoint.LIST, "GET", "/v1/instances/")
    assert time.now == 12.0


def test_a_create_takes_its_turn_and_the_next_counts_from_when_it_was_sent():
    speaking, time = wire()
    assert speaking.try_take(Endpoint.CREATE)
    time.now = 3.0
    speaking.ask(Endpoint.CREATE, "PUT", "/v0/asks/1/")
    assert speaking.wait_seconds(Endpoint.CREATE) == 4.5
    assert not speaking.try_take(Endpoint.CREATE)


def test_a_site_may_have_agreed_to_other_intervals():
    speaking, time = wire(pace=Pace(calls=0.5, creates=0))
    for _ in range(3):
        speaking.call(Endpoint.SEARCH, "POST", "/v0/bundles/")
    assert time.now == 1.0
    assert speaking.try_take(Endpoint.CREATE) and speaking.try_take(Endpoint.CREATE)


@pytest.mark.parametrize(
    ("text", "headers", "pause"),
    [
        (b'{"detail":"API requests too frequent endpoint threshold=4.5"}', {}, 4.5),
        (b"API requests too frequent", {}, 2.0),
        (b"", {"Retry-After": "17"}, 17.0),
        (b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 2.0),
        (b"", {"Retry-After": "99999"}, 300.0),
        (b"\xff\xff", {"Retry-After": "-3"}, 2.0),
    ],
)
def test_a_call_too_many_pauses_its_endpoint_as_long_as_the_answer_says(text, headers, pause):
    speaking, _ = wire(429, text=text, headers=headers)
    with pytest.raises(RateLimited) as caught:
        speaking.call(Endpoint.SHOW, "GET", "/v0/instances/1/")
    assert caught.value.retry_after == pause
    assert speaking.wait_seconds(Endpoint.SHOW) == pause
    assert speaking.wait_seconds(Endpoint.DESTROY) == 0


def test_a_create_too_many_costs_the_penalty():
    speaking, _ = wire(429, text=b"threshold=4.5")
    with pytest.raises(RateLimited) as caught:
        speaking.ask(Endpoint.CREATE, "PUT", "/v0/asks/1/")
    assert caught.value.retry_after == 12.0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [(None, 43200.0), ("soon", 43200.0), (str(NOON.timestamp() + 60), 60.0), ("2026-11-24T13:00:00Z", 3600.0)],
)
def test_when_the_days_searches_are_used_up_only_the_search_waits_till_they_are_not(reset, seconds):
    headers = {} if reset is None else {"X-RateLimit-Reset": reset}
    speaking, _ = wire(429, {"error": "search_quota_exceeded"}, headers=headers)
    with pytest.raises(RateLimited) as caught:
        speaking.call(Endpoint.SEARCH, "POST", "/v0/bundles/")
    assert caught.value.retry_after == seconds
    assert speaking.wait_seconds(Endpoint.DESTROY) == 0


def test_a_day_without_searches_is_a_quota_to_who_would_buy():
    time = Time()

    def answer(request):
        if "bundles" in request.url.path:
            return httpx.Response(429, json={"error": "search_quota_exceeded"})
        return httpx.Response(200, json=[{"public_key": SPEC.ssh_public_key}])

    http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://vast.test")
    provider = VastProvider("v", http, lambda: NOON, image="r.example/vastai/kvm:1", sleep=time.sleep, ticks=time)
    for _ in range(2):
        assert provider.create_wait_seconds() == 0
        assert provider.reserve_create()
        with pytest.raises(QuotaExceeded, match="searches"):
            provider.create(SPEC)
        time.now += 5
    assert provider.create_wait_seconds() == 0


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}, CredentialsRefused),
        (404, {"error": "x", "msg": "Invalid user key"}, CredentialsRefused),
        (403, {"error": "forbidden", "msg": "scope"}, CredentialsRefused),
        (403, {"error": "invalid_args", "msg": "error 403/3586: Offer 1 is not your own."}, ProviderError),
        (410, {"error": "no_such_ask", "msg": "gone"}, NoCapacity),
        (404, {"error": "invalid_args", "msg": "error 404/3603: no_such_ask Instance type by id 1"}, NoCapacity),
        (404, {"error": "not_found", "msg": "Instance not found"}, InstanceNotFound),
        (400, {"error": "missing_billing", "msg": "x"}, QuotaExceeded),
        (400, {"error": "invalid_args", "msg": "Your account lacks credit; see the billing page."}, QuotaExceeded),
        (402, {}, QuotaExceeded),
        (400, {"error": "invalid_price", "msg": "x"}, ProviderError),
        (200, {"success": False, "error": "no_such_ask", "msg": "x"}, NoCapacity),
        (503, {"error": "x"}, ProviderUnavailable),
        (400, None, ProviderError),
        (418, [], ProviderError),
    ],
)
def test_each_no_is_named_for_what_follows_from_it(status, body, error):
    assert type(refusal(status, body)) is error


@pytest.mark.parametrize("text", [b"<html>", b"", b"[" * 100_000, b'{"a": '])
def test_what_is_no_json_may_have_been_done(text):
    speaking, _ = wire(200, text=text)
    with pytest.raises(OutcomeUnknown):
        speaking.ask(Endpoint.CREATE, "PUT", "/v0/asks/1/", lost=OutcomeUnknown)
