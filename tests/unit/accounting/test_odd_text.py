"""Lines that are odd: read where there is one way to read them, named with number and reason where not."""

import gzip
from zoneinfo import ZoneInfo

import pytest
from unit.accounting.conftest import RIG, totals

from broker.accounting import source
from broker.accounting.bad import reasons
from broker.accounting.columns import UnreadableExport
from broker.accounting.export import read
from broker.accounting.tres import counts, mix

HEADER = "JobIDRaw|State|Submit|Start|End|ElapsedRaw|User|AllocTRES|JobName\n"


def row(job, name="n", state="COMPLETED", user="alice", tres="gres/gpu=1"):
    return f"{job}|{state}|100|200|260|60|{user}|{tres}|{name}\n"


def ids(found):
    return sorted(found.runs["raw_id"].to_list(), key=int)


def named(found):
    return [(line.number, line.reason) for line in found.bad]


def test_a_name_with_bars_and_a_name_that_is_not_utf8_are_names(export):
    path = export(
        (HEADER + row(1, "a|b c=d|")).encode() + row(2, "X").encode().replace(b"X", b"\xff\xfe") + row(3).encode()
    )

    assert ids(read(path)) == ["1", "2", "3"] and read(path).bad == ()


def test_the_tail_of_a_name_with_a_line_break_is_counted_as_a_bad_line(export):
    found = read(export(HEADER + row(1, "two\nlines") + row(2)))

    assert ids(found) == ["1", "2"] and named(found) == [(3, "not 9 fields")]


def test_a_comment_with_line_breaks_and_bars_in_the_middle_is_one_row(export):
    header = "JobIDRaw|Comment|State|ElapsedRaw|AllocTRES\n"
    path = export(header + "1|a|b\n\nc|COMPLETED|60|gres/gpu=2\n2||FAILED|30|gres/gpu=1\n")

    found = read(path)
    assert found.bad == () and totals(path).total.gpu.ran == 150


def test_what_can_be_read_in_two_ways_is_not_guessed(export):
    # The extra bar is in one of two free columns, and the user's name would be one thing or the other.
    path = export(
        "JobIDRaw|State|ElapsedRaw|JobName|User|Comment|QOS\n1|COMPLETED|60|a|b|c|d|e\n2|COMPLETED|60|a|b|c|d\n"
    )

    assert ids(read(path)) == ["2"] and named(read(path)) == [(2, "not 7 fields")]


def test_every_line_that_cannot_be_right_is_named_with_its_reason(export):
    lines = [
        row(1),
        row("x"),
        row(2, state=""),
        row(3).replace("|60|", "|soon|"),
        row(4).replace("|260|", "|150|"),
        row(5).replace("|100|", "|yesterday|"),
        row(6).replace("|60|", "|4294967294|"),
        "garbage\n",
        row(7),
    ]
    found = read(export(HEADER + "".join(lines)))

    assert ids(found) == ["1", "7"] and (found.rows, len(found.bad)) == (9, 7)
    assert named(found) == [
        (3, "no job id"),
        (4, "no state"),
        (5, "Elapsed is no time"),
        (6, "End lies before Start"),
        (7, "Submit is no time"),
        (8, "Elapsed is no time"),
        (9, "not 9 fields"),
    ]
    assert reasons(found.bad)[0] == ("Elapsed is no time", 2)


def test_an_unknown_state_is_kept_and_a_step_is_told_apart(export):
    found = totals(
        export(HEADER + row(1, state="FOO") + row("1.batch") + row("1.extern") + row(2, state="CANCELLED by 7"))
    )

    assert found.states == {"CANCELLED": 1, "FOO": 1} and found.total.gpu.ran == 120


@pytest.mark.parametrize("words", ["None", "Unknown", ""])
def test_words_for_no_time_are_no_time(export, words):
    path = export(HEADER + row(1, state="PENDING").replace("|200|260|60|", f"|{words}|{words}|0|") + row(2))

    found = read(path)
    assert found.bad == () and totals(path).unfinished.jobs == 1


