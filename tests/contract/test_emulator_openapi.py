"""Every answer of the emulated Lambda, yes or no, against Lambda's OpenAPI 1.10.0 (tests/data/README.md names the source)."""

import json
from pathlib import Path

import pytest
from contract.lambda_emulator import PUBLIC_KEY, Api, Seconds, a_cloud, a_launch
from contract.openapi import Contract
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.sandbox.emulators.faults import LAUNCH_PATH, faults_from

SUBSET = Path(__file__).parents[1] / "data" / "lambda" / "openapi-subset.json"
WHOLE = Path(__file__).parents[3] / "shared" / "data" / "offers" / "lambda" / "lambda-openapi-1.10.0.json"
TERMINATE = "/instance-operations/terminate"
RESTART = "/instance-operations/restart"


@pytest.fixture(params=[SUBSET, WHOLE], ids=["subset", "whole"])
def contract(request):
    if not request.param.exists():
        pytest.skip(
            f"{request.param.name} lies beside the checkout only where this project is built; the subset is checked"
        )
    return Contract(json.loads(request.param.read_text()))


class Checked:
    """The emulator, each of whose answers is held against the contract."""

    def __init__(self, contract, **settings):
        self.contract = contract
        self.clock = Seconds()
        self.cloud = a_cloud(self.clock, **settings)
        self.api = Api(self.cloud)

    def __call__(self, method, path, body=None, expect=200, **more):
        answer = self.api.call(method, path, body, **more)
        assert answer.status_code == expect, answer.text
        self.contract.check(answer)
        return answer.json().get("data") if answer.headers["content-type"] == "application/json" else answer.text

    def code(self, method, path, body=None, expect=400, **more):
        answer = self.api.call(method, path, body, **more)
        assert answer.status_code == expect, answer.text
        self.contract.check(answer)
        return answer.json()["error"]["code"]

    def misbehave(self, **fault):
        self.cloud.faults = faults_from([fault])

    def launch(self, **changes):
        (instance_id,) = self("POST", LAUNCH_PATH, a_launch(**changes))["instance_ids"]
        return instance_id


@pytest.fixture
def ask(contract):
    checked = Checked(contract)
    yield checked
    checked.api.close()


@pytest.fixture
def keyed(ask):
    ask("POST", "/ssh-keys", {"name": "mine", "public_key": PUBLIC_KEY})
    return ask


def test_every_operation_answers_as_documented(ask):
    key = ask("POST", "/ssh-keys", {"name": "mine", "public_key": PUBLIC_KEY})
    made = ask("POST", "/ssh-keys", {"name": "made"})
    assert made["private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert [row["name"] for row in ask("GET", "/ssh-keys")] == ["mine", "made"]
    assert "private_key" not in json.dumps(ask("GET", "/ssh-keys"))
    for path in ("/regions", "/images", "/instance-types", "/file-systems", "/firewall-rulesets"):
        ask("GET", path)
    bare = ask.launch()
    full = ask.launch(
        name="a name",
        hostname="a-host",
        image={"family": "lambda-stack-24-04"},
        user_data="#!/bin/sh\n",
        tags=[{"key": "broker-label", "value": "x"}],
        file_system_names=[],
        file_system_mounts=[],
        firewall_rulesets=[],
    )
    for seconds in (0, 3, 1):
        ask.clock.pass_(seconds)
        assert {row["id"] for row in ask("GET", "/instances")} == {bare, full}
    assert ask("POST", f"/instances/{bare}", {"name": "called"})["name"] == "called"
    ask("POST", RESTART, {"instance_ids": [bare]})
    assert ask("GET", f"/instances/{bare}")["actions"]["terminate"]["reason_code"] == "vm-action-in-progress"
    ask("POST", TERMINATE, {"instance_ids": [full]})
    for status in ("terminating", "terminated"):
        assert ask("GET", f"/instances/{full}")["status"] == status
        ask.clock.pass_(2.5)
    assert ask("GET", "/instances", params={"cluster_id": "c1"}) == []
    ask("DELETE", f"/ssh-keys/{key['id']}")
    wanted = {
        operation
        for operation in ask.contract.operations()
        if operation in Contract(json.loads(SUBSET.read_text())).operations()
    }
    assert {operation for operation, status in ask.contract.seen if status == "200"} == wanted


@pytest.mark.parametrize("fault", ["unauthorized", "inactive", "rate_limited", "error_500"])
def test_every_operation_refuses_as_documented(ask, fault):
    expect = {"unauthorized": 401, "inactive": 403, "rate_limited": 429, "error_500": 500}[fault]
    ask.misbehave(kind=fault)
    for operation in sorted(Contract(json.loads(SUBSET.read_text())).operations()):
        method, path = operation.split()
        ask(method.upper(), path.removeprefix("/api/v1").replace("{id}", "x"), expect=expect)


def test_a_wrong_key_and_a_missing_one_are_refused(ask):
    for key in ("nobody's", "", None):
        assert ask.code("GET", "/instances", key=key, expect=401) == "global/invalid-api-key"


def test_the_key_may_come_as_a_user_name_without_a_password(ask):
    for header, status in (("Basic a2V5LWE6", 200), ("Basic a2V5LWM6", 401), ("Basic ?", 401), ("Basic /w==", 401)):
        ask("GET", "/instances", key=header, expect=status)


def test_no_page_is_no_page(ask):
    for method, path in (
        ("GET", "/"),
        ("GET", "/instance-operations/launch"),
        ("PUT", "/instances"),
        ("GET", "/a/b/c"),
    ):
        assert ask.code(method, path, expect=404) == "global/not-found"


def test_what_is_not_there_is_told_apart(keyed):
    absent = {"instance_ids": ["x"]}
    for method, path, body in (
        ("GET", "/instances/x", None),
        ("POST", "/instances/x", {"name": "y"}),
        ("POST", TERMINATE, absent),
        ("POST", RESTART, absent),
        ("POST", LAUNCH_PATH, a_launch(ssh_key_names=["nobody's"])),
        ("POST", LAUNCH_PATH, a_launch(file_system_names=["none"])),
        ("POST", LAUNCH_PATH, a_launch(image={"id": "none"})),
    ):
        assert keyed.code(method, path, body, expect=404) == "global/object-does-not-exist"
    assert keyed.code("DELETE", "/ssh-keys/x", expect=404) == "global/not-found"


def test_another_accounts_instance_is_not_there(keyed):
    instance_id = keyed.launch()
    assert keyed.code("GET", f"/instances/{instance_id}", key="key-b", expect=404) == "global/object-does-not-exist"
    assert keyed("GET", "/instances", key="key-b") == []
    keyed.code("POST", TERMINATE, {"instance_ids": [instance_id]}, key="key-b", expect=404)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("sold_out", "instance-operations/launch/insufficient-capacity"), ("quota", "global/quota-exceeded")],
)
def test_a_launch_refused_for_want_of_room(keyed, fault, code):
    keyed.misbehave(kind=fault)
    assert keyed.code("POST", LAUNCH_PATH, a_launch()) == code


