"""--json: stdout is one JSON document with a schema_version, and nothing else is said."""

import pytest
from factories import an_offer
from unit.api.memory import a_view

from broker.core.leases import LeaseState
from broker.services.views import Why

LEASE = "l0000000001"


@pytest.fixture
def busy(daemon):
    daemon.add(a_view(id=LEASE, state=LeaseState.READY))
    daemon.offered = [an_offer(), an_offer(available=False)]
    daemon.stories["4711"] = Why(
        target="4711", headline="It \x1b[31mruns\x85.", story=(), awaited=None, owner="alice", leases=()
    )
    daemon.logs[LEASE, "boot"] = "one\ntwo\n"
    return daemon


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (("status",), "living_leases"),
        (("offers",), "offers"),
        (("why", "4711"), "headline"),
        (("lease", "list"), "leases"),
        (("lease", "show", LEASE), "lease"),
        (("lease", "log", LEASE), "text"),
        (("lease", "release", LEASE, "--reason", "done"), "lease"),
        (("pause", "--reason", "weekend"), "paused"),
        (("resume",), "paused"),
        (("provider", "list"), "providers"),
        (("provider", "show", "lambda-a"), "provider"),
        (("provider", "test", "lambda-a"), "works"),
        (("provider", "pause", "lambda-a", "--reason", "the bill"), "providers"),
        (("provider", "resume", "lambda-a"), "providers"),
    ],
)
def test_every_command_that_prints_facts_prints_them_as_json(busy, broker_process, args, key):
    ended = broker_process(*args, "--json")

    assert ended.code == 0
    assert ended.json["schema_version"] == 1
    assert key in ended.json
    assert ended.err == ""


def test_json_holds_no_byte_that_steers_a_terminal(busy, broker_process):
    ended = broker_process("why", "4711", "--json")

    assert "\x1b" not in ended.out
    assert "\x85" not in ended.out
    assert ended.json["headline"] == "It \x1b[31mruns\x85."


def test_json_lists_sold_out_offers_too(busy, broker):
    assert [offer["available"] for offer in broker("offers", "--json").json["offers"]] == [True, False]


def test_a_long_list_is_read_to_its_end(daemon, broker):
    daemon.add(*(a_view(id=f"l{number:010x}") for number in range(1100)))

    assert len(broker("lease", "list", "--json").json["leases"]) == 1100


def test_nothing_is_an_empty_list(daemon, broker):
    assert broker("lease", "list", "--json").json == {"schema_version": 1, "leases": []}
