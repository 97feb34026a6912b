"""Which of several rows about one run is the last word: windows overlap, and Slurm corrects what it said.

The choice depends on the rows alone, so it is the same in whatever order they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from broker.accounting.typed import SCHEMA

# Slurm's own names of a run, the best first. A job's number alone is none: a requeued job has several runs, and numbers wrap.
_KEYS: tuple[tuple[str, ...], ...] = (("cluster", "sluid"), ("cluster", "db_index"), ("cluster", "raw_id", "submitted"))

# A run only grows: it waits, runs, is over. Of two that are as far, the one that says more is the later one.
_RANK = ("is_over", "ended", "started", "elapsed", "suspended")

# Where they differ in nothing of that, any order will do that is always the same. What only names the run is no reason.
_NAMES = frozenset({"cluster", "sluid", "db_index", "raw_id", "job_id", "submitted"})
_ORDER = [*_RANK, *(name for name in SCHEMA if name not in _RANK and name not in _NAMES), *sorted(_NAMES)]


@dataclass(frozen=True, kw_only=True)
class Current:
    """`runs`: one row a run. `repeated`: rows that said the same again; `corrected`: rows that a later word replaced."""

    runs: pl.DataFrame
    repeated: int
    corrected: int
    key: tuple[str, ...]
    """The columns that name a run here: the best ones that every row has."""


def current(runs: pl.DataFrame) -> Current:
    """The last word on each run."""
    runs = _one_cluster(runs)
    key = next((names for names in _KEYS if all(runs[name].null_count() == 0 for name in names)), _KEYS[-1])
    # Where not even a submit time is known, rows that differ are runs that differ.
    key = key if runs[key[-1]].null_count() == 0 else tuple(SCHEMA)
    if runs.is_empty() or _are_distinct(runs, key):
        return Current(runs=runs, repeated=0, corrected=0, key=key)
    distinct = runs.unique(subset=list(SCHEMA))
    last = distinct.sort(_ORDER, nulls_last=False).unique(subset=key, keep="last", maintain_order=True)
    return Current(runs=last, repeated=runs.height - distinct.height, corrected=distinct.height - last.height, key=key)


def rank(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """Of two rows about one run, the one with the higher rank is the last word: `current`, for one row (of `typed.SCHEMA`)."""
    values = (run[name] for name in _ORDER)
    return tuple((value is not None, value) if value is not None else (False,) for value in values)


def _are_distinct(runs: pl.DataFrame, key: tuple[str, ...]) -> bool:
    if len(key) == 2:  # several times as fast as looking at whole rows
        if runs[key[1]].n_unique() == runs.height:
            return True
        return int(runs.group_by(key[0]).agg(pl.col(key[1]).n_unique())[key[1]].sum()) == runs.height
    return not runs.select(key).is_duplicated().any()


def _one_cluster(runs: pl.DataFrame) -> pl.DataFrame:
    """An export without the column Cluster, beside others with it, is of the same cluster where there is one only."""
    named = runs["cluster"].unique().to_list()
    if len(named) == 2 and "" in named:
        return runs.with_columns(pl.lit(max(named), pl.String).alias("cluster"))
    return runs
