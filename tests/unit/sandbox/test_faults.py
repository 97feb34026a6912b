"""Fault scripts: what they choose, how they count, and what is wrong with a wrong one."""

import json

import pytest
from contract.lambda_emulator import KEY, Api, a_launch

from broker.sandbox.emulators.faults import CALL_FAULTS, LAUNCH_FAULTS, LAUNCH_PATH, Call, faults_from, take
from broker.sandbox.emulators.lambda_errors import ApiError

LAUNCH = Call(credential="lambda-a", path=LAUNCH_PATH, instance_type="gpu_1x_a10", region="us-east-1")
LIST = Call(credential="lambda-a", path="/instances")


def due(script, *calls):
    faults = faults_from(script)
    found = [take(faults, {fault.kind for fault in faults}, call) for call in calls]
    return [fault.kind if fault else None for fault in found]


@pytest.mark.parametrize(
    ("choice", "fits"),
    [
        ({}, True),
        ({"credential": "lambda-a"}, True),
        ({"credential": "lambda-b"}, False),
        ({"instance_type": "gpu_1x_a10"}, True),
        ({"instance_type": "gpu_1x_h100_sxm5"}, False),
        ({"region": "us-east-1"}, True),
        ({"region": "us-west-1"}, False),
        ({"path": "/instance-operations"}, True),
        ({"path": "/ssh-keys"}, False),
        ({"credential": "lambda-a", "instance_type": "gpu_1x_a10", "region": "us-east-1"}, True),
        ({"credential": "lambda-a", "instance_type": "gpu_1x_a10", "region": "us-west-1"}, False),
        ({"credential": None, "times": None, "seconds": None}, True),
    ],
)
def test_a_fault_is_shown_to_the_calls_it_chooses(choice, fits):
    assert due([{"kind": "error_500", **choice}], LAUNCH) == ["error_500" if fits else None]


def test_a_choice_of_type_or_region_leaves_other_calls_alone():
    assert due([{"kind": "error_500", "instance_type": "gpu_1x_a10"}], LIST, LAUNCH) == [None, "error_500"]


def test_a_fault_is_shown_as_often_as_it_says_and_only_to_what_fits():
    script = [{"kind": "error_500", "path": "/instances", "times": 2}]
    assert due(script, LAUNCH, LIST, LAUNCH, LIST, LIST) == [None, "error_500", None, "error_500", None]


def test_the_first_that_fits_is_shown_then_the_next():
    script = [{"kind": "html_200", "times": 1}, {"kind": "half_json", "times": 1}]
    assert due(script, LIST, LIST, LIST) == ["html_200", "half_json", None]


def test_a_fault_of_seconds_has_a_default():
    slow, sold_out, late = faults_from(
        [{"kind": "slow"}, {"kind": "sold_out"}, {"kind": "answer_late", "seconds": 1.5}]
    )
    assert (slow.seconds, sold_out.seconds, late.seconds) == (2, None, 1.5)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"kind": "slow"}, "list"),
        ("slow", "list"),
        (["slow"], "'slow'"),
        ([{}], "None is unknown"),
        ([{"kind": "sold_ot"}], "sold_out"),
        ([{"kind": ["slow"]}], "unknown"),
        ([{"kind": "slow", "time": 1}], "unknown time; known are kind, credential"),
        ([{"kind": "slow", "credential": 7}], "credential"),
        ([{"kind": "slow", "times": 0}], "times"),
        ([{"kind": "slow", "times": True}], "times"),
        ([{"kind": "slow", "times": "1"}], "times"),
        ([{"kind": "slow", "seconds": 0}], "seconds"),
        ([{"kind": "slow", "seconds": float("nan")}], "seconds"),
        ([{"kind": "slow", "seconds": "5"}], "seconds"),
        ([{"kind": "sold_out", "seconds": 5}], "sold_out takes no seconds"),
        ([{"kind": "slow", "path": "instances"}], "/api/v1"),
        ([{"kind": "sold_out", "path": "/instances"}], "launches only"),
    ],
)
def test_a_wrong_script_is_told_what_is_wrong_and_what_is_known(script, said):
    with pytest.raises(ValueError, match="fault") as caught:
        faults_from(script)
    assert said in str(caught.value)


