"""Intervals by resampling whole blocks, since the weeks of a year are alike and the hours of a week are not."""

import random
from collections.abc import Callable, Sequence

DRAWS = 1000


def interval(
    blocks: Sequence[Sequence[float]], of: Callable[[list[float]], float], seed: int = 1
) -> tuple[float, float]:
    """95 % interval of a statistic of column sums: `blocks` are rows of sums, drawn with replacement."""
    rng = random.Random(seed)
    found = sorted(
        of([sum(column) for column in zip(*rng.choices(blocks, k=len(blocks)), strict=True)]) for _ in range(DRAWS)
    )
    return found[int(0.025 * DRAWS)], found[int(0.975 * DRAWS) - 1]
