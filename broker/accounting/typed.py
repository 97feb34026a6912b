"""Text becomes times, seconds and counts; a row in which one of them cannot be is bad."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

import polars as pl

from broker.accounting.bad import BadLine
from broker.accounting.text import LINE
from broker.accounting.tres import BILLING, CPUS, GPUS, allocated

SCHEMA: dict[str, type[pl.DataType]] = {
    "cluster": pl.String,
    "sluid": pl.String,
    "db_index": pl.Int64,
    "raw_id": pl.String,
    "job_id": pl.String,
    "submitted": pl.Int64,
    "started": pl.Int64,
    "ended": pl.Int64,
    "elapsed": pl.Int64,
    "suspended": pl.Int64,
    "limit": pl.Int64,
    "state": pl.String,
    "is_over": pl.Boolean,
    "user": pl.String,
    "account": pl.String,
    "partition": pl.String,
    "qos": pl.String,
    GPUS: pl.String,
    CPUS: pl.Int64,
    BILLING: pl.Int64,
    "nodes": pl.String,
}
"""A run: one allocation of one job. Times in seconds of Unix time, lengths in seconds; null: Slurm does not say.

`limit` in seconds. `gpus` as `tres.mix` writes it. `is_over`: its figures are final.
"""

STEP = "a step"

_ALIVE = frozenset({
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SIGNALING",
    "STAGE_OUT", "STOPPED", "RESV_DEL_HOLD", "POWER_UP_NODE",
})  # fmt: skip
_NO_TIME = frozenset({"", "None", "Unknown", "N/A"})
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?")
_LONGEST_S = 100 * 366 * 86400  # a century: Slurm's words for "no value" (2^32 - 2, 2^64 - 2) are longer
_LAST_S = 7_258_118_400  # the year 2200: no time of a job lies beyond, and calendars end
_MOST_DIGITS = 9  # of a count of devices; what seconds times more would be, no sum here holds
_LONGEST_NAMES = {"cluster": 64, "sluid": 64, "raw_id": 32, "state": 32} | dict.fromkeys(
    ("user", "account", "partition", "qos"), 120
)
"""Characters; Slurm's own names are shorter, and the ledger's columns as wide."""


def typed(source: str, rows: pl.DataFrame, zone: tzinfo | None) -> tuple[pl.DataFrame, list[BadLine], int]:
    """Runs (`SCHEMA`, and `line`), what is bad, and how many rows are steps, which their job's row stands for.

    `zone`: whose wall clock times without one are; None: UTC.
    """
    if rows.is_empty():
        return pl.DataFrame(schema={**SCHEMA, LINE: pl.UInt32}), [], 0
    has = set(rows.columns)
    ids = [name for name in ("jobid", "jobidraw") if name in has]
    is_step = rows[ids[0]].str.contains(".", literal=True)
    steps = int(is_step.sum())
    jobs = rows.filter(~is_step) if steps else rows
    raw = ids[-1]
    made = jobs.select(
        _text(has, "cluster").alias("cluster"),
        _text(has, "sluid").replace("", None).alias("sluid"),
        _text(has, "dbindex").cast(pl.Int64, strict=False).alias("db_index"),
        pl.col(raw).alias("raw_id"),
        pl.col(ids[0]).alias("job_id"),
        _words(jobs["state"]).alias("state"),
        *(_text(has, name).alias(name) for name in ("user", "account", "partition", "qos")),
        _text(has, "nodelist").alias("nodes"),
        pl.col(LINE),
    ).with_columns(
        _moments(jobs, "submit", zone).alias("submitted"),
        _moments(jobs, "start", zone).alias("started"),
        _moments(jobs, "end", zone).alias("ended"),
        _seconds(jobs, "elapsedraw", "elapsed").alias("elapsed"),
        _seconds(jobs, "suspended").alias("suspended"),
        _limits(jobs).alias("limit"),
        *_allocation(jobs),
    )
    over = ~pl.col("state").is_in(_ALIVE)
    if "end" in has:
        over &= pl.col("ended").is_not_null()
    whole = made.with_columns(
        over.alias("is_over"),
        # Without the column, the time between start and end is all there is to tell.
        *([] if "suspended" in has else [_between().alias("suspended")]),
    )
    return *_judged(source, whole, jobs), steps


def _words(states: pl.Series) -> pl.Series:
    """`CANCELLED by 1004` and `CANCELLED+` are CANCELLED."""
    said = states.unique().to_list()
    words = {text: (text.replace("+", " ").split() or [""])[0] for text in said}
    return states.replace_strict(words, return_dtype=pl.String)


def _text(has: set[str], name: str) -> pl.Expr:
    return pl.col(name) if name in has else pl.lit("", pl.String)


def _between() -> pl.Expr:
    missing = pl.col("ended") - pl.col("started") - pl.col("elapsed")
    return pl.when((pl.col("elapsed") > 0) & (missing > 0)).then(missing).otherwise(0).fill_null(0)


def _judged(source: str, made: pl.DataFrame, jobs: pl.DataFrame) -> tuple[pl.DataFrame, list[BadLine]]:
    """Without the rows that cannot be right, each named with its reason."""
    tests: list[tuple[str, pl.Expr]] = [
        ("no job id", ~pl.col("raw_id").str.contains(r"^\d+")),
        ("no state", pl.col("state") == ""),
        ("Elapsed is no time", ~pl.col("elapsed").is_between(0, _LONGEST_S).fill_null(value=False)),
        ("Suspended is no time", ~pl.col("suspended").is_between(0, _LONGEST_S).fill_null(value=False)),
    ]
    for name, most in _LONGEST_NAMES.items():
        tests.append(
            (f"a {name.replace('_', ' ')} of more than {most} characters", pl.col(name).str.len_chars() > most)
        )
    if "alloctres" in jobs.columns:
        absurd = jobs["alloctres"].unique()
        absurd = absurd.filter(absurd.str.contains(rf"(?:^|,)(?:gres/gpu[^=]*|cpu|billing)=\d{{{_MOST_DIGITS + 1}}}"))
        if len(absurd):
            made = made.with_columns(jobs["alloctres"].is_in(absurd).alias("bad_tres"))
            tests.append((f"AllocTRES has a count of more than {_MOST_DIGITS} digits", pl.col("bad_tres")))
    for column, name in (("Submit", "submitted"), ("Start", "started"), ("End", "ended")):
        if column.lower() in jobs.columns:
            said = ~jobs[column.lower()].is_in(_NO_TIME)
            beyond = ~made[name].is_between(0, _LAST_S)
            if (wrong := (made[name].is_null() & said) | beyond.fill_null(value=False)).any():
                made = made.with_columns(wrong.alias(f"bad_{name}"))
                tests.append((f"{column} is no time", pl.col(f"bad_{name}")))
    tests += [(f"no count of {name}", ~pl.col(name).is_between(0, 10**_MOST_DIGITS - 1)) for name in (CPUS, BILLING)]
    tests.append(("End lies before Start", (pl.col("ended") < pl.col("started")).fill_null(value=False)))
    reason = pl.coalesce(pl.when(test).then(pl.lit(why)) for why, test in tests)
    judged = made.with_columns(reason.alias("reason"))
    bad = [
        BadLine(source=source, number=number, reason=why)
        for number, why in judged.filter(pl.col("reason").is_not_null()).select(LINE, "reason").iter_rows()
    ]
    good = judged.filter(pl.col("reason").is_null()) if bad else judged
    return good.select(*SCHEMA, LINE), bad


def _allocation(jobs: pl.DataFrame) -> Iterator[pl.Series]:
    """`gpus`, `cpus` and `billing`; null where AllocTRES does not stand for them."""
    if "alloctres" in jobs.columns:
        texts = jobs["alloctres"]
        found = texts.to_frame().join(allocated(texts), on="alloctres", how="left", maintain_order="left")
    else:
        found = pl.DataFrame(
            {name: pl.Series([None] * jobs.height, dtype=SCHEMA[name]) for name in (GPUS, CPUS, BILLING)}
        )
    cpus = found[CPUS]
    for name in ("alloccpus", "ncpus"):
        if name in jobs.columns:
            cpus = cpus.zip_with(cpus.is_not_null(), jobs[name].cast(pl.Int64, strict=False))
    yield found[GPUS]
    yield cpus.alias(CPUS)
    yield found[BILLING]


def _moments(jobs: pl.DataFrame, name: str, zone: tzinfo | None) -> pl.Series:
    """Seconds of Unix time; null: no time, or none that can be read."""
    if name not in jobs.columns:
        return pl.Series(name, [None] * jobs.height, dtype=pl.Int64)
    texts = jobs[name]
    found = texts.cast(pl.Int64, strict=False)
    if found.null_count() == 0:
        return found
    rest = texts.filter(found.is_null() & ~texts.is_in(_NO_TIME)).unique()
    if rest.is_empty():
        return found
    words = {text: _moment(text, zone) for text in rest.to_list()}
    return found.zip_with(found.is_not_null(), _looked_up(texts, words))


def _moment(text: str, zone: tzinfo | None) -> int | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=zone or UTC)).timestamp())


def _seconds(jobs: pl.DataFrame, *names: str) -> pl.Series:
    """The first of the columns that says something; 0 where there is none of them, null where none can be read."""
    there = [name for name in names if name in jobs.columns]
    if not there:
        return pl.Series(names[0], [0] * jobs.height, dtype=pl.Int64)
    found = pl.Series(names[0], [None] * jobs.height, dtype=pl.Int64)
    for name in there:
        texts = jobs[name]
        words = {text: _span(text) for text in texts.unique().to_list() if not text.isdigit()}
        numbers = texts.cast(pl.Int64, strict=False)
        read = numbers.zip_with(numbers.is_not_null(), _looked_up(texts, words)) if words else numbers
        found = found.zip_with(found.is_not_null(), read)
    return found


def _span(text: str) -> int | None:
    """Seconds of `1-02:03:04`, `02:03` or nothing; None: it is no length of time."""
    if not text.strip():
        return 0
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _limits(jobs: pl.DataFrame) -> pl.Series:
    """The time limit in seconds; null: none, or the partition's."""
    if "timelimitraw" in jobs.columns:  # in minutes
        minutes = jobs["timelimitraw"].cast(pl.Int64, strict=False)
        return (minutes * 60).set(~minutes.is_between(0, _LONGEST_S // 60), None)
    if "timelimit" in jobs.columns:
        words = {text: _span(text) or None for text in jobs["timelimit"].unique().to_list()}
        return _looked_up(jobs["timelimit"], words)
    return pl.Series("limit", [None] * jobs.height, dtype=pl.Int64)


def _looked_up(texts: pl.Series, words: dict[str, int | None]) -> pl.Series:
    return texts.replace_strict(words, default=None, return_dtype=pl.Int64)
