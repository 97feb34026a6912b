"""A database that does not serve us: at start a ConfigError, later a LedgerUnavailable, and no word of a password."""

import logging
import subprocess
import sys
import traceback

import pytest
from factories import NOON, a_lease
from postgres import a_server

from broker.config.settings import Secret
from broker.core.errors import BrokerError, ConfigError, LedgerUnavailable, Refused
from broker.db import leases
from broker.db.engine import connect, open_ledger, reading
from broker.db.owner import own

PASSWORD = "hunter2-correct-horse"


@pytest.fixture(scope="module")
def mortal():
    """A server that a test may stop."""
    yield from a_server()


def test_a_server_that_is_away_at_start_is_named_with_the_mend(tmp_path):
    with pytest.raises(ConfigError, match=r"\[site\] database.*nowhere.*start it"):
        open_ledger(f"postgresql+psycopg://broker@/broker?host={tmp_path / 'nowhere'}", Secret(PASSWORD))


def test_a_missing_driver_is_named_with_the_mend(tmp_path):
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from broker.db.engine import connect\n"
        "from broker.core.errors import BrokerError, ConfigError\n"
        "try: connect('postgresql+psycopg:///broker')\n"
        "except ConfigError as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "psycopg is not installed" in done.stdout and "broker[postgres]" in done.stdout


def test_a_database_that_is_not_there_is_named(postgres):
    with pytest.raises(ConfigError, match="nosuch"):
        open_ledger(postgres.url("nosuch"))


def test_a_role_that_may_make_no_tables_is_told_the_mend(postgres):
    postgres.sql("CREATE DATABASE strange")
    postgres.sql("CREATE ROLE stranger LOGIN")
    with pytest.raises(ConfigError, match=r"permission denied.*owner of the database strange"):
        open_ledger(postgres.url("strange").replace("broker@", "stranger@"))


def test_a_ledger_of_a_newer_release_is_left_alone(engine):
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="9999 of a newer release"):
        open_ledger(engine.url.render_as_string(hide_password=False))


def test_a_server_that_goes_away_stops_every_use_with_our_words_and_is_used_again_when_it_is_back(mortal):
    engine = open_ledger(mortal.new_ledger())
    with engine.begin() as db:
        leases.add(db, a_lease(), "asked", NOON)
    mortal.stop()
    try:
        for _ in range(3):  # the pooled connection that died, and then no new one
            with pytest.raises(LedgerUnavailable, match="PostgreSQL"), engine.begin() as db:
                leases.add(db, a_lease(node="h100-2"), "asked", NOON)
            with pytest.raises(LedgerUnavailable), reading(engine) as db:
                leases.living(db)
    finally:
        mortal.start()
    with reading(engine) as db:
        assert [lease.node for lease in leases.living(db)] == ["h100-1"]
    engine.dispose()


def test_a_connection_cut_in_mid_transaction_writes_nothing(mortal):
    engine = open_ledger(mortal.new_ledger())
    with pytest.raises(LedgerUnavailable), engine.begin() as db:
        leases.add(db, a_lease(), "asked", NOON)
        mortal.cut()
        leases.add(db, a_lease(node="h100-2"), "asked", NOON)
    with reading(engine) as db:
        assert leases.living(db) == []
    engine.dispose()


def test_a_locked_sqlite_ledger_is_unavailable_and_the_holder_is_to_be_ended(tmp_path):
    engine = open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    with engine.begin(), engine.connect() as second:
        second.connection.dbapi_connection.execute("PRAGMA busy_timeout=1")
        with pytest.raises(LedgerUnavailable, match="another program holds it"), second.begin():
            pass
    engine.dispose()


def test_a_ledger_that_is_moved_away_and_back_has_lost_nothing(tmp_path):
    path, away = tmp_path / "broker.db", tmp_path / "away.db"
    engine = open_ledger(f"sqlite:///{path}")
    with engine.begin() as db:
        leases.add(db, a_lease(id="only-in-journal"), "asked", NOON)
    in_use = engine.connect()  # as a worker of the daemon: the next one needs a connection of its own
    path.rename(away)

    # Each of these would have made a new, empty file, and that would have thrown the old one's journal away.
    others = (connect(f"sqlite:///{path}"), connect(f"sqlite:///{path}", create=True))
    for use in (engine.connect, *(other.connect for other in others)):
        with pytest.raises(BrokerError, match=r"is gone|no ledger"):
            use()
    assert not path.exists()

    away.rename(path)
    with reading(engine) as db:
        assert leases.get(db, "only-in-journal").id == "only-in-journal"
    in_use.close()
    engine.dispose()


def test_a_start_beside_the_journal_of_a_missing_ledger_is_refused(tmp_path):
    journal = tmp_path / "broker.db-wal"
    journal.write_bytes(b"rows")

    with pytest.raises(ConfigError, match=r"its journal .* is still there.*put the file back"):
        open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    assert journal.read_bytes() == b"rows"


def test_a_damaged_sqlite_ledger_is_named(tmp_path):
    (tmp_path / "broker.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigError, match="broker ledger restore"):
        open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")


def test_a_password_is_in_no_error_log_or_repr(postgres, caplog):
    caplog.set_level(logging.DEBUG)
    url = "postgresql+psycopg://broker@127.0.0.1:1/broker"
    engine = connect(url, Secret(PASSWORD))
    with pytest.raises(LedgerUnavailable) as caught, engine.connect():
        pass
    told = "".join(traceback.format_exception(caught.value))

    assert "Connection refused" in told
    assert PASSWORD not in told + caplog.text + repr(engine) + str(engine.url) + repr(engine.pool)
    assert PASSWORD not in engine.url.render_as_string(hide_password=False)


def test_a_password_is_sent(postgres):
    postgres.sql(f"CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    (postgres.folder / "data" / "pg_hba.conf").write_text("local all guarded scram-sha-256\nlocal all all trust\n")
    postgres.sql("SELECT pg_reload_conf()")
    url = postgres.new_ledger().replace("broker@", "guarded@")

    open_ledger(url, Secret(PASSWORD)).dispose()
    with pytest.raises(ConfigError, match="password authentication failed") as caught:
        open_ledger(url, Secret("wrong-one"))
    assert "wrong-one" not in str(caught.value)


def test_a_ledger_has_one_daemon(engine):
    first = own(engine)
    with pytest.raises(Refused, match="another broker"):
        own(engine, patience_s=0)
    first.keep()
    first.release()
    own(engine).release()


def test_a_ledger_is_owned_again_when_its_server_is_back(mortal):
    engine = open_ledger(mortal.new_ledger())
    owner = own(engine)
    mortal.stop()
    try:
        with pytest.raises(LedgerUnavailable):
            owner.keep()
    finally:
        mortal.start()
    owner.keep()
    with pytest.raises(Refused):
        own(engine, patience_s=0)
    owner.release()
    engine.dispose()
