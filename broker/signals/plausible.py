"""Hours whose sum cannot be: half the plants did not report, or one reported a thousandfold."""

from collections import deque
from collections.abc import Iterable
from statistics import median

from broker.signals.mix import Mix

_REMEMBERED = 24
_NEEDED = 6
_LOWEST, _HIGHEST = 0.5, 2.0
"""Shares of the trailing median. Nearer to 1, and a real night or storm falls out; further, and a collapse passes (PJM 2022 has
hours at a third)."""


def plausible(mixes: Iterable[Mix]) -> list[Mix]:
    """Those whose supply is between half and twice the median of the last day's plausible ones."""
    kept: list[Mix] = []
    last: deque[float] = deque(maxlen=_REMEMBERED)
    refused = 0
    for mix in mixes:
        usual = median(last) if len(last) >= _NEEDED else None
        if usual is None or _LOWEST * usual <= mix.supply_mw <= _HIGHEST * usual:
            kept.append(mix)
            last.append(mix.supply_mw)
            refused = 0
            continue
        refused += 1
        if refused > _REMEMBERED:
            # A day long: then the grid is another one now (a balancing authority merged), and the past no measure.
            last.clear()
            last.append(mix.supply_mw)
            kept.append(mix)
            refused = 0
    return kept
