"""The Lambda adapter on answers in the shapes of Lambda's OpenAPI 1.10.0 (tests/data/README.md names the source)."""

import contextlib
import json
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from factories import Clock
from hypothesis import given
from hypothesis import strategies as st

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
from broker.core.offers import InstanceSpec, InstanceState
from broker.providers.lambda_cloud import LambdaProvider

EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "lambda" / "examples.json").read_text())
SPEC = InstanceSpec(
    label="broker-test-l0123456789-e1",
    instance_type="gpu_1x_h100_sxm5",
    zone="us-east-1",
    user_data="#!/bin/sh\n",
    ssh_public_key="ssh-ed25519 AAAAC3Nza broker",
)
KEYS = {"data": [{"id": "k1", "name": "mine", "public_key": "ssh-ed25519 AAAAC3Nza somebody@else"}]}


def provider(*answers):
    """An adapter whose HTTP gives `answers` in turn: (status, body) or an exception."""
    left = list(answers)

    def handle(request):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return httpx.Response(status, text=body) if isinstance(body, str) else httpx.Response(status, json=body)

    http = httpx.Client(base_url="http://lambda.test", transport=httpx.MockTransport(handle))
    return LambdaProvider("lambda-a", http, Clock(), sleep=lambda seconds: None)


def a_type(**changes):
    kind = EXAMPLES["instance_types_schema_example"]["gpu_8x_example"]["instance_type"] | {
        "name": "gpu_1x_h100_sxm5",
        "gpu_description": "H100 (80 GB SXM5)",
        "price_cents_per_hour": 429,
        "specs": {"vcpus": 26, "memory_gib": 225, "storage_gib": 2816, "gpus": 1},
    }
    return {"instance_type": kind | changes, "regions_with_capacity_available": [{"name": "us-east-1"}]}


def error(name, status):
    return status, {"error": EXAMPLES["errors"][name]}


def test_offers_are_types_in_regions_with_capacity():
    (offer,) = provider((200, {"data": {"gpu_1x_h100_sxm5": a_type()}})).offers().offers
    assert (offer.zone, offer.price_per_hour, offer.hardware.accelerator) == ("us-east-1", Decimal("4.29"), "H100")
    assert offer.hardware.accelerator_memory_gib == 80


def test_a_type_sold_out_everywhere_is_still_known():
    row = a_type() | {"regions_with_capacity_available": []}
    (offer,) = provider((200, {"data": {"x": row}})).offers().offers
    assert not offer.available


def test_a_region_no_enum_knows_is_data():
    row = a_type() | {"regions_with_capacity_available": [{"name": "us-southeast-1", "description": "?"}]}
    assert provider((200, {"data": {"x": row}})).offers().offers[0].zone == "us-southeast-1"


@pytest.mark.parametrize(
    "row",
    [
        {},
        None,
        a_type(price_cents_per_hour=0),
        a_type(price_cents_per_hour="4.29"),
        a_type(specs=None),
        a_type(gpu_description="Example GPU (40 GB SXM4)"),
    ],
)
def test_one_odd_row_does_not_hide_the_others(row):
    reading = provider((200, {"data": {"odd": row, "good": a_type()}})).offers()
    assert [offer.instance_type for offer in reading.offers] == ["gpu_1x_h100_sxm5"]
    assert [row.what for row in reading.left_out] == ["odd"]


def test_a_launch_uses_the_accounts_name_for_our_key_and_answers_with_the_instance():
    instance = provider((200, KEYS), (200, {"data": {"instance_ids": ["abc"]}})).create(SPEC)
    assert (instance.id, instance.label, instance.state) == ("abc", SPEC.label, InstanceState.STARTING)


def test_of_two_launches_at_once_only_one_gets_the_credentials_turn():
    lambda_a = provider()
    assert [lambda_a.reserve_create(), lambda_a.reserve_create()] == [True, False]
    assert lambda_a.create_wait_seconds() > 11


