"""Any history of jobs, cut into any windows and read in any order, gives the same sums."""

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.accounting.conftest import totals

from broker.accounting.slices import Window, cuts
from broker.accounting.totals import By

NAMES = (
    "Cluster",
    "JobIDRaw",
    "DBIndex",
    "Submit",
    "Start",
    "End",
    "Suspended",
    "ElapsedRaw",
    "State",
    "User",
    "AllocTRES",
)
BEGIN = 1_790_000_000
ENDS = (
    "COMPLETED",
    "FAILED",
    "CANCELLED by 1000",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "REQUEUED",
    "OUT_OF_MEMORY",
    "NEWWORD",
)

gpus = st.dictionaries(st.sampled_from(["a100", "h100", ""]), st.integers(1, 8), max_size=3)
runs = st.builds(
    dict,
    waited=st.integers(0, 10_000),
    ran=st.integers(0, 5_000_000),
    suspended=st.integers(0, 90_000),
    state=st.sampled_from(ENDS),
    user=st.sampled_from(["alice", "bob", "zoë"]),
    gpus=gpus,
    again=st.booleans(),
)
text = st.text(st.characters(codec="utf-8", exclude_characters="\r\x1f"), max_size=12)


def given_to(run):
    """Types and counts; a total that is smaller than its parts is no more than they are."""
    typed = {name: count for name, count in run["gpus"].items() if name}
    rest = run["gpus"].get("", 0) - sum(typed.values())
    return typed | ({"untyped": rest} if rest > 0 else {})


def tres(run):
    parts = sorted(f"gres/gpu{':' + name if name else ''}={count}" for name, count in run["gpus"].items())
    return ",".join(["billing=4", "cpu=2", *parts, "mem=1000M", "node=1"])


def rows_of(number, raw, run):
    """The run as sacct told it while it waited, while it ran, and when it was over."""
    submit = BEGIN + number * 97
    start = submit + run["waited"]
    held = run["ran"] + run["suspended"]
    days, rest = divmod(run["suspended"], 86400)
    clock = f"{f'{days}-' if days else ''}{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    same = {"Cluster": "c", "JobIDRaw": raw, "DBIndex": number, "Submit": submit, "User": run["user"]}
    waiting = {
        "Start": "Unknown",
        "End": "Unknown",
        "Suspended": "00:00:00",
        "ElapsedRaw": 0,
        "State": "PENDING",
        "AllocTRES": "",
    }
    running = waiting | {"Start": start, "ElapsedRaw": run["ran"] // 2, "State": "RUNNING", "AllocTRES": tres(run)}
    over = {
        "Start": start,
        "End": start + held,
        "Suspended": clock,
        "ElapsedRaw": run["ran"],
        "State": run["state"],
        "AllocTRES": tres(run),
    }
    return [same | waiting, same | running, same | over]


def write(folder, number, rows, names, delimiter, titles):
    lines = [delimiter.join((*names, "JobName"))]
    lines += [
        delimiter.join((*(str(row[name]) for name in names), titles[at % len(titles)])) for at, row in enumerate(rows)
    ]
    path = folder / f"{number}.psv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


@settings(max_examples=60, deadline=None)
@given(data=st.data(), history=st.lists(runs, min_size=1, max_size=8))
def test_the_same_sums_from_any_windows_in_any_order(data, history):
    versions, raw = [], 0
    for number, run in enumerate(history, 1):
        raw += not run["again"]  # else it is the one before, requeued: the same job id
        versions.append(rows_of(number, raw, run))
    columns = [name for name in NAMES if name != "DBIndex" or data.draw(st.booleans(), "with DBIndex")]
    count = data.draw(st.integers(1, 4), "windows")
    windows = [[] for _ in range(count)]
    for known in versions:
        windows[data.draw(st.integers(0, count - 1))].append(known[-1])
        for row in known:
            for window in data.draw(st.lists(st.integers(0, count - 1), max_size=3)):
                windows[window].append(row)
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write(
                Path(folder),
                place,
                data.draw(st.permutations(rows)),
                data.draw(st.permutations(columns)),
                data.draw(st.sampled_from(["|", "|#", "^|^", "\t"])),
                data.draw(st.lists(text.filter(lambda title: "\n" not in title), min_size=1, max_size=3)),
            )
            for place, rows in enumerate(windows)
        ]
        found = totals(*data.draw(st.permutations(paths)))
        months = totals(*paths, by=By.MONTH)
        edge = data.draw(st.integers(BEGIN, BEGIN + 6_000_000), "where it is cut in two")
        halves = [totals(*paths, window=Window(end=edge)), totals(*paths, window=Window(start=edge))]

    ran, held = Counter(), Counter()
    for run in history:
        for name, number in given_to(run).items():
            ran[name] += number * run["ran"]
            held[name] += number * (run["ran"] + run["suspended"])
    assert {name: each.ran for name, each in found.total.gpus.items()} == dict(ran)
    assert {name: each.held for name, each in found.total.gpus.items()} == dict(held)
    assert (found.total.jobs, found.unfinished.jobs) == (len(history), 0)
    assert found.total.cpu.ran == sum(2 * run["ran"] for run in history)
    for parts in (list(months.groups.values()), [half.total for half in halves]):
        assert sum(part.gpu.ran for part in parts) == found.total.gpu.ran
        assert sum(part.gpu.held for part in parts) == found.total.gpu.held
        assert sum(part.jobs for part in parts) == len(history)


@given(
    start=st.integers(0, 2_000_000_000),
    ran=st.integers(0, 10_000_000),
    suspended=st.integers(0, 10_000_000),
    edges=st.lists(st.integers(0, 2_020_000_000), max_size=5),
)
def test_slices_touch_and_add_up_to_the_second(start, ran, suspended, edges):
    slices = list(cuts(start, ran, ran + suspended, edges))

    assert sum(part[1] for part in slices) == ran and sum(part[2] for part in slices) == ran + suspended
    assert sum(part[3] for part in slices) == 1
    assert all(0 <= part[1] <= part[2] for part in slices)
    assert [part[0] + part[2] for part in slices[:-1]] == [part[0] for part in slices[1:]]


def test_months_end_by_the_calendar_of_utc(export):
    start = int(datetime(2026, 10, 31, 23, 0, tzinfo=UTC).timestamp())
    path = export(
        "JobIDRaw|State|Submit|Start|End|ElapsedRaw|AllocTRES\n"
        f"1|COMPLETED|{start}|{start}|{start + 31 * 86400 + 7200}|{31 * 86400 + 7200}|gres/gpu=2\n"
    )
    found = totals(path, by=By.MONTH)

    assert {name: (group.jobs, group.gpu.held) for name, group in found.groups.items()} == {
        "2026-10": (0, 2 * 3600),
        "2026-11": (0, 2 * 30 * 86400),
        "2026-12": (1, 2 * (86400 + 3600)),
    }
