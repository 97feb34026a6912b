"""Exports of sacct in the ledger, on both databases."""

from itertools import permutations

import pytest
from factories import NOON
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from broker.accounting.export import joined, read
from broker.accounting.history import current
from broker.core.errors import StaleLease
from broker.db import sacct_runs
from broker.db.engine import reading
from broker.db.sacct_runs import Added
from broker.db.schema import sacct_runs as table

HEADER = "Cluster|JobIDRaw|DBIndex|Submit|Start|End|ElapsedRaw|Suspended|State|User|AllocTRES\n"
FIRST = "c|1|11|100|200|260|60|00:00:00|COMPLETED|alice|gres/gpu=1\n"
LATER = "c|1|11|100|200|280|60|00:00:20|COMPLETED|alice|gres/gpu=1\n"
LAST = "c|1|11|100|200|280|60|00:00:20|FAILED|alice|gres/gpu=1\n"
OTHER = "c|1|12|300|400|410|10|00:00:00|COMPLETED|alice|gres/gpu=1\n"


@pytest.fixture
def add(engine, tmp_path):
    def write(*rows, header=HEADER):
        path = tmp_path / "export.psv"
        path.write_text(header + "".join(rows))
        runs = list(current(joined([read(path)]).runs).runs.iter_rows(named=True))
        with engine.begin() as db:
            return sacct_runs.add(db, runs, "export.psv", NOON)

    return write


def last_words(engine):
    with reading(engine) as db:
        return sorted((row.key, row.state, row.elapsed_s, row.suspended_s) for row in sacct_runs.last_words(db))


def entries(engine):
    with reading(engine) as db:
        return db.execute(select(func.count()).select_from(table)).scalar()


def test_the_same_export_again_adds_nothing(engine, add):
    assert add(FIRST, OTHER) == Added(new=2)
    assert add(FIRST, OTHER) == Added(known=2)

    assert last_words(engine) == [("db:11", "COMPLETED", 60, 0), ("db:12", "COMPLETED", 10, 0)]


def test_a_correction_is_an_entry_of_its_own_and_nothing_is_overwritten(engine, add):
    add(FIRST)

    assert add(LATER) == Added(corrected=1)
    with reading(engine) as db:
        first, second = db.execute(select(table).order_by(table.c.id)).all()
    assert (first.suspended_s, second.suspended_s, second.supersedes) == (0, 20, first.id)
    assert (second.started_at.timestamp(), second.imported_at) == (200, NOON)
    assert add(FIRST) == Added(known=1) and add(LATER) == Added(known=1)


@pytest.mark.parametrize("order", permutations([FIRST, LATER, LAST]))
def test_the_last_word_is_the_same_in_any_order(engine, add, order):
    for row in order:
        add(row, OTHER)

    assert last_words(engine) == [("db:11", "FAILED", 60, 20), ("db:12", "COMPLETED", 10, 0)]
    assert entries(engine) <= 4


def test_a_run_that_exports_name_in_different_ways_is_one(engine, add):
    add(FIRST, OTHER)
    without = HEADER.replace("|DBIndex", "")
    with_sluid = HEADER.replace("|JobIDRaw", "|SLUID|JobIDRaw")

    assert add(FIRST.replace("|11|", "|"), header=without) == Added(known=1)
    assert add(LATER.replace("c|1|", "c|s7|1|"), header=with_sluid) == Added(corrected=1)
    assert last_words(engine) == [("db:11", "COMPLETED", 60, 20), ("db:12", "COMPLETED", 10, 0)]


def test_two_runs_of_one_second_with_names_of_their_own_stay_two(engine, add):
    twin = OTHER.replace("|12|300|", "|13|100|")

    assert add(FIRST, twin) == Added(new=2)
    assert add(FIRST, twin) == Added(known=2)


def test_an_import_that_was_overtaken_writes_nothing(engine, add, monkeypatch):
    add(FIRST)
    # What it read is older than what stands: the other import's entry came between.
    monkeypatch.setattr(sacct_runs, "_known", lambda db, runs: [[] for _ in runs])

    with pytest.raises(StaleLease):
        add(LATER, OTHER)
    assert entries(engine) == 1


@pytest.mark.parametrize("twice", ["first", "correction"])
def test_the_database_lets_no_chain_fork(engine, add, twice):
    add(FIRST)
    add(LATER)
    with reading(engine) as db:
        first, second = db.execute(select(table).order_by(table.c.id)).mappings()
    entry = dict(first if twice == "first" else second) | {"digest": "another"}
    del entry["id"]

    with pytest.raises(IntegrityError), engine.begin() as db:
        db.execute(table.insert().values(entry))
