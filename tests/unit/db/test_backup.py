import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from billing_world import Machine, a_billing, a_metering, a_term
from factories import NOON, Clock, a_lease, a_run, an_offer
from sqlalchemy import MetaData, inspect

from broker.billing.invoices import period_of
from broker.core.blocks import Cause, Failure
from broker.core.errors import BrokerError
from broker.core.leases import LeaseState
from broker.core.observations import Look, Observation, Source
from broker.core.usage import UsageEvent, UsageKind
from broker.db import (
    blocks,
    jobs,
    leases,
    looks,
    observations,
    offers,
    purchasing,
    residue,
    sacct_runs,
    steps,
    stripe,
    usage,
)
from broker.db.backup import HISTORY, dump, load, read
from broker.db.engine import connect, current_revision, known_revisions, migrate, open_ledger, reading
from broker.db.folding import Retention, fold
from broker.db.schema import metadata
from broker.services.usage_outbox import UsageOutbox


def filled(engine):
    """A row in every table."""
    lease = a_lease(state=LeaseState.READY)
    with engine.begin() as db:
        leases.add(db, lease, "asked", NOON)
        leases.amend(db, lease, "it has an address", NOON, address="192.0.2.1")
        steps.record(db, lease.id, "overlay", {"public_key": "k", "ü": "ß"}, 1.5, NOON)
        usage.record(
            db,
            UsageEvent(
                lease_id=lease.id,
                kind=UsageKind.START,
                not_before=NOON,
                not_after=NOON,
                price_per_hour=lease.price_per_hour,
                currency="USD",
            ),
        )
        jobs.attend(db, 7, lease.id, "alice", NOON)
        offers.replace_all(db, "lambda-a", [an_offer(), an_offer(zone="us-west-1", available=False)])
        for days in (0, 9):
            told = {"available": True, "at": NOON - timedelta(days=days), "source": Source.LISTING}
            observations.append(db, [Observation(offer=an_offer(zone=f"zone-{days}"), **told)])
        fold(db, NOON, Retention())
        observations.append_look(
            db,
            Look(
                provider="lambda-a", at=NOON, polls=1, rows=2, changes=2, believed=True, note=None, left_out={"odd": 1}
            ),
        )
        blocks.fail(db, Failure(cause=Cause.QUOTA, provider="lambda-b", subject="H100", reason="full"), NOON)
        looks.record(db, looks.Look(provider="lambda-a", at=NOON, error=None, seconds=0.25))
        residue.found(db, residue.Left(provider="vast-a", kind="disk", thing="d-1", label=lease.label, said="s"), NOON)
        purchasing.set_paused(db, "maintenance", "root")
        for run in (a_run(), a_run(suspended=20)):  # what sacct said, and its correction
            sacct_runs.add(db, [run], "november.psv", NOON)
    bill(engine)
    return lease


def bill(engine):
    """A closed month with a credit note, and Stripe's side of it."""
    month = datetime(2026, 10, 1, tzinfo=UTC)
    clock = Clock(NOON)
    metering = a_metering(engine, told=UsageOutbox(cluster="test").tell)
    billing = a_billing(engine, clock, metering=metering)
    billing.set_term(a_term("price", "2.99", month, accelerator="H100"), "root")
    machine = Machine(engine, month, node="h100-9").ready(month)
    machine.job(9, month, month + timedelta(hours=4)).given_back(month + timedelta(hours=5))
    billing.close(period_of("2026-10"), None, "root")
    billing.credit("2026-10-lab", Decimal("1.00"), "broken", "root")
    with engine.begin() as db:
        stripe.intend(db, "customer", "lab", "key-1", 1, NOON)
        stripe.made(db, "customer", "lab", "cus_1", NOON)
        stripe.say(db, stripe.Said(stripe_id="in_1", kind="invoice", status="open", detail={}, said_at=NOON), NOON)
        stripe.take_event(db, "evt_1", "invoice.paid", NOON, NOON, to_fetch=False)


def rows(engine):
    with reading(engine) as db:
        return {
            table.name: sorted(str(dict(row)) for row in db.execute(table.select()).mappings())
            for table in metadata.sorted_tables
            if table.name not in HISTORY
        }


def backup_of(engine):
    out = io.BytesIO()
    dump(engine, "test", NOON, out)
    return out.getvalue()


def restored(engine, content):
    with engine.begin() as db:
        load(db, read("backup", content))


