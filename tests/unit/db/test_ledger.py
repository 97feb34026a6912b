import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from factories import NOON, a_lease
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from broker.core.blocks import Cause
from broker.core.errors import IllegalMove, LedgerUnavailable, NotFound, StaleLease
from broker.core.leases import MOVES, LeaseState
from broker.db import blocks, leases, purchasing, steps
from broker.db.engine import connect, migrate, reading
from broker.db.schema import metadata


def test_the_migrations_make_the_schema(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(engine):
    with engine.begin() as db:
        purchasing.set_paused(db, "maintenance", "root")
    migrate(engine)
    with reading(engine) as db:
        assert purchasing.paused(db) == "maintenance"


def test_a_lease_reads_back_as_it_was_written(engine):
    lease = a_lease(state=LeaseState.LAUNCHING)
    with engine.begin() as db:
        leases.add(db, lease, "asked", NOON)
    with reading(engine) as db:
        assert leases.get(db, lease.id) == lease


def test_a_move_leaves_an_event_and_a_new_version(engine):
    lease = a_lease()
    with engine.begin() as db:
        leases.add(db, lease, "asked", NOON)
        leases.move(db, lease, LeaseState.RELEASED, "not wanted", NOON)
    with reading(engine) as db:
        assert leases.get(db, lease.id).version == 2
        assert [(e.was, e.became, e.reason) for e in leases.events(db, lease.id)] == [
            (None, "requested", "asked"),
            ("requested", "released", "not wanted"),
        ]


def test_of_two_workers_with_the_same_lease_the_second_is_told(engine):
    lease = a_lease()
    with engine.begin() as db:
        leases.add(db, lease, "asked", NOON)
        leases.amend(db, lease, None, NOON, reason="first")
    with engine.begin() as db, pytest.raises(StaleLease):
        leases.move(db, lease, LeaseState.RELEASED, "second", NOON)
    with reading(engine) as db:
        assert leases.get(db, lease.id).state is LeaseState.REQUESTED


def test_no_move_outside_the_table_is_made(engine):
    for state in LeaseState:
        for to in set(LeaseState) - MOVES[state]:
            with engine.begin() as db, pytest.raises(IllegalMove):
                leases.move(db, a_lease(state=state), to, "no", NOON)


def test_a_node_name_has_one_unfenced_lease(engine):
    with engine.begin() as db:
        leases.add(db, a_lease(state=LeaseState.RELEASING), "fenced", NOON)
        leases.add(db, a_lease(), "next", NOON)
    with pytest.raises(IntegrityError), engine.begin() as db:
        leases.add(db, a_lease(), "one too many", NOON)


def test_no_lease_is_launched_without_a_label(engine):
    lease = replace(a_lease(state=LeaseState.LAUNCHING), label=None)
    with pytest.raises(IntegrityError), engine.begin() as db:
        leases.add(db, lease, "asked", NOON)


def test_an_unknown_lease_is_named(engine):
    with reading(engine) as db, pytest.raises(NotFound, match="l0000000000"):
        leases.get(db, "l0000000000")


of_one_file = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


@of_one_file
def test_a_locked_ledger_is_named_and_used_again_when_it_is_free(engine, tmp_path):
    @event.listens_for(engine, "connect")
    def impatient(connection, record):
        connection.execute("PRAGMA busy_timeout=0")

    engine.dispose()
    other = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable, match=r"database is locked.*nothing is bought"), engine.begin():
        pass
    other.close()
    with engine.begin() as db:
        purchasing.set_paused(db, "over", "root")


@of_one_file
def test_a_ledger_whose_disk_is_full_is_named(engine):
    with pytest.raises(LedgerUnavailable, match="full"), engine.begin() as db:
        db.exec_driver_sql("PRAGMA max_page_count=1")
        for number in range(200):
            leases.add(db, a_lease(node=f"h100-{number}"), "x" * 4000, NOON)


@of_one_file
@pytest.mark.parametrize("deed", ["gone", "another file"])
def test_a_ledger_that_was_moved_away_is_not_written_to(engine, tmp_path, deed):
    path = tmp_path / "broker.db"
    path.rename(tmp_path / "away.db")
    if deed == "another file":
        path.touch()
    with pytest.raises(LedgerUnavailable, match=deed), engine.begin():
        pass
    (tmp_path / "away.db").rename(path)
    with engine.begin() as db:
        purchasing.set_paused(db, "back", "root")


def test_of_the_old_suspensions_a_refused_credential_is_kept(tmp_path):
    engine = connect(f"sqlite:///{tmp_path / 'old.db'}", create=True)
    migrate(engine, "0003")
    until = NOON + timedelta(minutes=10)
    with engine.begin() as db:
        for provider, reason in (("lambda-a", "credential refused: HTTP 401"), ("lambda-b", "quota is full: 5 of 5")):
            db.execute(
                text("INSERT INTO credentials (provider, suspended_until, reason) VALUES (:p, :u, :r)"),
                {"p": provider, "u": until.replace(tzinfo=None), "r": reason},
            )
    migrate(engine)
    with reading(engine) as db:
        (block,) = blocks.current(db)
    assert (block.provider, block.cause, block.until) == ("lambda-a", Cause.REFUSED, until)
    assert block.is_open(until + timedelta(days=1))
    engine.dispose()


def test_when_a_machine_was_first_reached_is_the_end_of_its_first_step(engine):
    reached, never = a_lease(), a_lease(node="h100-8", request_id="r-8")
    with engine.begin() as db:
        for lease in (reached, never):
            leases.add(db, lease, "bought", NOON)
        steps.record(db, reached.id, "facts", {}, 1.0, NOON + timedelta(minutes=5))
        steps.record(db, reached.id, "host_key", {}, 1.0, NOON + timedelta(minutes=2))
    with reading(engine) as db:
        assert steps.first(db, [reached.id, never.id]) == {reached.id: NOON + timedelta(minutes=2)}
