"""What the daemon does itself: the plan and the ledger."""

import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from market import SHAPE, offers
from measure import Row, Timed

from broker.core.demand import Limits, Request, Wishes
from broker.core.leases import Lease, LeaseState, new_lease_id
from broker.db import leases
from broker.db.engine import open_ledger
from broker.placement.planner import plan

_NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def rows(folder: Path, n: int, plans: Sequence[int] = (1_000,)) -> list[Row]:
    """Rows of the planner over so many offers each, then of the ledger in `folder`."""
    return [*(_plan_row(count, max(min(30, n), n * 1_000 // count)) for count in plans), *_ledger(folder, n)]


def _plan_row(count: int, n: int) -> Row:
    known = offers(count)
    request = Request(shape=SHAPE, wishes=Wishes())
    limits, trusted = Limits(max_price_per_gpu_hour=Decimal("10")), frozenset({"lambdalabs", "nebius", "runpod"})

    def decide() -> float:
        began = time.perf_counter()
        plan(request, known, limits, trusted)
        return time.perf_counter() - began

    def sort() -> float:
        began = time.perf_counter()
        sorted(known, key=lambda offer: offer.price_per_hour)
        return time.perf_counter() - began

    return Row(
        what=f"plan over {count} offers",
        run=decide,
        baseline=f"sorting {count} by price",
        against=sort,
        n=n,
    )


def _ledger(folder: Path, n: int) -> list[Row]:
    engine = open_ledger(f"sqlite:///{folder / 'broker.db'}")
    bare = "bare sqlite3 INSERT + commit"
    against = _bare_insert(folder / "bare.db")

    def add() -> float:
        lease = _lease()
        began = time.perf_counter()
        with engine.begin() as db:
            leases.add(db, lease, "Slurm asked for the node", _NOW)
        return time.perf_counter() - began

    def move() -> float:
        lease = _lease()
        with engine.begin() as db:
            leases.add(db, lease, "Slurm asked for the node", _NOW)
        began = time.perf_counter()
        with engine.begin() as db:
            leases.move(db, lease, LeaseState.LAUNCHING, "buying", _NOW, label=f"broker-bench-{lease.id}-e1")
        return time.perf_counter() - began

    return [
        Row(what="ledger: a new lease with its event", run=add, baseline=bare, against=against, n=n),
        Row(what="ledger: a move with its event", run=move, baseline=bare, against=against, n=n),
    ]


def _bare_insert(path: Path) -> Timed:
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE leases (id TEXT PRIMARY KEY, node TEXT NOT NULL, reason TEXT)")

    def insert() -> float:
        values = (new_lease_id(), "h100-1", "Slurm asked for the node")
        began = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO leases VALUES (?, ?, ?)", values)
        db.execute("COMMIT")
        return time.perf_counter() - began

    return insert


def _lease() -> Lease:
    lease_id = new_lease_id()
    return Lease(
        id=lease_id,
        node=f"bench-{lease_id}",
        shape="h100",
        state=LeaseState.REQUESTED,
        state_since=_NOW,
        version=1,
        created_at=_NOW,
        requested_at=_NOW,
        deadline=_NOW + timedelta(minutes=25),
        request_id=lease_id,
        attempt=1,
        epoch=1,
    )
