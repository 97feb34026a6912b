"""Which provider was behind a node name when: from what `broker lease list --all --json` wrote."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from broker.accounting.columns import UnreadableExport
from broker.accounting.source import opened


@dataclass(frozen=True, kw_only=True)
class NodeLease:
    """`provider` was behind `node` from `start` to `end` (Unix time; None: it still is)."""

    node: str
    provider: str
    start: int
    end: int | None


def read_leases(path: Path) -> tuple[NodeLease, ...]:
    """The leases that got a provider. UnreadableExport: the file is no list of leases."""
    with opened(path) as stream:
        content = stream.read()
    try:
        return tuple(
            NodeLease(
                node=_name(lease["node"]),
                provider=_name(lease["provider"]),
                start=_seconds(lease["created_at"]),
                end=_seconds(lease["state_since"]) if lease["state"] == "released" else None,
            )
            for lease in json.loads(content)["leases"]
            if lease["provider"] is not None
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as exc:
        raise UnreadableExport(f"{path} is not what `broker lease list --all --json` writes ({exc!r})") from exc


def with_providers(runs: pl.DataFrame, leases: Iterable[NodeLease]) -> pl.DataFrame:
    """`runs` with `provider`: who was behind the run's first node at its start (a job's nodes are bought in one place).

    Null: no lease of that node was alive then, as on a site's own nodes.
    """
    behind = pl.DataFrame(
        [(lease.node, lease.provider, lease.start, lease.end) for lease in leases],
        schema={"host": pl.String, "provider": pl.String, "leased": pl.Int64, "released": pl.Int64},
        orient="row",
    ).sort("leased")
    first = r"^([^,\[]+)(?:\[(\d+))?"
    found = (
        runs.with_columns(
            pl.concat_str(
                pl.col("nodes").str.extract(first, 1), pl.col("nodes").str.extract(first, 2).fill_null("")
            ).alias("host")
        )
        .sort("started", nulls_last=False)
        .join_asof(behind, left_on="started", right_on="leased", by="host", strategy="backward", check_sortedness=False)
    )
    alive = pl.col("released").is_null() | (pl.col("started") < pl.col("released"))
    return found.with_columns(pl.when(alive).then(pl.col("provider")).alias("provider")).drop(
        "host", "leased", "released"
    )


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no name")
    return value


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
