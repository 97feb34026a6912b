"""Cuts the time of each run at month ends and at the ends of a window, so that the slices add up to the second."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

MONTH = "month"
JOBS, RAN, HELD = "jobs", "ran", "held"


@dataclass(frozen=True, kw_only=True)
class Window:
    """[`start`, `end`) in seconds of Unix time; None: open."""

    start: int | None = None
    end: int | None = None

    @property
    def is_open(self) -> bool:
        """Everything lies in it."""
        return self.start is None and self.end is None


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """`frame`: the runs' columns with `jobs`, `ran`, `held` and, if asked for, `month` (202611; null: not known).

    A run counts as a job where it ended.

    `outside`: runs of which nothing lies in the window; `timeless`: runs that no column places in time.
    """

    frame: pl.DataFrame
    outside: int = 0
    timeless: int = 0


def sliced(runs: pl.DataFrame, *, window: Window, by_month: bool) -> Sliced:
    """`runs` (of `typed.SCHEMA`) as slices. Each run holds what it holds from its start on, for elapsed + suspended seconds."""
    frame = runs.with_columns(
        pl.lit(1, pl.Int64).alias(JOBS),
        pl.col("elapsed").alias(RAN),
        (pl.col("elapsed") + pl.col("suspended")).alias(HELD),
    )
    if window.is_open and not by_month:
        return Sliced(frame=frame)
    # A run that held nothing is where it ended, or where it was submitted.
    frame = frame.with_columns(
        pl.when(pl.col(HELD) > 0)
        .then(pl.coalesce("started", pl.col("ended") - pl.col(HELD)))
        .otherwise(pl.coalesce("ended", "submitted"))
        .alias("from"),
    ).with_columns((pl.col("from") + pl.max_horizontal(pl.col(HELD) - 1, 0)).alias("last"))
    timeless = frame.filter(pl.col("from").is_null())
    frame = frame.filter(pl.col("from").is_not_null())
    beyond = pl.lit(value=False)
    cut = pl.lit(value=False)
    if window.start is not None:
        beyond |= pl.col("last") < window.start
        cut |= pl.col("from") < window.start
    if window.end is not None:
        beyond |= pl.col("from") >= window.end
        cut |= pl.col("last") >= window.end
    inside = frame.filter(~beyond)
    if by_month:
        inside = inside.with_columns(_month("from").alias(MONTH))
        cut |= pl.col(MONTH) != _month("last")
    whole, crossing = inside.filter(~cut), inside.filter(cut)
    parts = _cut(crossing, window, by_month=by_month)
    if by_month and timeless.height:
        parts.append(timeless.with_columns(pl.lit(None, pl.Int32).alias(MONTH)))
    return Sliced(
        frame=pl.concat([whole, *(part.select(whole.columns) for part in parts)]).drop("from", "last"),
        outside=frame.height - inside.height,
        timeless=timeless.height,
    )


def _month(name: str) -> pl.Expr:
    return _year_and_month(pl.from_epoch(pl.col(name), time_unit="s"))


def _year_and_month(at: pl.Expr) -> pl.Expr:
    # A number: text of a million rows takes two seconds.
    return at.dt.year() * 100 + at.dt.month().cast(pl.Int32)


def _cut(crossing: pl.DataFrame, window: Window, *, by_month: bool) -> list[pl.DataFrame]:
    """The slices of runs that cross an edge; those outside the window are left out."""
    if crossing.is_empty():
        return []
    rows: list[int] = []
    slices: list[tuple[int, int, int, int]] = []
    for row, (start, ran, held) in enumerate(crossing.select("from", RAN, HELD).iter_rows()):
        edges = list(_month_ends(start, start + held)) if by_month else []
        edges += [edge for edge in (window.start, window.end) if edge is not None]
        for piece in cuts(start, ran, held, edges):
            if (window.start is None or piece[0] >= window.start) and (window.end is None or piece[0] < window.end):
                rows.append(row)
                slices.append(piece)
    schema = {"from": pl.Int64, RAN: pl.Int64, HELD: pl.Int64, JOBS: pl.Int64}
    found = pl.DataFrame(slices, schema=schema, orient="row")
    cut = crossing[rows].with_columns(found.get_columns()) if rows else crossing.clear()
    return [cut.with_columns(_month("from").alias(MONTH))] if by_month else [cut]


def cuts(start: int, ran: int, held: int, edges: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Start, seconds ran, seconds held and (in the last one) 1 job of each slice; whole seconds, and they add up.

    Slurm does not say when a job was suspended: what it ran is spread evenly over what it held.
    """
    inner = sorted({edge for edge in edges if start < edge < start + held})
    begins, ends = [start, *inner], [*inner, start + held]
    before = 0
    for begin, end in zip(begins, ends, strict=True):
        by_now = ran * (end - start) // held if held else ran
        yield begin, by_now - before, end - begin, int(end == ends[-1])
        before = by_now


def _month_ends(start: int, end: int) -> Iterator[int]:
    at = datetime.fromtimestamp(start, UTC)
    year, month = at.year, at.month
    while True:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        edge = int(datetime(year, month, 1, tzinfo=UTC).timestamp())
        if edge >= end:
            return
        yield edge
