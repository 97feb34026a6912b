"""What a large market costs: reading 20 000 offers into the ledger, and planning over them beside gpuhunt's query."""

import random
import sqlite3
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from measure import Figure, Row, Timed

from broker.core.demand import Limits, Request, Shape, Wishes
from broker.core.observations import Sku
from broker.core.offers import CapacityType, Hardware, Offer, Reading
from broker.db.engine import open_ledger
from broker.placement.chances import Model
from broker.placement.planner import plan
from broker.placement.shipped_rates import rates
from broker.privileged.fake import FakeAsUser, FakeNet
from broker.providers.base import Provider
from broker.providers.fake import FakeProvider
from broker.reconcile.refresh_offers import Refresh
from broker.reconcile.world import World
from broker.slurm.fake import FakeSlurm

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHAPE = Shape(
    name="h100",
    partition="cloud",
    accelerator="H100",
    accelerator_count=1,
    cpus=16,
    memory_gib=128,
    disk_gib=200,
    nodes=4,
)
_SELLERS = ("lambdalabs", "nebius", "runpod", "verda")
"""Names that gpuhunt knows, so that both go through the same rows; the last is not trusted."""
_TRUSTED = frozenset(_SELLERS[:3])
_CEILING = 10


def rows(folder: Path, n: int, plans: Sequence[int] = (10_000, 100_000), read: int = 20_000) -> list[Row]:
    """Rows of plans over so many offers each, and of readings of `read` offers."""
    return [*(_plan_row(count, max(min(30, n), n * 1_000 // count)) for count in plans), *_readings(folder, n, read)]


def figures(folder: Path, read: int = 20_000) -> list[Figure]:
    """The memory of one reading, and the size of what it leaves."""
    market = _Market(folder / "memory.db", read)
    tracemalloc.start()
    market.read(0.05)
    market.read(0.05)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return [
        Figure(what=f"reading {read} offers: memory at most, beside the interpreter", value=most / 2**20, unit="MiB"),
        Figure(what=f"the ledger with {read} offers", value=market.path.stat().st_size / 2**20, unit="MiB"),
    ]


def offers(count: int) -> list[Offer]:
    """Made up, with a seed: half of them of the right GPU, a third of those sold out, all seen within two minutes."""
    dice = random.Random(count)
    return [
        Offer(
            provider=dice.choice(_SELLERS),
            kind="vast",
            instance_type=f"type-{number % 97}",
            zone=f"us-place-{number}",
            capacity_type=dice.choice((CapacityType.ON_DEMAND, CapacityType.SPOT)),
            hardware=Hardware(
                accelerator=dice.choice(("H100", "H100", "A10", "H200")),
                accelerator_count=dice.choice((1, 1, 1, 8)),
                accelerator_memory_gib=80,
                cpus=dice.choice((8, 26, 52)),
                memory_gib=dice.choice((64, 225, 450)),
                disk_gib=1024,
            ),
            price_per_hour=Decimal(dice.randint(100, 1500)) / 100,
            currency="USD",
            available=dice.random() > 1 / 3,
            observed_at=NOW - timedelta(seconds=dice.randint(0, 120)),
        )
        for number in range(count)
    ]


def _plan_row(count: int, n: int) -> Row:
    known = offers(count)
    model = learned(known)
    request, limits = Request(shape=SHAPE, wishes=Wishes()), Limits(max_price_per_gpu_hour=Decimal(_CEILING))

    def decide() -> float:
        began = time.perf_counter()
        plan(request, known, limits, _TRUSTED, chance=lambda offer: model.p(offer, NOW))
        return time.perf_counter() - began

    name, against = _gpuhunt(known)
    return Row(what=f"plan over {count} offers, with chances", run=decide, baseline=name, against=against, n=n)


def learned(known: Sequence[Offer]) -> Model:
    """A model that knows every sku of these offers."""
    dice = random.Random(1)
    return Model(
        rates={
            Sku(
                provider=offer.provider,
                instance_type=offer.instance_type,
                zone=offer.zone,
                capacity_type=offer.capacity_type,
            ): rates(dice.randint(60, 7200), dice.randint(60, 7200))
            for offer in known
        }
    )


def gpuhunt_query(known: Sequence[Offer]) -> Callable[[], list[Any]]:
    """The same question to gpuhunt, over the same rows (it knows no sold-out ones: all are listed). ImportError."""
    from gpuhunt import Catalog, CatalogItem  # noqa: PLC0415
    from gpuhunt._internal.catalog import ProviderCatalog  # noqa: PLC0415

    catalog = Catalog(balance_resources=False, auto_reload=False)
    for seller in _SELLERS:
        items = [
            CatalogItem(
                provider=seller,
                instance_name=offer.instance_type,
                location=offer.zone,
                price=float(offer.price_per_hour),
                cpu=offer.hardware.cpus,
                memory=float(offer.hardware.memory_gib),
                gpu_vendor="nvidia",
                gpu_count=offer.hardware.accelerator_count,
                gpu_name=offer.hardware.accelerator,
                gpu_memory=float(offer.hardware.accelerator_memory_gib or 0),
                spot=offer.capacity_type is CapacityType.SPOT,
                disk_size=float(offer.hardware.disk_gib),
            )
            for offer in known
            if offer.provider == seller
        ]
        # Its files are sorted like this; its merge relies on that.
        catalog.catalog[seller] = ProviderCatalog(version="bench", items=sorted(items, key=lambda item: item.price))
    catalog.loaded_at = time.monotonic()
    return lambda: catalog.query(
        provider=sorted(_TRUSTED),
        cpu_arch="x86",
        min_cpu=SHAPE.cpus,
        min_memory=SHAPE.memory_gib,
        min_gpu_count=1,
        max_gpu_count=1,
        gpu_name="H100",
        min_disk_size=SHAPE.disk_gib,
        max_price=_CEILING,
        spot=False,
    )


def _gpuhunt(known: Sequence[Offer]) -> tuple[str, Timed]:
    try:
        query = gpuhunt_query(known)
    except ImportError:

        def sort() -> float:
            began = time.perf_counter()
            sorted(known, key=lambda offer: offer.price_per_hour)
            return time.perf_counter() - began

        return f"sorting {len(known)} by price (gpuhunt is not installed)", sort

    def ask() -> float:
        began = time.perf_counter()
        query()
        return time.perf_counter() - began

    return f"gpuhunt's query over the same {len(known)}", ask


class _Market:
    """A credential that sells `count` offers, and a daemon's reader of it with a ledger on disk."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self._listed = offers(count)
        self._dice = random.Random(7)
        self._now = NOW
        self._provider = FakeProvider("a", list)
        self._provider.offers = self._read  # type: ignore[method-assign]
        self._refresh = Refresh(
            World(
                site=cast(Any, None),  # reading looks at no shape
                engine=open_ledger(f"sqlite:///{path}"),
                providers={},
                slurm=FakeSlurm(),
                net=FakeNet(),
                as_user=FakeAsUser(),
                open_shell=cast(Any, None),
                clock=lambda: self._now,
                started_at=NOW,
                join_plan=cast(Any, None),
            )
        )
        self.read(0.0)  # the first one writes every offer's beginning

    def read(self, changed: float) -> float:
        """One reading in which this share of the offers has come or gone; its seconds."""
        self._now += timedelta(seconds=30)
        for place in self._dice.sample(range(len(self._listed)), round(changed * len(self._listed))):
            offer = self._listed[place]
            self._listed[place] = replace(offer, available=not offer.available)
        self._listed = [replace(offer, provider="a", observed_at=self._now) for offer in self._listed]
        began = time.perf_counter()
        self._refresh.read(cast(Provider, self._provider))
        return time.perf_counter() - began

    def _read(self) -> Reading:
        return Reading(offers=tuple(self._listed))


def _readings(folder: Path, n: int, count: int) -> Iterator[Row]:
    bare = _bare_replace(folder / "bare-offers.db", count)
    market = _Market(folder / "market.db", count)
    for what, changed in (("nothing changed", 0.0), ("5 % came or went", 0.05)):
        yield Row(
            what=f"reading {count} offers into the ledger, {what}",
            run=lambda changed=changed: market.read(changed),
            baseline=f"bare sqlite3: DELETE and INSERT of {count} rows, commit",
            against=bare,
            n=min(n, 30),
        )


def _bare_replace(path: Path, count: int) -> Timed:
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    names = [f"column_{number}" for number in range(22)]
    db.execute(f"CREATE TABLE offers (id TEXT PRIMARY KEY, {', '.join(names)})")
    values = [(str(number), *(f"value {number}" for _ in names)) for number in range(count)]
    marks = ", ".join("?" * (len(names) + 1))

    def replace_all() -> float:
        began = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM offers")
        db.executemany(f"INSERT INTO offers VALUES ({marks})", values)  # noqa: S608
        db.execute("COMMIT")
        return time.perf_counter() - began

    return replace_all
