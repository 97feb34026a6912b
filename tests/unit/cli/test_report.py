"""`broker report` as finance and programs call it."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from broker.cli.offline.report_page import page

HEADER = "Cluster|JobIDRaw|DBIndex|Submit|Start|End|ElapsedRaw|Suspended|State|User|Account|NodeList|AllocTRES\n"
HOSTILE = "<script>alert(1)</script>\"'&"


def row(job, user="alice", gpus="gres/gpu:h100=2", nodes="h100-1", start=1_790_000_000, ran=3600, suspended="00:00:00"):
    return (
        f"c|{job}|{job}|{start}|{start}|{start + 9000}|{ran}|{suspended}|COMPLETED|{user}|chem|{nodes}|{gpus},cpu=1\n"
    )


@pytest.fixture
def export(tmp_path):
    def write(*rows, name="a.psv"):
        path = tmp_path / name
        path.write_text(HEADER + "".join(rows))
        return path

    return write


def test_the_document_has_the_promised_keys(broker, export):
    path = export(row(1), row(2, "bob", "gres/gpu:a100=1", suspended="00:30:00"), "broken\n")
    ended = broker("report", "--sacct", path, "--json", "--rate", "h100=2.5", "--rate", "*=1", "--carbon", 400)

    said = ended.json
    assert ended.code == 0 and said["schema_version"] == 1
    assert (said["jobs"], said["rows_read"], said["rows_bad"]) == (2, 3, 1)
    assert (said["gpu_seconds_ran"], said["gpu_seconds_held"], said["cpu_seconds"]) == (3 * 3600, 3 * 3600 + 1800, 7200)
    assert [(group["user"], group["gpu_seconds_held"], group["cost"]) for group in said["by"]] == [
        ("alice", 7200, "5.000000"),
        ("bob", 5400, "1.500000"),
    ]
    assert (said["cost"], said["currency"], said["charged"]) == ("6.500000", "USD", "held")
    assert said["kg"] == pytest.approx(said["kwh"] * 0.4, abs=1e-6) and said["kwh"] > 1
    assert said["bad_lines"] == [{"file": str(path), "line": 4, "reason": "not 13 fields"}]


def test_the_other_clock_may_be_charged(broker, export):
    path = export(row(1, suspended="01:00:00"))

    assert broker("report", "--sacct", path, "--json", "--rate", "h100=1", "--charge", "ran").json["cost"] == "2.000000"


def test_several_files_and_a_window_count_each_second_once(broker, export):
    files = ["--sacct", export(row(1), row(2)), "--sacct", export(row(2), row(3), name="b.psv")]
    whole = broker("report", *files, "--json").json
    halves = [broker("report", *files, "--json", side, "2026-09-21T15:00:00+02:00").json for side in ("--from", "--to")]

    assert (whole["jobs"], whole["rows_repeated"], whole["gpu_seconds_held"]) == (3, 1, 3 * 7200)
    assert sum(half["gpu_seconds_held"] for half in halves) == 3 * 7200


def test_standard_input_and_each_format(broker, export):
    text = export(row(1, "=cmd|' /C calc'!A0".replace("|", "_"))).read_text()

    rows = list(csv.reader(io.StringIO(broker("report", "--sacct", "-", "--format", "csv", input=text).out)))
    assert rows[0][:3] == ["user", "jobs", "gpu_seconds_ran"] and rows[1][0].startswith("'=cmd")
    assert "GPU-h HELD" in broker("report", "--sacct", "-", input=text).out
    assert broker("report", "--sacct", "-", "--format", "html", input=text).out.startswith("<!doctype html>")


class _Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("by", ["user", "account", "gpu", "partition"])
def test_the_page_is_one_file_and_escapes_every_name(broker, export, by):
    path = export(row(1, HOSTILE, f"gres/gpu:{HOSTILE.replace('=', '')}=2".replace(",", "")), row(2))
    ended = broker("report", "--sacct", path, "--by", by, "--format", "html", "--rate", "*=2")

    seen = _Seen()
    seen.feed(ended.out)
    assert "script" not in seen.tags and seen.tags.count("svg") == 3
    assert not [name for name, value in seen.attributes if name.startswith("on") or "alert" in (value or "")]
    assert not re.search(r"(src|href)=|url\(|@import", ended.out) and "default-src 'none'" in ended.out
    if by == "user":
        assert HOSTILE in "".join(seen.text)


def test_a_hostile_note_is_escaped_too(broker, export):
    found = json.loads(broker("report", "--sacct", export(row(1)), "--json").out)
    found["notes"] = [HOSTILE]

    assert HOSTILE not in page(found) and "&lt;script&gt;" in page(found)


def test_gpus_that_are_not_accounted_are_not_none(broker, export):
    ended = broker("report", "--sacct", export(row(1, gpus="node=1")), "--json")

    assert ended.json["gpu_seconds_held"] is None and ended.json["gpus_accounted"] is False
    assert "AccountingStorageTRES=gres/gpu" in ended.json["notes"][0]


def test_providers_come_from_the_leases_that_were_behind_the_nodes(broker, export, tmp_path):
    leases = tmp_path / "leases.json"
    same = {"node": "h100-1", "state_since": "2026-09-21T16:00:00Z"}
    leases.write_text(json.dumps({"leases": [
        same | {"provider": "lambda-a", "state": "released", "created_at": "2026-09-21T10:00:00Z"},
        same | {"provider": "vast-a", "state": "ready", "created_at": "2026-09-21T16:00:01Z"},
        same | {"provider": None, "state": "requested", "created_at": "2026-09-21T09:00:00Z"},
    ]}))  # fmt: skip
    noon = 1_790_000_000  # 2026-09-21, 14:13:20
    path = export(
        row(1, start=noon),
        row(2, start=noon + 86400),
        row(3, nodes="rack[1-4]"),
        row(4, nodes="h100-[1-2]", start=noon),
    )
    by = {
        group["provider"]: group["jobs"]
        for group in broker("report", "--sacct", path, "--by", "provider", "--leases", leases, "--json").json["by"]
    }
    without = broker("report", "--sacct", path, "--by", "provider")

    assert by == {"lambda-a": 2, "vast-a": 1, "(none)": 1}
    assert without.code == 0 and "add --leases FILE" in without.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "sacct -a -D -X -P"),
        (("--sacct", "nothing.psv"), 1, "nothing.psv: No such file"),
        (("--sacct", "-", "--rate", "h100"), 2, "is no rate"),
        (("--sacct", "-", "--rate", "h100=NaN"), 2, "is no rate"),
        (("--sacct", "-", "--from", "May"), 2, "is no date"),
        (("--sacct", "-", "--from", "2026-02-01", "--to", "2026-01-01"), 2, "--from must be before --to"),
        (("--sacct", "-", "--zone", "US-CAISO"), 2, "near it: US-CAL-CISO"),
        (("--sacct", "-", "--zone", "DE", "--carbon", "1"), 2, "one of them"),
        (("--sacct", "-", "--time-zone", "Mars"), 2, "there is no time zone"),
        (("--sacct", "-"), 1, "is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_with_the_mend(broker, arguments, code, says):
    ended = broker("report", *arguments, input="")

    assert (ended.code, says in ended.err) == (code, True), ended.err


def test_an_export_of_which_nothing_can_be_read_ends_with_1_and_says_so(broker, export):
    ended = broker("report", "--sacct", export("a|b\n", "c\n"))

    assert (
        ended.code == 1 and "None of its rows could be read" in ended.out and "2 bad lines: not 13 fields" in ended.out
    )


def test_an_empty_state_says_what_to_do(broker, export):
    ended = broker("report", "--sacct", export())

    assert ended.code == 0 and "ask with -a -S and -E" in " ".join(ended.out.split())
