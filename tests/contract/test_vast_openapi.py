"""Every answer of the emulated Vast, yes or no, against Vast's OpenAPI (tests/data/README.md names the source)."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from contract.lambda_emulator import Seconds
from contract.vast_emulator import KEY, PUBLIC_KEY, Api, a_market, a_rent, an_ask
from contract.vast_openapi import VastOpenApi
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.offers import CapacityType
from broker.providers.vast_offers import read_offer, rows_of
from broker.sandbox.emulators.faults import faults_from

SUBSET = Path(__file__).parents[1] / "data" / "vast" / "openapi-subset.json"
WHOLE = Path(__file__).parents[3] / "shared" / "data" / "offers" / "vast" / "vast-openapi-subset.json"
SEARCH = "/v0/bundles/"
VMS = {"vms_enabled": {"eq": True}, "limit": 100, "order": [["dph_total", "asc"], ["id", "asc"]]}


class Checked:
    """The emulator, each of whose answers is held against the contract."""

    def __init__(self, **changes):
        self.contract = VastOpenApi(json.loads(SUBSET.read_text()))
        self.clock = Seconds()
        self.cloud = a_market(self.clock, **changes)
        self.api = Api(self.cloud)

    def __call__(self, method, path, body=None, expect=200, **more):
        answer = self.api.call(method, path, body, **more)
        assert answer.status_code == expect, answer.text
        self.contract.check(answer)
        return answer.json() if answer.headers["content-type"] == "application/json" else answer.text

    def misbehave(self, **fault):
        self.cloud.faults = faults_from([fault])

    def rent(self, **changes):
        return self("PUT", f"/v0/asks/{an_ask(self.clock)}/", a_rent(**changes))["new_contract"]


@pytest.fixture
def ask():
    checked = Checked()
    yield checked
    checked.api.close()


@pytest.fixture
def keyed(ask):
    ask("POST", "/v0/ssh/", {"ssh_key": PUBLIC_KEY})
    return ask


def test_every_operation_answers_as_documented(keyed):
    offers = keyed("POST", SEARCH, VMS)["offers"]
    assert all(row["vms_enabled"] for row in offers)
    assert [row["dph_total"] for row in offers] == sorted(row["dph_total"] for row in offers)
    number = keyed.rent()
    keyed.clock.pass_(5)
    assert keyed("GET", f"/v0/instances/{number}/")["instances"]["actual_status"] == "running"
    keyed("GET", "/v1/instances/", params={"limit": "1"})
    keyed("GET", "/v0/instances/pending-price-increases/")
    assert keyed("GET", "/v0/ssh/")[0]["public_key"] == PUBLIC_KEY
    keyed("DELETE", f"/v0/instances/{number}/")
    assert keyed("GET", f"/v0/instances/{number}/") == {"instances": None}
    assert {operation for operation, status in keyed.contract.seen if status == "200"} == keyed.contract.operations()


@pytest.mark.parametrize("kind", ["unauthorized", "inactive", "rate_limited", "error_500"])
def test_every_operation_refuses_as_documented(keyed, kind):
    number = keyed.rent()
    keyed.misbehave(kind=kind)
    calls = [
        ("POST", SEARCH, VMS), ("PUT", f"/v0/asks/{number}/", a_rent()), ("DELETE", f"/v0/instances/{number}/", None),
        ("GET", f"/v0/instances/{number}/", None), ("GET", "/v1/instances/", None), ("POST", "/v0/ssh/", {}),
    ]  # fmt: skip
    for method, path, body in calls:
        answer = keyed.api.call(method, path, body)
        assert answer.is_error
        keyed.contract.check(answer)


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"image": None}, 400, "invalid_args"),
        ({"disk": 7}, 400, "invalid_args"),
        ({"disk": 10_000}, 400, "invalid_args"),
        ({"label": "x" * 257}, 400, "invalid_args"),
        ({"onstart": "x" * 4097}, 400, "invalid_args"),
        ({"price": 0}, 400, "invalid_price"),
        ({"price": 129}, 400, "invalid_price"),
        ({"surprise": 1}, 400, "invalid_args"),
    ],
)
def test_a_create_is_checked_as_documented(keyed, changes, status, error):
    assert keyed("PUT", f"/v0/asks/{an_ask(keyed.clock)}/", a_rent(**changes), status)["error"] == error
    assert keyed.cloud.living() == []


def test_a_vm_needs_a_key_of_the_account(ask):
    refused = ask("PUT", f"/v0/asks/{an_ask(ask.clock)}/", a_rent(), 400)
    assert refused["error"] == "no_ssh_key_for_vm"


def test_an_ask_lasts_two_minutes_at_most(keyed):
    number = an_ask(keyed.clock)
    keyed.clock.pass_(120)
    assert keyed("PUT", f"/v0/asks/{number}/", a_rent(), 410)["error"] == "no_such_ask"


def test_what_is_rented_is_not_offered_and_what_is_outbid_is(keyed):
    number = keyed.rent(price=5.0)
    free = {row["num_gpus"] for row in keyed("POST", SEARCH, {"machine_id": {"eq": 22990}})["offers"]}
    keyed.clock.pass_(10)
    keyed("GET", "/v0/ssh/")
    keyed.cloud.preempt(str(number))
    again = {row["num_gpus"] for row in keyed("POST", SEARCH, {"machine_id": {"eq": 22990}})["offers"]}
    assert (free, again) == ({1}, {1, 2})


def test_an_outbid_machine_shows_its_four_states_and_comes_again_by_itself(keyed):
    number = keyed.rent(price=5.0)
    keyed.clock.pass_(10)
    keyed("GET", "/v0/ssh/")
    keyed.cloud.preempt(str(number))
    shown = keyed("GET", f"/v0/instances/{number}/")["instances"]
    states = ("actual_status", "intended_status", "cur_state", "next_state")
    assert [shown[each] for each in states] == ["exited", "stopped", "stopped", "stopped"]
    keyed.clock.pass_(16)
    keyed("GET", "/v0/ssh/")
    keyed.clock.pass_(4)
    assert keyed("GET", f"/v0/instances/{number}/")["instances"]["actual_status"] == "running"


def test_a_bid_too_low_is_refused_and_its_contract_is_charged(keyed):
    refused = keyed("PUT", f"/v0/asks/{an_ask(keyed.clock)}/", a_rent(price=0.5), 400)
    assert keyed.cloud.living() == [str(refused["new_contract"])]


def test_a_stopped_contract_pays_for_its_disk_only(keyed):
    number = keyed.rent(price=5.0)
    keyed.clock.pass_(10)
    keyed("GET", "/v0/ssh/")
    keyed.cloud.preempt(str(number))
    (before,) = keyed.cloud.bill()
    keyed.clock.pass_(3600)
    (after,) = keyed.cloud.bill()
    paid = float(after["amount"]) - float(before["amount"])
    assert paid == pytest.approx(50 * 0.15 / 720, rel=1e-6)


@pytest.mark.parametrize(
    ("method", "path", "threshold"),
    [("POST", SEARCH, 6.0), ("GET", "/v1/instances/", 1.0), ("GET", "/v0/instances/1/", 2.0)],
)
def test_each_endpoint_has_a_limit_of_its_own(method, path, threshold):
    ask = Checked(limits="published")
    body = {} if method == "POST" else None
    ask(method, path, body)
    text = ask.api.call(method, path, body)
    ask.contract.check(text)
    assert (text.status_code, f"threshold={threshold}" in text.text) == (429, True)
    assert "Retry-After" not in text.headers
    ask("GET", "/v0/ssh/")
    ask.clock.pass_(threshold)
    ask(method, path, body)
    ask.api.close()


@pytest.mark.parametrize("raw", [b"{", b"[]", b"7", b"\xff", b'{"name": NaN}', b'{"name": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_invalid(ask, raw):
    assert ask("POST", SEARCH, raw, 400)["error"] == "invalid_request"


def test_the_subset_says_what_the_whole_says():
    if not WHOLE.exists():
        pytest.skip(f"{WHOLE.name} lies beside the checkout only where this project is built")
    subset, whole = json.loads(SUBSET.read_text()), json.loads(WHOLE.read_text())
    for name in subset.keys() & whole.keys():
        for path, methods in subset[name]["paths"].items():
            for method, operation in methods.items():
                there = whole[name]["paths"][path][method]
                assert operation["responses"] == _bare(there["responses"])
        assert subset[name]["components"]["schemas"] == _bare(
            whole[name].get("components", {}).get("schemas", {}), names=True
        )


def test_the_emulated_offers_are_read_by_the_adapter(ask):
    rows = rows_of(ask("POST", SEARCH, VMS))
    assert len(rows) == 6
    now = datetime.fromtimestamp(ask.clock(), UTC)
    assert {read_offer(row, CapacityType.ON_DEMAND, "v", now).kind for row in rows} == {"vast"}


def _bare(schema, names=False):
    """Without prose, titles and examples."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    prose = set() if names else {"title", "description", "example", "examples", "summary"}
    return {
        key: _bare(value, names=key == "properties" and not names) for key, value in schema.items() if key not in prose
    }