@pytest.fixture
def other(request, tmp_path):
    """An empty database of the other kind."""
    server = request.getfixturevalue("postgres")
    made = []

    def make(engine):
        kind = engine.dialect.name
        url = server.new_ledger() if kind == "sqlite" else f"sqlite:///{tmp_path / 'other.db'}"
        made.append(connect(url, create=True))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def test_a_ledger_comes_back_row_by_row_and_goes_on(engine):
    lease = filled(engine)
    before = rows(engine)
    assert all(before.values())
    content = backup_of(engine)
    with engine.begin() as db:
        leases.move(db, leases.get(db, lease.id), LeaseState.DRAINING, "later", NOON)
        leases.add(db, a_lease(node="h100-2"), "later", NOON)
    restored(engine, content)
    assert rows(engine) == before
    with engine.begin() as db:  # numbers of the history are not given out twice
        leases.move(db, leases.get(db, lease.id), LeaseState.DRAINING, "let go", NOON)
        assert [event.reason for event in leases.events(db, lease.id)] == ["asked", "it has an address", "let go"]


def test_the_offers_history_is_left_out_and_begins_anew(engine):
    filled(engine)
    content = backup_of(engine)
    assert not any(name in content.decode() for name in HISTORY)
    restored(engine, content)
    with engine.begin() as db:
        assert observations.history(db, NOON - timedelta(days=30)) == []
        observations.append(db, [Observation(offer=an_offer(), available=True, at=NOON, source=Source.LISTING)])
        assert len(observations.history(db, NOON)) == 1


def test_a_backup_of_one_database_restores_into_the_other(engine, other):
    filled(engine)
    target = other(engine)
    restored(target, backup_of(engine))
    assert rows(target) == rows(engine)


def test_a_backup_of_an_older_release_is_brought_up_to_date(tmp_path, engine):
    old = connect(f"sqlite:///{tmp_path / 'old.db'}", create=True)
    migrate(old, known_revisions()[0])
    with old.begin() as db:
        table = MetaData()
        table.reflect(db, only=["leases"])
        lease = a_lease(state=LeaseState.READY)
        known = {column.name for column in table.tables["leases"].columns}
        values = {name: getattr(lease, name) for name in known}
        values |= {name: value.replace(tzinfo=None) for name, value in values.items() if hasattr(value, "tzinfo")}
        db.execute(table.tables["leases"].insert(), values | {"price_per_hour": str(lease.price_per_hour)})
    restored(engine, backup_of(old))
    old.dispose()
    with reading(engine) as db:
        assert leases.get(db, lease.id) == lease
        assert current_revision(db) == known_revisions()[-1]


def test_a_restore_that_fails_leaves_the_ledger_as_it_was(engine):
    filled(engine)
    before = rows(engine)
    content = backup_of(engine)
    with pytest.raises(RuntimeError), engine.begin() as db:
        load(db, read("backup", content))
        raise RuntimeError("the disk is full")
    assert rows(engine) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"maintenance", b"maintenanc3"),
        lambda content: b"\n".join([*content.splitlines()[:2], *content.splitlines()[3:]]) + b"\n",
        lambda content: content + b'{"table":"leases","row":{}}\n',
    ],
    ids=["cut short", "changed", "a row lost", "a row added"],
)
def test_a_damaged_backup_is_refused(tmp_path, change):
    engine = open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    filled(engine)
    content = backup_of(engine)
    engine.dispose()
    with pytest.raises(BrokerError, match=r"damaged|no backup"):
        read("ledger.jsonl", change(content))


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"[]\n[]\n", b'{"format":"x"}\n', b"\xff\xfe\n1\n"])
def test_what_is_no_backup_is_called_so(content):
    with pytest.raises(BrokerError, match=r"ledger\.jsonl"):
        read("ledger.jsonl", content)


def test_a_backup_of_a_newer_release_names_it(tmp_path):
    engine = open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    content = backup_of(engine)
    engine.dispose()
    assert json.loads(content.splitlines()[0])["schema"] == "9999"
    with pytest.raises(BrokerError, match="9999 of a newer release"):
        read("ledger.jsonl", content)


def test_a_backup_is_of_one_moment(engine, monkeypatch):
    lease = filled(engine)
    out = io.BytesIO()

    class Overtaken(io.BytesIO):
        """While the dump is written, the ledger moves on."""

        def write(self, line):
            if b'"leases"' in line and not out.getvalue():
                out.write(b"x")
                with engine.begin() as db:
                    leases.move(db, leases.get(db, lease.id), LeaseState.DRAINING, "meanwhile", NOON)
            return super().write(line)

    target = Overtaken()
    dump(engine, "test", NOON, target)
    saved = read("backup", target.getvalue())
    told = [row["reason"] for table, row in saved.rows if table == "lease_events"]
    assert out.getvalue() and "meanwhile" not in told


def test_there_is_nothing_to_back_up_before_the_first_start(tmp_path):
    engine = connect(f"sqlite:///{tmp_path / 'none.db'}", create=True)
    with pytest.raises(BrokerError, match="no ledger yet"):
        backup_of(engine)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
