"""How well availability is foretold: a time-blocked cross-validation on recorded polls of Lambda.

`python tests/bench/availability.py` prints the tables of docs/explanation/availability.md; `--rates` the rates that
`broker/placement/shipped_rates.py` starts with.
"""

import argparse
import csv
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from broker.core.observations import Seen, Sku, Source
from broker.placement import chances
from broker.placement.chances import Model

FILE = Path(__file__).parents[1] / "data" / "lambda" / "capacity-poll-2026-08-31.csv"
Look = tuple[datetime, frozenset[Sku]]
"""When, and what could be had then."""
Foretell = Callable[[Sku, bool, float], float]
"""(sku, whether it was listed, seconds since then) → P(listed now)."""

_HORIZONS_MIN = (2, 4, 10, 20)
_SURE = 0.98
_ANY = Decimal(1)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Looks in a row: tested as one, and left out of what is learned for that."""

    name: str
    looks: Sequence[Look]


def read(path: Path = FILE) -> tuple[list[Block], list[Sku]]:
    """The recorded looks in six blocks (five of the longer series, the shorter one whole), and every sku ever listed."""
    listed: dict[datetime, set[Sku]] = defaultdict(set)
    for row in csv.DictReader(path.read_text().splitlines()):
        at = datetime.fromisoformat(row["utc"])
        found = (zone for zone in row["regions_with_capacity"].split("|") if zone)
        listed[at].update(_sku(row["instance_type"], zone) for zone in found)
    looks = sorted(((at, frozenset(skus)) for at, skus in listed.items()), key=lambda look: look[0])
    cut = next(i for i in range(1, len(looks)) if looks[i][0] - looks[i - 1][0] > timedelta(minutes=30))
    longer, shorter = looks[:cut], looks[cut:]
    size = -(-len(longer) // 5)
    blocks = [
        Block(name=f"{part[0][0]:%H:%M}-{part[-1][0]:%H:%M}", looks=part)
        for part in (*(longer[i : i + size] for i in range(0, len(longer), size)), shorter)
    ]
    return blocks, sorted(set().union(*listed.values()), key=str)


def learn(blocks: Sequence[Block], skus: Sequence[Sku], memory: timedelta | None = None) -> Model:
    """Our model, fitted on these blocks. Each is a history of its own: nothing is known of what lies between them."""
    history: list[Seen] = []
    readings: list[tuple[datetime, int]] = []
    # A block's last state must not be carried on into the next one, so each block has offers of its own.
    tallies: dict[Sku, chances.Tally] = defaultdict(chances.Tally)
    for block in blocks:
        history.clear()
        readings = [(at, 1) for at, _ in block.looks]
        for sku in skus:
            history += [_seen(block.name, sku, at, sku in there) for at, there in block.looks]
        history.sort(key=lambda one: one.at)
        for sku, tally in chances.tallies(history, {"lambda": readings}, block.looks[-1][0], memory).items():
            tallies[sku].add(tally)
    # What is shipped was fitted on this very file.
    return chances.model_of(tallies, {}, shipped={})


def foretellers(blocks: Sequence[Block], skus: Sequence[Sku]) -> dict[str, Foretell]:
    """What is compared, each knowing these blocks only."""
    looks = [look for block in blocks for look in block.looks]
    share = {sku: (sum(sku in there for _, there in looks) + 0.5) / (len(looks) + 1) for sku in skus}
    model = learn(blocks, skus)
    return {
        "always available": lambda sku, listed, age: _SURE,
        "static rate": lambda sku, listed, age: share[sku],
        "last seen": lambda sku, listed, age: _SURE if listed else 1 - _SURE,
        "ours (decay)": lambda sku, listed, age: _clip(model.rates[sku].open_after(age, listed)),
    }


def losses(
    blocks: Sequence[Block], skus: Sequence[Sku], *, past_only: bool = False
) -> dict[tuple[str, int, bool], list[float]]:
    """(foreteller, horizon in minutes, only where it was listed) → a log loss for each thing foretold.

    Each block is foretold from all the others; with `past_only`, from those before it, as a daemon must.
    """
    found: dict[tuple[str, int, bool], list[float]] = defaultdict(list)
    for number, block in enumerate(blocks):
        others = list(blocks[:number]) if past_only else [other for other in blocks if other is not block]
        if not others:
            continue
        for name, foretell in foretellers(others, skus).items():
            for horizon in _HORIZONS_MIN:
                for sku, listed, age, came in _pairs(block, skus, horizon):
                    loss = -math.log(foretell(sku, listed, age) if came else 1 - foretell(sku, listed, age))
                    found[name, horizon, False].append(loss)
                    if listed:
                        found[name, horizon, True].append(loss)
    return found


def _pairs(block: Block, skus: Sequence[Sku], horizon: int) -> list[tuple[Sku, bool, float, bool]]:
    steps = horizon // 2
    return [
        (sku, sku in there, (later - at).total_seconds(), sku in then)
        for (at, there), (later, then) in zip(block.looks, block.looks[steps:], strict=False)
        for sku in skus
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", action="store_true", help="print what shipped_rates.py starts with")
    options = parser.parse_args()
    blocks, skus = read()
    if options.rates:
        for key, rates in sorted(learn(blocks, skus).type_rates.items()):
            print(f'    "{key[1]}": rates({_half(rates.leave):.0f}, {_half(rates.back):.0f}),')  # noqa: T201
        return
    for past_only in (False, True):
        found = losses(blocks, skus, past_only=past_only)
        for only_listed in (True, False):
            _print(found, only_listed, "from the blocks before it" if past_only else "from all other blocks")


def _print(found: dict[tuple[str, int, bool], list[float]], only_listed: bool, how: str) -> None:
    what = "skus that the last look listed" if only_listed else "all skus"
    print(f"\n{what}, each block foretold {how}: mean log loss, lower is better")  # noqa: T201
    print("| foretold by | " + " | ".join(f"{horizon} min later" for horizon in _HORIZONS_MIN) + " |")  # noqa: T201
    print("|---|" + "---|" * len(_HORIZONS_MIN))  # noqa: T201
    for name in dict.fromkeys(name for name, *_ in found):
        cells = [found[name, horizon, only_listed] for horizon in _HORIZONS_MIN]
        print(f"| {name} | " + " | ".join(f"{sum(each) / len(each):.3f}" for each in cells) + " |")  # noqa: T201
    counts = [len(found["ours (decay)", horizon, only_listed]) for horizon in _HORIZONS_MIN]
    print(f"| (things foretold) | {' | '.join(map(str, counts))} |")  # noqa: T201


def _half(rate: float) -> float:
    return math.log(2) / rate


def _clip(p: float) -> float:
    return min(_SURE, max(1 - _SURE, p))


def _sku(instance_type: str, zone: str) -> Sku:
    return Sku(provider="lambda", instance_type=instance_type, zone=zone, capacity_type="on_demand")


def _seen(block: str, sku: Sku, at: datetime, available: bool) -> Seen:
    return Seen(
        offer_id=f"{block}/{sku}", sku=sku, at=at, price_per_hour=_ANY, available=available, source=Source.LISTING
    )


if __name__ == "__main__":
    main()
