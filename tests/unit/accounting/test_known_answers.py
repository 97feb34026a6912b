"""The answers that are known of recorded exports, to the second."""

import json

import polars as pl
import pytest
from unit.accounting.conftest import CARRIED, PHILLIPS_COLUMNS, RIG, totals

from broker.accounting.bad import BadLine
from broker.accounting.export import read
from broker.accounting.history import current
from broker.accounting.totals import By

TWO_CLOCKS = {"h100": (414, 429), "a100": (271, 271)}


def by_type(total):
    return {name: (each.ran, each.held) for name, each in total.gpus.items()}


def assert_is_the_rig(found):
    assert by_type(found.total) == TWO_CLOCKS
    assert (found.total.gpu.ran, found.total.gpu.held) == (685, 700)
    assert (found.total.billing.ran, found.total.billing.held) == (13060, 13435)
    assert (found.total.cpu.ran, found.total.cpu.held) == (621, 636)
    assert (found.total.jobs, found.unfinished.jobs) == (45, 2)
    assert found.states == {
        "COMPLETED": 24, "CANCELLED": 17, "FAILED": 1, "TIMEOUT": 1, "REQUEUED": 1, "PREEMPTED": 1, "PENDING": 1, "RUNNING": 1,
    }  # fmt: skip


@pytest.mark.parametrize("by", list(By))
def test_the_rigs_export_has_its_gpu_seconds_whatever_it_is_divided_by(by):
    export = read(RIG)
    found = totals(RIG, by=by) if by is not By.PROVIDER else totals(RIG)

    assert (export.rows, export.bad) == (47, ())
    assert_is_the_rig(found)
    assert sum(group.gpu.held for group in found.groups.values()) == 700


def test_jobs_of_the_rig_that_are_worth_a_test_each():
    rows = {}
    for row in read(RIG).runs.iter_rows(named=True):
        rows.setdefault(row["job_id"], []).append(row)

    def facts(job, *names):
        return [tuple(row[name] for name in names) for row in rows[job]]

    assert facts("2", "gpus") == [("a100=2",)] and facts("5", "gpus") == [("a100=1,h100=1",)]
    assert facts("3", "gpus") == [("a100=1,h100=2",)]
    assert facts("6", "elapsed", "state") == [(3, "COMPLETED")]
    assert [facts(f"8_{task}", "raw_id") for task in range(1, 7)] == [
        [(raw,)] for raw in ("20", "21", "22", "23", "24", "8")
    ]
    assert facts("27", "limit", "elapsed") == [(None, 0)]
    assert facts("30", "elapsed", "suspended") == [(7, 15)]
    assert facts("31", "state", "elapsed") == [("REQUEUED", 10), ("COMPLETED", 25)]
    assert facts("35", "billing", "gpus") == [(None, "")]
    assert facts("38", "gpus", "cpus") == [("a100=4,h100=8", 32)]
    assert facts("39+0", "started", "is_over", "gpus") == [(None, True, None)]
    assert facts("42", "state", "is_over") == [("PREEMPTED", True), ("PENDING", False)]
    assert facts("47", "ended", "is_over") == [(None, False)]


def test_all_columns_and_json_of_the_rig_say_the_same(shared):
    for name in ("all-duplicates.psv", "sacct.json"):
        export = read(shared / "rig-22.05" / name)
        assert export.bad == (), name
        assert_is_the_rig(totals(shared / "rig-22.05" / name))
    # Three lines of its 86 are pieces of job 6; the steps are told apart, not dropped.
    assert read(shared / "rig-22.05" / "all-duplicates.psv").steps == 37


def test_without_duplicates_what_was_requeued_is_missing(shared):
    assert totals(shared / "rig-22.05" / "all-noduplicates.psv").total.gpu.ran == 643


def test_a_production_log_is_split_at_the_month_end(shared):
    path = shared / "xdmod" / "phillips.psv"
    export = read(path, columns=PHILLIPS_COLUMNS)
    found = totals(path, by=By.MONTH, columns=PHILLIPS_COLUMNS)

    assert (export.rows, export.bad) == (4285, ())
    assert found.states == {"COMPLETED": 2324, "FAILED": 1717, "CANCELLED": 243, "TIMEOUT": 1}
    assert round(found.total.gpu.ran / 3600, 2) == 506.91
    assert {month: group.gpu.ran for month, group in found.groups.items()} == {"2016-12": 1_675_774, "2017-01": 149_112}
    assert (export.runs["nodes"] == "None assigned").sum() == 239
    assert (export.runs["elapsed"] == 0).sum() == 261
    assert sum(group.jobs for group in found.groups.values()) == 4285