@pytest.mark.parametrize(
    "change", ["crlf", "gzip", "trailing bar", "no newline", "blank lines", "header twice", "bom", "quoted"]
)
def test_the_same_export_in_another_dress_is_the_same(export, change):
    plain = HEADER.replace("|JobName", "") + "".join(row(n).removesuffix("|n\n") + "\n" for n in range(1, 6))
    dressed = {
        "crlf": plain.replace("\n", "\r\n").encode(),
        "gzip": gzip.compress(plain.encode()),
        "trailing bar": plain.replace("\n", "|\n").encode(),
        "no newline": plain.rstrip("\n").encode(),
        "blank lines": plain.replace("\n", "\n\n").encode(),
        "header twice": (plain + plain.splitlines()[0] + "\n").encode(),
        "bom": b"\xef\xbb\xbf" + plain.encode(),
        "quoted": "".join(
            ",".join(f'"{cell}"' for cell in line.split("|")) + "\n" for line in plain.splitlines()
        ).encode(),
    }[change]

    found = read(export(dressed))
    assert found.bad == () and ids(found) == ["1", "2", "3", "4", "5"]


def test_an_export_without_a_header_needs_its_columns(export):
    body = HEADER.replace("\n", "").lower().split("|")
    path = export(row(1) + row(2))

    assert ids(read(path, columns=body)) == ["1", "2"]
    with pytest.raises(UnreadableExport, match=r"has no column JobIDRaw|is no header"):
        read(path)
    with pytest.raises(UnreadableExport, match="line 1 has 9 fields, and --columns names 3"):
        read(path, columns=["jobid", "state", "elapsed"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("hello\n", "is no header"),
        ("JobID|State\n1|COMPLETED\n", "has no column ElapsedRaw"),
        ("{]", "begins as JSON and is none"),
        ('{"errors": []}', 'has no list "jobs"'),
        ("\x00\x01\x02", "is no header"),
    ],
)
def test_what_is_no_export_is_refused_with_the_mend(export, text, says):
    with pytest.raises(UnreadableExport, match=says):
        read(export(text))


def test_a_job_of_a_document_that_is_none_is_named(export):
    found = read(export('{"jobs": [{"job_id": 1}, 7, null]}', "a.json"))

    assert named(found) == [
        (1, "no job as sacct --json writes it"),
        (2, "no job as sacct --json writes it"),
        (3, "no job as sacct --json writes it"),
    ]


def test_blocks_may_end_anywhere(monkeypatch):
    whole = read(RIG)
    for size in (200, 333, 1000):
        monkeypatch.setattr(source.blocks, "__defaults__", (size,))
        again = read(RIG)
        assert again.bad == () and again.runs.sort("line").equals(whole.runs.sort("line")), size


def test_a_wall_clock_is_read_in_its_zone(export):
    path = export(HEADER + row(1).replace("|200|260|", "|2026-07-01T12:00:00|2026-07-01T12:01:00|"))

    (utc,), (berlin,) = read(path).runs["started"], read(path, zone=ZoneInfo("Europe/Berlin")).runs["started"]
    assert utc - berlin == 7200


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("billing=1,cpu=1,gres/gpu:a100=1,gres/gpu:h100=2,gres/gpu=3,mem=1G", {"a100": 1, "h100": 2}),
        ("gres/gpu=2", {"untyped": 2}),
        ("gres/gpu:v100=4", {"v100": 4}),
        ("gres/gpu=8,gres/gpu:a100=3", {"a100": 3, "untyped": 5}),
        ("cpu=1,gres/gpumem=80G,gres/gpuutil=90,mem=1G", {}),
        ("gres/gpu:a100=0,gres/gpu=0", {}),
        ("gres/gpu:nvidia_a100_3g.20gb=2,gres/gpu=2", {"nvidia_a100_3g.20gb": 2}),
    ],
)
def test_gpus_are_the_larger_one_of_the_total_and_its_parts(text, means):
    assert dict(counts(mix(text))) == means
