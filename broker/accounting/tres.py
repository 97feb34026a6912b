"""What AllocTRES says a job was given. Integers only."""

import re
from functools import cache

import polars as pl

UNTYPED = "untyped"
GPUS, CPUS, BILLING = "gpus", "cpus", "billing"

# `gres/gpu` and `gres/gpu:TYPE`, and never gres/gpumem or gres/gpuutil.
_GPU = r"gres/gpu(?::[^=,]+)?=\d+"


def allocated(texts: pl.Series) -> pl.DataFrame:
    """For each different text: `gpus` as `mix` writes it (null: the text is empty), `cpus`, `billing` (null: not in it)."""
    column = pl.col(texts.name)
    found = (
        texts.unique()
        .to_frame()
        .with_columns(
            column.str.extract_all(_GPU).list.join(",").alias("said"),
            column.str.extract(r"(?:^|,)cpu=(\d+)").cast(pl.Int64, strict=False).alias(CPUS),
            column.str.extract(r"(?:^|,)billing=(\d+)").cast(pl.Int64, strict=False).alias(BILLING),
        )
    )
    mixes = found["said"].unique()
    meaning = pl.DataFrame(
        {
            "said": mixes,
            GPUS: pl.Series([None if text is None else mix(text) for text in mixes.to_list()], dtype=pl.String),
        }
    )
    return (
        found.join(meaning, on="said", how="left", nulls_equal=True)
        .drop("said")
        .with_columns(pl.when(column == "").then(None).otherwise(pl.col(GPUS)).alias(GPUS))
    )


@cache
def mix(text: str) -> str:
    """`gres/gpu:a100=1,gres/gpu=3` → `a100=1,untyped=2`: each type and what no type accounts for, sorted; empty: no GPU.

    The total is the larger one of the untyped entry and the sum of the typed: either may be missing.
    """
    typed: dict[str, int] = {}
    total = 0
    for name, count in re.findall(r"(?:^|,)gres/gpu(:[^=,]+)?=(\d+)", text):
        if name:
            typed[name[1:]] = typed.get(name[1:], 0) + int(count)
        else:
            total = max(total, int(count))
    if (rest := total - sum(typed.values())) > 0:
        typed[UNTYPED] = typed.get(UNTYPED, 0) + rest
    return ",".join(f"{name}={count}" for name, count in sorted(typed.items()) if count)


@cache
def counts(mixed: str) -> tuple[tuple[str, int], ...]:
    """What `mix` wrote: each type and how many."""
    pairs = (entry.rpartition("=") for entry in mixed.split(",") if entry)
    return tuple((name, int(count)) for name, _, count in pairs)
