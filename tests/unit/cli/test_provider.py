"""`broker provider`: what it says, what it asks before it spends money, how it ends."""

from dataclasses import replace

import pytest
from unit.api.memory import a_view

from broker.core.leases import LeaseEvent, LeaseState

LEASE = "l0000000009"


@pytest.fixture
def bought(daemon):
    """The lease of a test purchase that has ended."""

    def end(verdict):
        view = a_view(id=LEASE, state=LeaseState.RELEASED, reason=verdict)
        event = LeaseEvent(
            lease_id=LEASE,
            was=LeaseState.RELEASING,
            became=LeaseState.RELEASING,
            reason=verdict,
            at=view.lease.created_at,
        )
        daemon.add(replace(view, events=(*view.events, event)))

    return end


def test_a_list_says_what_is_wrong_with_whom_and_how_to_mend_it(daemon, broker):
    ended = broker("provider", "list")
    assert ended.code == 0
    assert "suspended" in ended.out
    assert "the provider refuses the credential (invalid-api-key" in ended.out
    assert "broker provider resume lambda-a" in ended.out
    assert "\x1b" not in ended.out


def test_show_names_blocks_history_limits_boots_and_what_was_left_behind(daemon, broker):
    said = " ".join(broker("provider", "show", "lambda-a").out.split())
    for part in (
        "credential (refused): the provider refuses the credential (invalid-api-key)",
        "a purchase every 12 s",
        "gpu_1x_a10: half within 3 min, 95 % within 6 min (9 boots)",
        "instance i-1 (broker-demo-l0-e1): no living lease; NOT GONE YET",
        "3 s behind the provider's",
        "refused opened:",
    ):
        assert part in said


def test_a_look_that_fails_ends_with_unreachable(daemon, broker):
    daemon.credentials.call_fails = "HTTP 500"
    ended = broker("provider", "test", "lambda-a")
    assert ended.code == 5
    assert "FAILED: HTTP 500" in ended.out


@pytest.mark.parametrize(
    "args",
    [
        ("--buy",),
        ("--max-price", "3"),
        ("--buy", "--max-price", "0"),
        ("--buy", "--max-price", "nan"),
        ("--buy", "--max-price", "three"),
    ],
)
def test_without_a_sound_price_cap_nothing_is_bought(daemon, broker, args):
    assert broker("provider", "test", "lambda-a", *args).code == 2
    assert daemon.actors == []


def test_a_price_cap_below_the_cheapest_offer_is_a_refusal(daemon, broker):
    ended = broker("provider", "test", "lambda-a", "--buy", "--max-price", "1", "--yes")
    assert ended.code == 3
    assert daemon.actors == []


def test_it_asks_before_it_buys_and_a_no_buys_nothing(daemon, broker):
    ended = broker("provider", "test", "lambda-a", "--buy", "--max-price", "5", input="n\n")
    assert ended.code == 130
    assert "gpu_1x_h100_sxm5 in us-east-1 at 4.29 USD/h" in ended.err
    assert daemon.actors == []


@pytest.mark.parametrize(("verdict", "code"), [("accepted: it is what was sold", 0), ("not accepted: no GPU", 1)])
def test_the_verdict_decides_how_it_ends_once_the_machine_is_given_back(daemon, broker, bought, verdict, code):
    bought(verdict)
    ended = broker("provider", "test", "lambda-a", "--buy", "--max-price", "5", "--yes", "--json")
    assert ended.code == code
    assert ended.json["accepted"] is (code == 0)
    assert ended.json["lease"]["state"] == "released"
    assert len(daemon.actors) == 1


def test_a_credential_that_nobody_configured_is_not_found(daemon, broker):
    assert broker("provider", "show", "lambda-z").code == 4


def test_pause_and_resume_say_who_and_what_comes_next(daemon, broker):
    assert "the bill is checked" in broker("provider", "pause", "lambda-a", "--reason", "the bill is checked").out
    assert "lambda-a is ok" in broker("provider", "resume", "lambda-a").out
