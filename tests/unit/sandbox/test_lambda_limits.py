"""The emulated Lambda's limits: a call a second, a launch in twelve, each account for itself."""

import pytest
from contract.lambda_emulator import KEY, PUBLIC_KEY, Seconds, a_cloud, a_launch
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.emulators.faults import faults_from
from broker.sandbox.emulators.lambda_errors import ApiError, TooManyRequests


@pytest.fixture
def limited(cloud):
    cloud.limits = "published"
    return cloud


def let_in(cloud, key=KEY):
    try:
        cloud.enter(key)
    except TooManyRequests:
        return False
    return True


def launched(cloud, **changes):
    try:
        cloud.launch(KEY, a_launch(**changes))
    except TooManyRequests:
        return False
    except ApiError:
        return None
    return True


def test_one_call_a_second_is_never_refused(limited, seconds):
    for _ in range(100):
        assert let_in(limited)
        seconds.pass_(1)


def test_more_than_a_call_a_second_is_refused(limited, seconds):
    assert [let_in(limited) for _ in range(4)] == [True, True, False, False]
    seconds.pass_(1)
    assert [let_in(limited) for _ in range(2)] == [True, False]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_whatever_the_pauses_no_more_than_a_call_a_second_and_one_over_comes_through(pauses):
    seconds = Seconds()
    cloud = a_cloud(seconds, limits="published")
    began, through = seconds.now, 0
    for pause in pauses:
        seconds.pass_(pause)
        through += let_in(cloud)
        assert through <= seconds.now - began + 2.5


def test_accounts_do_not_use_up_each_others_calls(limited):
    assert [let_in(limited, key) for key in (KEY, KEY, KEY, "key-b", "key-b")] == [True, True, False, True, True]


def test_a_wrong_key_uses_up_nothing(limited):
    for _ in range(5):
        with pytest.raises(ApiError, match="API key"):
            limited.enter("nobody's")
    assert let_in(limited)


def test_a_launch_in_twelve_seconds(limited, seconds):
    through = [launched(limited)]
    for pause in (1, 10, 1):
        seconds.pass_(pause)
        through.append(launched(limited))
    assert through == [True, False, False, True]
    assert len(limited.bill()) == 2


def test_a_refused_launch_uses_up_its_turn(limited, seconds):
    limited.faults = faults_from([{"kind": "sold_out", "times": 1}])
    assert launched(limited) is None
    assert launched(limited) is False
    seconds.pass_(12)
    assert launched(limited) is True


def test_a_launch_too_many_uses_up_no_fault(limited, seconds):
    assert launched(limited)
    limited.faults = faults_from([{"kind": "sold_out", "times": 1}])
    assert launched(limited) is False
    seconds.pass_(12)
    assert launched(limited) is None


def test_without_limits_everything_comes_through(cloud):
    assert all(let_in(cloud) for _ in range(50))
    assert all(launched(cloud) for _ in range(5))
    assert cloud.keys(KEY)[0]["public_key"] == PUBLIC_KEY
