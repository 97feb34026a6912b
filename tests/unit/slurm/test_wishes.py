"""A job's wishes: the Python reader and the Lua one, which refuses at submit, say the same."""

import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.demand import Checkpointing, DataNeed, Mode, Wishes
from broker.core.errors import BrokerError
from broker.slurm.wishes import parse_wishes, read_wishes

HERE = Path(__file__).parent
MODULE = HERE.parents[2] / "slurm_plugins" / "broker.lua"
CASES = tomllib.loads((HERE / "wishes_cases.toml").read_text())["case"]

# Reads comments in hex, a line each; answers `refused` TAB text, or `wishes` and TAB key=value, sorted.
_HARNESS = r"""
local broker = dofile(os.getenv("MODULE"))
for line in io.lines() do
    local comment = line:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
    local wishes, wrong = broker.parse(comment)
    local told = { wishes and "wishes" or "refused\t" .. wrong }
    for key, value in pairs(wishes or {}) do
        told[#told + 1] = key .. "=" .. value
    end
    table.sort(told, function(a, b) return b ~= "wishes" and (a == "wishes" or a < b) end)
    print(table.concat(told, "\t"))
end
"""


def in_lua(comments: list[str]) -> list[str]:
    done = subprocess.run(
        ["lua5.3", "-e", _HARNESS],
        input="".join(comment.encode().hex() + "\n" for comment in comments),
        env={"MODULE": str(MODULE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout.splitlines()


def in_python(comment: str) -> str:
    try:
        return "\t".join(["wishes", *sorted(f"{key}={value}" for key, value in read_wishes(comment).items())])
    except BrokerError as exc:
        return f"refused\t{str(exc).removeprefix('broker: ')}"


def test_every_case_of_the_table_is_read_alike_by_both():
    assert in_lua([case["comment"] for case in CASES]) == [in_python(case["comment"]) for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["comment"][:40] or "empty")
def test_a_comment_is_read_or_refused_as_the_table_says(case):
    if "refused" not in case:
        assert read_wishes(case["comment"]) == case["wishes"]
        return
    with pytest.raises(BrokerError) as refusal:
        read_wishes(case["comment"])
    text, beginning, _ = str(refusal.value).removeprefix("broker: "), *case["refused"].partition("…")[:2]
    assert text.startswith(beginning) if "…" in case["refused"] else text == case["refused"]


_WORDS = (
    "broker : = , + spot zones mode delay ckpt deadline data in:5@x yes no green 12h 30m 0 1 . 5 % kg - Z premium out "
    "2027-01-31T10:00 budget carbon-cap é a B / @ _"
)
_PIECES = st.sampled_from([*_WORDS.split(" "), " ", "\t"])
_COMMENTS = st.lists(_PIECES, max_size=12).map("".join) | st.lists(_PIECES, max_size=12).map(
    lambda p: "broker:" + "".join(p)
)


@settings(max_examples=8, deadline=None)
@given(st.lists(_COMMENTS, min_size=60, max_size=120))
def test_any_comment_is_read_alike_by_both(comments):
    comments = [comment for comment in comments if "\n" not in comment]
    assert in_lua(comments) == [in_python(comment) for comment in comments]


def test_each_wish_becomes_a_field_of_its_own_sort():
    comment = (
        "broker:zones=a+b,providers=p,spot=only,mode=green,premium=15%,delay=12h,deadline=2027-03-01T18:00+01:00,"
        "carbon-cap=2.5kg,budget=12.50,ckpt=30m:20s,data=in:120@us-east-1+imagenet,out=50,signal=marginal"
    )
    assert parse_wishes(comment) == Wishes(
        zones=frozenset({"a", "b"}),
        providers=frozenset({"p"}),
        spot="only",
        mode=Mode.GREEN,
        premium=0.15,
        delay=timedelta(hours=12),
        deadline=datetime(2027, 3, 1, 17, tzinfo=UTC),
        carbon_cap_kg=2.5,
        budget=Decimal("12.50"),
        checkpointing=Checkpointing(interval=timedelta(minutes=30), cost=timedelta(seconds=20)),
        data=(DataNeed(gb=120.0, place="us-east-1"), DataNeed(name="imagenet")),
        out_gb=50.0,
        signal="marginal",
    )


def test_a_delay_that_no_calendar_holds_is_refused_in_words():
    with pytest.raises(BrokerError, match="longer than any job can wait"):
        parse_wishes("broker:delay=999999999999d")


def test_a_comment_that_is_not_for_us_wishes_nothing():
    assert parse_wishes("ordinary") == Wishes()