def test_one_line_of_another_log_trusts_what_was_allocated(shared):
    found = totals(shared / "xdmod" / "robertson-one-line.psv", columns=PHILLIPS_COLUMNS)

    assert (found.total.jobs, found.total.cpu.ran, found.names_gpus) == (1, 100 * 938, False)


@pytest.mark.parametrize("name", ["gcm-one-multiline.txt", "gcm-fake-line-break.txt"])
def test_a_row_with_a_line_break_in_its_submit_line_is_one_row(name):
    export = read(CARRIED / name)

    assert (export.bad, export.rows, export.steps) == ((), 4 - 1 + 1, 2)
    assert export.runs.height == 2


def test_a_row_that_is_cut_off_is_named():
    path = CARRIED / "gcm-invalid-line.txt"

    assert read(path).bad == (BadLine(source=str(path), number=2, reason="not 109 fields"),)


def test_midnight_and_steps_of_a_large_site(shared):
    path = shared / "gcm" / "sample-sacct-output.txt"
    export = read(path)
    with path.open(encoding="utf-8") as text:
        ids = [line.split("|")[32] for line in text.read().splitlines()[1:]]

    assert export.bad == () and export.rows == len(ids)
    assert export.steps == sum("." in identity for identity in ids)


def test_jobs_of_four_slurm_releases_are_read_and_their_gpus_are_not_taken_for_none(shared):
    for folder in sorted((shared / "slurmrestd-json").iterdir()):
        files = sorted(folder.iterdir())
        for path in files:
            (job,) = json.loads(path.read_text())["jobs"]
            (row,) = read(path).runs.iter_rows(named=True)
            assert (row["raw_id"], row["state"]) == (str(job["job_id"]), job["state"]["current"][0])
            assert row["elapsed"] == job["time"]["elapsed"] and row["suspended"] == 0
            assert row["is_over"] is (job["time"]["end"] > 0)
        found = totals(*files)
        assert len(files) == 12 and not found.names_gpus
        assert found.total.cpu.ran > 0


def test_typed_gpus_without_a_total_are_counted(shared):
    for path in sorted((shared / "sarc-json").iterdir()):
        jobs = json.loads(path.read_text())["jobs"]
        export = read(path)
        assert export.bad == () and export.rows == len(jobs), path.name
        expected = sum(
            entry["count"]
            for job in jobs
            for entry in job["tres"]["allocated"]
            if entry["type"] == "gres" and entry["name"].startswith("gpu:")
        )
        given = export.runs.select(
            pl.col("gpus").str.extract_all(r"=\d+").list.eval(pl.element().str.slice(1).cast(int)).list.sum()
        )
        untyped = export.runs["gpus"].str.contains("untyped").any()
        assert given["gpus"].sum() == expected or untyped, path.name


def test_old_lines_are_read_and_impossible_ones_named(shared):
    export = read(shared / "apel" / "apel-test-lines.psv")
    found = current(export.runs).runs

    assert export.bad == () and export.rows == 27
    assert set(found.filter(pl.col("raw_id") == "123")["state"]) >= {"COMPLETED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
    assert found.filter(pl.col("raw_id") == "5940815")["elapsed"].item() == 2 * 86400 + 5096


def test_rows_between_odd_delimiters_are_read(shared):
    columns = [
        "admincomment",
        "alloccpus",
        "elapsed",
        "jobid",
        "jobidraw",
        "maxrss",
        "nnodes",
        "ntasks",
        "reqmem",
        "state",
    ]
    for path in sorted((shared / "reportseff").iterdir()):
        first = path.read_text().splitlines()[0]
        rest = ["timelimit", "totalcpu"] if first.count("^|^") == 12 else ["totalcpu"]
        export = read(path, columns=columns + rest)
        assert export.bad == () and export.runs.height == 1, path.name