def test_a_key_that_somebody_removed_from_the_account_is_looked_up_again():
    gone = error("ApiErrorLaunchResourceNotFound", 404)
    lambda_a = provider((200, KEYS), gone, (200, KEYS), (200, {"data": {"instance_ids": ["abc"]}}))
    with pytest.raises(ProviderError):
        lambda_a.create(SPEC)
    assert lambda_a.create(SPEC).id == "abc"


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (error("ApiErrorInsufficientCapacity", 400), NoCapacity),
        (error("ApiErrorQuotaExceeded", 400), QuotaExceeded),
        (error("ApiErrorUnauthorized", 401), CredentialsRefused),
        (error("ApiErrorAccountInactive", 403), CredentialsRefused),
        (error("ApiErrorInvalidParameters", 400), ProviderError),
        ((400, {"error": {"code": "global/invalid-parameters", "message": "Region x does not exist"}}), NoCapacity),
        ((429, "slow down"), RateLimited),
        ((500, {"error": EXAMPLES["errors"]["ApiErrorInternal"]}), OutcomeUnknown),
        ((200, "<html>maintenance</html>"), OutcomeUnknown),
        ((200, '{"data": {"instance_i'), OutcomeUnknown),
        ((200, {"data": {"instance_ids": []}}), OutcomeUnknown),
        ((200, {"data": {"instance_ids": [7]}}), OutcomeUnknown),
        ((200, {}), OutcomeUnknown),
        (httpx.ReadTimeout("no answer"), OutcomeUnknown),
        (httpx.RemoteProtocolError("closed"), OutcomeUnknown),
        (httpx.ConnectError("refused"), ProviderUnavailable),
    ],
)
def test_each_answer_to_a_launch_is_named_for_what_the_caller_does(answer, raised):
    with pytest.raises(raised) as caught:
        provider((200, KEYS), answer).create(SPEC)
    assert caught.type is raised
    assert "lambda-a" in str(caught.value)


def test_the_recorded_instance_is_read():
    row = EXAMPLES["restart_200"]["data"]["restarted_instances"][0]
    (instance,) = provider((200, {"data": [row]})).instances()
    assert (instance.state, instance.address, instance.zone) == (InstanceState.RUNNING, "198.51.100.2", "us-west-1")
    assert instance.price_per_hour == Decimal("15.92")


def test_an_unknown_status_is_data_and_a_terminated_instance_is_gone():
    row = EXAMPLES["restart_200"]["data"]["restarted_instances"][0]
    seen = provider((200, {"data": [row | {"status": "hibernating"}, row | {"status": "terminated"}]})).instances()
    assert [(i.state, i.raw_state) for i in seen] == [(InstanceState.UNKNOWN, "hibernating")]
    with pytest.raises(InstanceNotFound):
        provider((200, {"data": row | {"status": "terminated"}})).instance("x")


@pytest.mark.parametrize("data", ["maintenance", {}, {"terminated_instances": [{"id": "another"}]}])
def test_an_answer_that_does_not_name_the_machine_is_no_promise_to_end_it(data):
    with pytest.raises(ProviderUnavailable, match="without naming instance x"):
        provider((200, {"data": data})).delete("x")


def test_ending_what_is_not_there_is_told_apart():
    with pytest.raises(InstanceNotFound):
        provider(error("ApiErrorInstanceNotFound", 404)).delete("x")


def test_an_address_with_a_mask_is_an_address():
    row = EXAMPLES["restart_200"]["data"]["restarted_instances"][0]
    assert provider((200, {"data": row | {"ip": "198.51.100.2/32"}})).instance("x").address == "198.51.100.2"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_no_answer_at_all_is_more_than_a_provider_error(body):
    for call in (lambda p: p.offers().offers, lambda p: p.instances(), lambda p: p.instance("x")):
        with contextlib.suppress(ProviderError):
            call(provider((200, {"data": body})))
