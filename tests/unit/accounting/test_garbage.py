"""Anything may stand anywhere in an export: it is read, or the line is bad; nothing is raised but UnreadableExport."""

import copy
import json
import random
from contextlib import suppress
from zoneinfo import ZoneInfo

import pytest
from unit.accounting.conftest import CARRIED, RIG, totals

from broker.accounting.columns import UnreadableExport
from broker.accounting.export import read
from broker.accounting.leases import read_leases
from broker.accounting.slices import Window
from broker.accounting.totals import By

HEADER = "Cluster|JobIDRaw|State|Submit|Start|End|ElapsedRaw|User|AllocTRES|TimelimitRaw|JobName\n"
GOOD = "c|1|COMPLETED|1790000000|1790000100|1790000160|60|alice|cpu=4,gres/gpu:h100=2|10|n\n"
DOCUMENT = json.loads((CARRIED / "slurmrestd-0.0.44-gpus-completed.json").read_text())
_VALUES = [
    None, [], {}, "x", -1, float("inf"), float("nan"), True, 10**30, 10**18, "9" * 30, [1], [[]], 5, "\0", [None],
    {"set": True, "number": "q"}, {"set": True, "number": None}, {"set": True, "infinite": False, "number": float("inf")},
]  # fmt: skip
_TEXTS = [
    b"", b"Unknown", b"-1", b"9" * 30, b"9" * 18, b"1e400", b"\xff\xfe", b"0001-01-01T00:00:00", b"9999-12-31T23:59:59", b"None",
    b"inf", b"gres/gpu=99999999999999999999", b"cpu=9223372036854775807", b"\0", b"+", b"  ", b"1.5", b"a" * 5000,
]  # fmt: skip


def places(value, path=()):
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def spoilt(document, path, value):
    made = copy.deepcopy(document)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return made


def added_up(path):
    """As far as a report goes, in the ways that differ."""
    with suppress(UnreadableExport):
        for by, window in ((By.MONTH, Window()), (By.GPU, Window(start=1_790_000_000, end=1_800_000_000))):
            totals(path, by=by, window=window, zone=ZoneInfo("America/Chicago"))


def test_a_document_with_anything_anywhere_is_added_up_or_refused(export):
    draw = random.Random(20261125)
    whole = [path for path in places(DOCUMENT) if path and "steps" not in path]

    for path in draw.sample(whole, 60):
        added_up(export(json.dumps(spoilt(DOCUMENT, path, draw.choice(_VALUES))), "x.json"))


def test_a_text_with_anything_anywhere_is_added_up_or_refused(export):
    draw = random.Random(20261125)
    lines = RIG.read_bytes().splitlines()

    for _ in range(60):
        made = list(lines)
        at = draw.randrange(1, len(made))
        cells = made[at].split(b"|")
        cells[draw.randrange(len(cells))] = draw.choice(_TEXTS)
        made[at] = b"|".join(cells)
        added_up(export(b"\n".join(made)))


@pytest.mark.parametrize(
    ("was", "becomes", "reason"),
    [
        ("1790000100", "9" * 18, "Start is no time"),
        ("1790000160", "-5", "End is no time"),
        ("|60|", "|-60|", "Elapsed is no time"),
        ("gpu:h100=2", "gpu:h100=99999999999", "AllocTRES has a count of more than 9 digits"),
        ("cpu=4", "cpu=99999999999", "AllocTRES has a count of more than 9 digits"),
        ("alice", "a" * 121, "a user of more than 120 characters"),
        ("COMPLETED", "X" * 33, "a state of more than 32 characters"),
    ],
)
def test_what_no_job_can_have_is_bad_with_its_reason(export, was, becomes, reason):
    found = read(export(HEADER + GOOD + GOOD.replace(was, becomes)))

    assert [(line.number, line.reason) for line in found.bad] == [(3, reason)]
    assert found.runs.height == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("jobs", 0, "account"), 5),
        (("jobs", 0, "job_id"), float("inf")),
        (("jobs", 0, "state", "current"), []),
        (("jobs", 0, "state", "current"), [None]),
        (("jobs", 0, "tres", "allocated", 0, "count"), float("inf")),
    ],
)
def test_a_job_in_a_document_that_is_none_is_counted(export, path, value):
    found = read(export(json.dumps(spoilt(DOCUMENT, path, value)), "x.json"))

    assert [line.reason for line in found.bad] == ["no job as sacct --json writes it"]


def test_a_document_of_lists_in_lists_is_refused(export):
    with pytest.raises(UnreadableExport, match="begins as JSON and is none"):
        read(export('{"jobs":' + "[" * 100_000, "x.json"))


@pytest.mark.parametrize("node", [5, None, ["n"]])
def test_leases_of_nodes_without_a_name_are_refused(export, node):
    lease = {"node": node, "provider": "p", "created_at": "2026-11-01T00:00:00Z", "state": "ready"}
    with pytest.raises(UnreadableExport, match="is not what `broker lease list"):
        read_leases(export(json.dumps({"leases": [lease]}), "leases.json"))


def test_a_row_in_two_lines_of_an_export_without_free_text_is_bad(export):
    found = read(export("JobIDRaw|State|ElapsedRaw|User\n1|COMPLETED\n|5|alice\n2|COMPLETED|5|bob\n"))

    assert [(line.number, line.reason) for line in found.bad] == [(2, "not 4 fields"), (3, "not 4 fields")]
    assert found.runs["user"].to_list() == ["bob"]


def test_nul_in_a_name_is_taken_out(export):
    found = read(export(HEADER + GOOD.replace("alice", "al\0ice")))

    assert found.runs["user"].to_list() == ["al\N{REPLACEMENT CHARACTER}ice"]
