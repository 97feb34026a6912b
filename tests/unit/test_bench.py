"""`make bench` takes 25 minutes and is run by hand: here each of its rows without nodes is run once, so that it still can be."""

import gc
import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_each_row_and_each_baseline_runs(part, tmp_path):
    rows = [*part("programs").rows(tmp_path, 1), *part("decisions").rows(tmp_path, 1, plans=(100,))]
    rows += part("market").rows(tmp_path, 1, plans=(100,), read=50)
    found = part("measure").measure(rows, seed=1)
    assert {result.what for result in found} == {row.what for row in rows}
    for result in found:
        assert result.facts()["n"] >= 1 and result.facts()["ratio"] > 0, result.what


# The daemon keeps its connections to the end of its process, which is ours here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_refusals_are_walked_through_and_timed(part):
    (result,) = part("refused").results(3)
    gc.collect()
    assert len(result.samples) == 3 and all(seconds > 0 for seconds in result.samples)


def test_waiters_stand_and_are_let_go(part, tmp_path):
    figures = {figure.what: figure.value for figure in part("waiters").figures(tmp_path, 5)}
    assert figures["5 jobs that wait: processes of their waiters"] == 10


def test_the_planner_and_gpuhunt_find_the_same_offers(part):
    pytest.importorskip("gpuhunt", reason="gpuhunt is not installed: pip install gpuhunt==0.1.34")
    market = part("market")
    known = market.offers(500)
    trusted, limits = market._TRUSTED, market.Limits(max_price_per_gpu_hour=market.Decimal(10))
    made = market.plan(market.Request(shape=market.SHAPE, wishes=market.Wishes()), known, limits, trusted)
    ours = {offer.zone for offer in made.offers} | {
        rejection.offer.zone for rejection in made.rejections if rejection.reason == "sold out"
    }
    assert ours == {item.location for item in market.gpuhunt_query(known)()}


def test_a_years_history_is_made_folded_and_asked(part, tmp_path):
    figures = {figure.what: figure.value for figure in part("year").figures(tmp_path, days=70, machines=3)}
    assert figures["a year of four providers: rows of history"] > 100
    assert all(value >= 0 for value in figures.values())


def test_decay_foretells_better_than_what_it_is_held_against(part):
    availability = part("availability")
    blocks, skus = availability.read()
    for past_only in (False, True):
        found = availability.losses(blocks, skus, past_only=past_only)
        for (name, horizon, only_listed), losses in found.items():
            ours = found["ours (decay)", horizon, only_listed]
            assert name == "ours (decay)" or sum(ours) / len(ours) < sum(losses) / len(losses), (name, horizon)


def test_replays_and_replanning_are_timed(part):
    figures = part("replays").figures(times=1, waiting=20, offered=50)
    assert len(figures) == 6 and all(figure.value > 0 for figure in figures)


def test_a_report_of_many_rows_is_timed_beside_the_bare_read(part, tmp_path, monkeypatch):
    sacct = part("sacct")
    monkeypatch.setattr(sacct, "_slurm2sql", lambda folder: None)
    figures = {figure.what: figure.value for figure in sacct.figures(tmp_path, rows=2000, times=1)}
    assert len(figures) == 8 and all(value > 0 for value in figures.values())