def test_a_second_key_of_one_name_is_a_duplicate(keyed):
    assert keyed.code("POST", "/ssh-keys", {"name": "mine", "public_key": PUBLIC_KEY}) == "global/duplicate"


def test_what_is_in_progress_conflicts(keyed):
    instance_id = keyed.launch()
    named = {"instance_ids": [instance_id]}
    assert keyed.code("POST", RESTART, named, expect=409) == "global/conflict"
    keyed.clock.pass_(4)
    keyed("POST", RESTART, named)
    for path in (RESTART, TERMINATE):
        assert keyed.code("POST", path, named, expect=409) == "global/conflict"
    keyed.clock.pass_(4)
    keyed("POST", TERMINATE, named)
    for path in (RESTART, TERMINATE):
        assert keyed.code("POST", path, named, expect=409) == "global/conflict"
    keyed.clock.pass_(3)
    assert keyed.code("POST", TERMINATE, named, expect=404) == "global/object-does-not-exist"


def test_a_call_too_many_is_told_in_plain_text(contract):
    ask = Checked(contract, limits="published")
    ask("GET", "/regions")
    ask("GET", "/regions")
    assert ask("GET", "/regions", expect=429) == "Too many requests."
    ask.api.close()


@pytest.mark.parametrize("raw", [b"{", b"[]", b"7", b"\xff", b'{"name": NaN}', b'{"name": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_invalid(ask, raw):
    assert ask.code("POST", "/ssh-keys", raw) == "global/invalid-parameters"


def test_the_subset_says_what_the_whole_says():
    if not WHOLE.exists():
        pytest.skip(f"{WHOLE.name} lies beside the checkout only where this project is built")
    subset, whole = json.loads(SUBSET.read_text()), json.loads(WHOLE.read_text())
    for name, schema in subset["components"]["schemas"].items():
        assert _bare(schema) == _bare(whole["components"]["schemas"][name])
    for path, methods in subset["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                there = whole["paths"][path][method]["responses"][status]
                assert _bare(answer["content"]) == _bare(there["content"])


def _bare(schema, names=False):
    """Without prose, titles and examples."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    prose = set() if names else {"title", "description", "example", "examples"}
    return {
        key: _bare(value, names=key == "properties" and not names) for key, value in schema.items() if key not in prose
    }


FIELDS = st.sampled_from(
    [*a_launch(), "name", "hostname", "image", "tags", "user_data", "instance_ids", "public_key", "id"]
)
WORDS = st.sampled_from(["gpu_1x_a10", "us-east-1", "mine", "x", PUBLIC_KEY]) | st.text(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.dictionaries(FIELDS, JSON, max_size=3).map(lambda changes: a_launch(**changes))
BODIES = st.none() | st.binary(max_size=20) | JSON | NEARLY
PARTS = st.sampled_from(
    ["instances", "ssh-keys", "instance-operations", "launch", "terminate", "restart", "images", "x"]
)
PATHS = st.sampled_from([LAUNCH_PATH, TERMINATE, RESTART, "/ssh-keys", "/instances"]) | st.lists(
    PARTS | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/?#%"), max_size=4), max_size=4
).map(lambda parts: "/" + "/".join(parts))
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(METHODS, PATHS, BODIES), min_size=1, max_size=8), st.integers(0, 4))
def test_no_call_at_all_makes_the_emulator_stumble(calls, seconds):
    """Nothing is raised in it, nothing is answered 500, and each answer is one that the contract knows."""
    ask = Checked(Contract(json.loads(SUBSET.read_text())))
    ask("POST", "/ssh-keys", {"name": "mine", "public_key": PUBLIC_KEY})
    for method, path, body in calls:
        answer = ask.api.call(method, path, body)
        assert answer.status_code != 500
        if method != "HEAD":
            ask.contract.check(answer)
        ask.clock.pass_(seconds)
    ask.api.close()
