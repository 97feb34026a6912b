import json
import os
import time
from datetime import timedelta

import pytest
from factories import NOON

from broker.core.errors import BrokerError
from broker.core.leases import LeaseState
from broker.db import leases
from broker.services.nodes import Intents, parse_intent

SHAPES = {f"h100-{number}": "h100" for number in range(1, 5)}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "intents"
    folder.mkdir()
    return folder


@pytest.fixture
def intents(folder, engine, clock):
    return Intents(folder, engine, SHAPES, timedelta(minutes=25), clock)


def leave(folder, verb, nodes, at=0.0, resume=None):
    """An intent of `at` seconds after noon, as the shim leaves it."""
    name = f"{int(at * 1e9):020d}-1-{verb}.json"
    body = {"version": 1, "verb": verb, "nodes": nodes, "at": NOON.timestamp() + at, "resume": resume}
    (folder / name).write_text(json.dumps(body))


def ledger(engine):
    with engine.begin() as db:
        return leases.all_leases(db)


def move(engine, *states):
    with engine.begin() as db:
        lease = leases.living(db)[-1]
        for state in states:
            lease = leases.move(db, lease, state, "test", lease.state_since, label=f"broker-x-{lease.id}-e1")


def test_each_woken_node_gets_one_wish_with_the_job_that_woke_it(folder, intents, engine):
    resume = {"jobs": [{"job_id": 7, "nodes": "h100-[1-2]"}], "all_nodes": "h100-[1-2]"}
    leave(folder, "resume", "h100-[1-2]", resume=resume)
    assert intents.take() == 1
    assert [(x.node, x.job_id, x.deadline) for x in ledger(engine)] == [
        ("h100-1", 7, NOON + timedelta(minutes=25)),
        ("h100-2", 7, NOON + timedelta(minutes=25)),
    ]
    assert list(folder.glob("*.json")) == []


def test_the_keys_of_later_slurm_releases_are_understood(folder, intents, engine):
    resume = {
        "jobs": [{"job_id": 8, "nodes_resume": "h100-1", "nodes_alloc": "h100-[1-3]"}],
        "all_nodes_resume": "h100-1",
    }
    leave(folder, "resume", "h100-1", resume=resume)
    intents.take()
    assert [x.job_id for x in ledger(engine)] == [8]


def test_a_call_without_its_json_still_wakes_the_node(folder, intents, engine):
    leave(folder, "resume", "h100-1")
    intents.take()
    assert [(x.node, x.job_id) for x in ledger(engine)] == [("h100-1", None)]


def test_two_calls_for_one_node_make_one_wish(folder, intents, engine):
    leave(folder, "resume", "h100-1")
    leave(folder, "resume", "h100-1", at=1)
    assert intents.take() == 2
    assert len(ledger(engine)) == 1


def test_a_crash_before_the_file_is_removed_repeats_nothing(folder, intents, engine):
    leave(folder, "resume", "h100-1")
    text = next(folder.glob("*.json")).read_text()
    intents.take()
    with engine.begin() as db:
        leases.move(db, leases.all_leases(db)[0], LeaseState.RELEASED, "nothing to buy", NOON)
    (folder / f"{0:020d}-1-resume.json").write_text(text)
    intents.take()
    assert len(ledger(engine)) == 1


def test_a_node_let_go_before_anything_was_bought_ends_at_once(folder, intents, engine):
    leave(folder, "resume", "h100-1")
    leave(folder, "suspend", "h100-1", at=5)
    intents.take()
    assert [x.state for x in ledger(engine)] == ["released"]


def test_calls_that_waited_for_a_dead_daemon_are_carried_out_in_their_order(folder, intents, engine, clock):
    leave(folder, "resume", "h100-1", at=0)
    leave(folder, "suspend", "h100-1", at=10)
    leave(folder, "resume", "h100-1", at=20)
    clock.pass_seconds(600)
    assert intents.take() == 3
    assert [x.state for x in ledger(engine)] == ["released", "requested"]


def test_an_old_call_to_let_go_does_not_hit_a_later_wish(folder, intents, engine):
    leave(folder, "resume", "h100-1", at=20)
    intents.take()
    leave(folder, "suspend", "h100-1", at=10)
    intents.take()
    assert [x.state for x in ledger(engine)] == ["requested"]


