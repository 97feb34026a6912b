"""`broker usage import`: exports into the ledger, beside the daemon."""

import pytest
from unit.accounting.conftest import RIG
from unit.config.conftest import Site
from unit.db.test_sacct_runs import FIRST, HEADER, LATER, last_words

from broker import usage_import
from broker.db.engine import open_ledger

ROWS = HEADER + "".join(FIRST.replace("c|1|11|", f"|{n}|{n}|") for n in range(1, 8))


@pytest.fixture
def config(tmp_path):
    (tmp_path / "state").mkdir()
    site = Site(tmp_path).change('cluster = "demo"', f'cluster = "demo"\nstate_dir = "{tmp_path / "state"}"')
    site.path.write_text(site.text)
    return site.path


@pytest.fixture
def engine(tmp_path, config):
    engine = open_ledger(f"sqlite:///{tmp_path / 'state' / 'broker.db'}")
    yield engine
    engine.dispose()


def test_a_recorded_export_is_in_the_ledger_once(broker, engine, config):
    first = broker("usage", "import", RIG, "--config", config, "--json").json
    again = broker("usage", "import", RIG, RIG, "--config", config, "--json").json

    assert (first["rows_read"], first["new"], first["not_over"], first["rows_bad"]) == (47, 45, 2, 0)
    assert (again["rows_read"], again["new"], again["known"], again["corrected"]) == (94, 0, 45, 0)
    words = last_words(engine)
    assert len(words) == 45 and sum(word[3] for word in words) == 15


def test_an_import_that_died_half_way_is_done_again(broker, engine, config, monkeypatch):
    monkeypatch.setattr(usage_import, "_AT_ONCE", 2)
    real, calls = usage_import.sacct_runs.add, []

    def dies(db, some, *rest):
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(db, some, *rest)

    monkeypatch.setattr(usage_import.sacct_runs, "add", dies)
    broker("usage", "import", "-", "--config", config, input=ROWS)
    assert len(last_words(engine)) == 4
    assert broker("usage", "import", "-", "--config", config, "--json", input=ROWS).json["new"] == 3


def test_people_are_told_of_bad_lines_and_corrections(broker, engine, config):
    broker("usage", "import", "-", "--config", config, input=HEADER + FIRST)
    ended = broker("usage", "import", "-", "--config", config, input=HEADER + LATER + "garbage\n")

    assert ended.code == 0 and "0 runs are new, 1 corrected" in " ".join(ended.out.split())
    assert "-, line 3: not 11 fields" in ended.out


def test_garbage_writes_nothing(broker, engine, config):
    ended = broker("usage", "import", "-", "--config", config, input=HEADER + "x\ny\n")

    assert ended.code == 1 and last_words(engine) == []


def test_a_ledger_that_no_daemon_has_made_is_left_alone(broker, config):
    ended = broker("usage", "import", RIG, "--config", config)

    assert ended.code == 1 and "start the daemon once" in ended.err