def test_every_kind_is_taken_and_none_is_of_both_sorts():
    kinds = [*LAUNCH_FAULTS, *CALL_FAULTS]
    assert [fault.kind for fault in faults_from([{"kind": kind} for kind in kinds])] == kinds
    assert len(set(kinds)) == len(kinds)


def test_a_refused_launch_leaves_the_other_faults_for_the_one_that_buys(cloud):
    cloud.faults = faults_from(
        [
            {"kind": "answer_lost", "times": 1},
            {"kind": "lies_gpu", "times": 1},
            {"kind": "sold_out", "times": 1},
            {"kind": "quota", "times": 1},
        ]
    )
    for said in ("Quota", "capacity"):
        with pytest.raises(ApiError, match=said):
            cloud.launch(KEY, a_launch())
    assert set(cloud.launch(KEY, a_launch()).faults) == {"answer_lost", "lies_gpu"}
    assert cloud.launch(KEY, a_launch()).faults == {}


@pytest.fixture
def api(cloud):
    api = Api(cloud)
    yield api
    api.close()


def test_a_slow_answer_is_the_right_one_later(cloud, api):
    cloud.faults = faults_from([{"kind": "slow", "path": "/regions", "times": 1, "seconds": 7}])
    assert [api.call("GET", "/regions").status_code for _ in range(2)] == [200, 200]
    assert api.slept == [7]


def test_a_late_answer_to_a_launch_comes_after_the_machine(cloud, api):
    cloud.faults = faults_from([{"kind": "answer_late"}])
    (instance_id,) = api.call("POST", LAUNCH_PATH, a_launch()).json()["data"]["instance_ids"]
    assert (api.slept, cloud.living()) == ([5], [instance_id])


@pytest.mark.parametrize("kind", sorted(set(CALL_FAULTS) - {"slow", "doubled"}))
def test_a_launch_that_any_calls_fault_hits_buys_nothing(cloud, api, kind):
    cloud.faults = faults_from([{"kind": kind, "times": 1}])
    answer = api.call("POST", LAUNCH_PATH, a_launch())
    assert (answer.status_code, "instance_ids" in answer.text) == (
        {"unauthorized": 401, "inactive": 403, "rate_limited": 429, "error_500": 500}.get(kind, 200),
        False,
    )
    assert cloud.bill() == []


def test_a_spoilt_answer_to_a_launch_hides_a_machine(cloud, api):
    cloud.faults = faults_from([{"kind": "answer_500", "times": 1}])
    assert api.call("POST", LAUNCH_PATH, a_launch()).status_code == 500
    assert len(cloud.living()) == 1


def test_a_lost_answer_to_a_launch_hides_a_machine(cloud, api):
    cloud.faults = faults_from([{"kind": "answer_lost", "times": 1}])
    with pytest.raises(ConnectionResetError, match="answer_lost"):
        api.call("POST", LAUNCH_PATH, a_launch())
    assert len(cloud.living()) == 1
    assert json.loads(api.call("GET", "/instances").text)["data"][0]["id"] == cloud.living()[0]


def test_a_launch_that_counts_twice_tells_one_id_and_bills_two(cloud, api):
    cloud.faults = faults_from([{"kind": "twice", "times": 1}])
    (instance_id,) = api.call("POST", LAUNCH_PATH, a_launch()).json()["data"]["instance_ids"]
    assert instance_id in cloud.living()
    assert len({row["instance_id"] for row in cloud.bill()}) == 2
    assert len({row["name"] for row in cloud.bill()}) == 1


def test_a_doubled_list_names_every_instance_twice(cloud, api):
    api.call("POST", LAUNCH_PATH, a_launch())
    cloud.faults = faults_from([{"kind": "doubled", "path": "/instances"}])
    rows = api.call("GET", "/instances").json()["data"]
    assert [row["id"] for row in rows] == cloud.living() * 2