def test_a_working_node_is_drained_and_a_booting_one_given_back(folder, intents, engine):
    leave(folder, "resume", "h100-1")
    intents.take()
    move(engine, LeaseState.LAUNCHING, LeaseState.BOOTSTRAPPING, LeaseState.READY)
    leave(folder, "suspend", "h100-1", at=5)
    intents.take()
    assert [x.state for x in ledger(engine)] == ["draining"]


def test_while_the_old_machine_drains_its_name_waits_and_other_names_do_not(folder, intents, engine):
    test_a_working_node_is_drained_and_a_booting_one_given_back(folder, intents, engine)
    leave(folder, "resume", "h100-1", at=9)
    leave(folder, "resume", "h100-2", at=10)
    assert intents.take() == 1
    assert [(x.node, x.state) for x in ledger(engine)] == [("h100-1", "draining"), ("h100-2", "requested")]
    move_first(engine, LeaseState.RELEASING)
    assert intents.take() == 1
    assert ("h100-1", "requested") in [(x.node, x.state) for x in ledger(engine)]


def move_first(engine, state):
    with engine.begin() as db:
        leases.move(db, leases.all_leases(db)[0], state, "test", NOON)


def test_a_node_slurm_wakes_although_it_works_lost_its_power_down(folder, intents, engine, clock):
    leave(folder, "resume", "h100-1")
    intents.take()
    move(engine, LeaseState.LAUNCHING, LeaseState.BOOTSTRAPPING, LeaseState.READY)
    leave(folder, "resume", "h100-1", at=60)
    intents.take()
    assert [x.state for x in ledger(engine)] == ["draining"]
    assert len(list(folder.glob("*.json"))) == 1


def test_letting_go_of_what_was_never_bought_is_no_error(folder, intents, engine):
    leave(folder, "suspend", "h100-[1-4],other-1")
    assert intents.take() == 1
    assert ledger(engine) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"version": 1, "verb": "dance", "nodes": "a", "at": 1}',
        '{"version": 1, "verb": "resume", "nodes": "a", "at": NaN}',
        '{"version": 1, "verb": "resume", "nodes": "a", "at": 1e300}',
    ],
)
def test_a_file_that_is_no_intent_is_set_aside_and_the_next_one_done(folder, intents, engine, text):
    (folder / "0-1-resume.json").write_text(text)
    leave(folder, "resume", "h100-1", at=1)
    assert intents.take() == 1
    assert [path.name for path in (folder / "bad").iterdir()] == ["0-1-resume.json"]
    assert len(ledger(engine)) == 1


def test_a_file_the_shim_still_writes_is_left_alone(folder, intents, engine):
    (folder / ".tmp-1-1-resume.json").write_text('{"version": 1, "ver')
    assert intents.take() == 0
    assert [path.name for path in folder.iterdir()] == [".tmp-1-1-resume.json"]


def test_an_intent_names_its_nodes_one_by_one():
    body = {"version": 1, "verb": "suspend", "nodes": "h100-[1-2],h100-4", "at": 1, "resume": None}
    assert parse_intent("x.json", json.dumps(body)).nodes == ("h100-1", "h100-2", "h100-4")


def test_calls_that_cannot_be_read_are_told_until_somebody_has_looked(folder, intents):
    (folder / "1-1-resume.json").write_text('{"version": 1, "verb": "res')
    (folder / "2-1-resume.json").write_text("")
    half = folder / ".tmp-3-1-resume.json"
    half.write_text("{")
    os.utime(half, (time.time() - 300,) * 2)
    fresh = folder / ".tmp-4-1-resume.json"
    fresh.write_text("{")
    leave(folder, "resume", "h100-1", at=5)
    assert intents.take() == 1
    with pytest.raises(BrokerError, match="3 of Slurm's calls could not be read"):
        intents.trouble()
    assert fresh.exists()
    for path in (folder / "bad").iterdir():
        path.unlink()
    intents.trouble()


def test_nodes_whose_call_nobody_has_read_yet_are_told(folder, intents):
    leave(folder, "resume", "h100-[1-2]")
    leave(folder, "suspend", "h100-3")
    assert intents.wished() == {"h100-1", "h100-2"}
    intents.take()
    assert intents.wished() == set()