FIELDS = st.sampled_from(
    [*a_rent(), "price", "onstart", "env", "machine_id", "num_gpus", "type", "order", "limit", "ssh_key"]
)
WORDS = st.sampled_from(["bid", "ondemand", "eq", "in", PUBLIC_KEY, KEY]) | st.text(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
BODIES = (
    st.none() | st.binary(max_size=20) | JSON | st.dictionaries(FIELDS, JSON, max_size=3).map(lambda x: a_rent(**x))
)
PATHS = st.sampled_from(
    [
        SEARCH,
        "/v0/ssh/",
        "/v1/instances/",
        "/v0/instances/7100002/",
        "/v0/instances/x/",
        "/v0/asks/ASK/",
        "/v0/asks/1/",
        "/x",
    ]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(METHODS, PATHS, BODIES), min_size=1, max_size=8), st.integers(0, 4))
def test_no_call_at_all_makes_the_emulator_stumble(calls, seconds):
    """Nothing is raised in it, nothing is answered 500, and each answer is one that the contract knows."""
    ask = Checked()
    ask("POST", "/v0/ssh/", {"ssh_key": PUBLIC_KEY})
    for method, path, body in calls:
        answer = ask.api.call(method, path.replace("ASK", str(an_ask(ask.clock))), body)
        assert answer.status_code != 500
        if method != "HEAD":
            ask.contract.check(answer)
        ask.clock.pass_(seconds)
    ask.api.close()
