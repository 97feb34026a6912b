"""Counts what the ledger's history tells, by reading on where it stopped: what was rolled back is never counted."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from broker.core.leases import LeaseState
from broker.db.engine import reading
from broker.db.schema import lease_events, lease_steps, leases
from broker.metrics.reasons import reason_class

# Two writers on PostgreSQL may commit in another order than they drew their numbers: we look back over so many.
_LOOK_BACK = 1000
_LAST_STEP = "slurmd"
_ADDRESS = "it has an address"


@dataclass
class _Times:
    """When a lease reached what; for those that reached it since we started."""

    bootstrapping: datetime | None = None
    address: datetime | None = None
    leaving: datetime | None = None


class Tail:
    """`transition(was, became, reason class)`, `stage(name, seconds)` and `adopted(provider)` are told of each event once.

    Events from before the daemon's start are not told.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        transition: Callable[[str, str, str], None],
        stage: Callable[[str, float], None],
        adopted: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._transition = transition
        self._stage = stage
        self._adopted = adopted
        self._times: dict[str, _Times] = {}
        self._lock = threading.Lock()
        with reading(engine) as db:
            self._last: int = db.execute(select(func.coalesce(func.max(lease_events.c.id), 0))).scalar_one()
            self._seen = set(db.execute(self._ids()).scalars())

    def read_on(self) -> None:
        """Tell what has happened since the last call."""
        with self._lock, reading(self._engine) as db:
            for row in db.execute(self._query()).all():
                if row.id not in self._seen:
                    self._seen.add(row.id)
                    self._last = max(self._last, row.id)
                    self._tell(db, row)
            self._seen = {event for event in self._seen if event > self._last - _LOOK_BACK}

    def _ids(self) -> Any:
        return select(lease_events.c.id).where(lease_events.c.id > self._last - _LOOK_BACK)

    def _query(self) -> Any:
        return (
            select(
                lease_events,
                *(leases.c.requested_at, leases.c.created_at, leases.c.attempt, leases.c.provider),
                leases.c.instance_id,
            )
            .join(leases, leases.c.id == lease_events.c.lease_id)
            .where(lease_events.c.id > self._last - _LOOK_BACK)
            .order_by(lease_events.c.id)
        )

    def _tell(self, db: Connection, row: Row[Any]) -> None:
        if row.was == row.became:
            known = self._times.get(row.lease_id)
            if row.reason.startswith(_ADDRESS) and known is not None and known.bootstrapping is not None:
                known.address = row.at
                self._stage("address", _seconds(known.bootstrapping, row.at))
            return
        times = self._times.setdefault(row.lease_id, _Times())
        kind = reason_class(row.reason)
        self._transition(row.was or "none", row.became, kind)
        if kind == "adopted" and row.provider is not None:
            self._adopted(row.provider)
        match row.became:
            case LeaseState.LAUNCHING if row.attempt == 1:
                self._stage("asked", _seconds(row.requested_at, row.at))
            case LeaseState.LAUNCHING:
                self._stage("next_offer", _seconds(row.created_at, row.at))
            case LeaseState.BOOTSTRAPPING:
                times.bootstrapping = row.at
            case LeaseState.READY:
                self._ready(db, row, times)
            case LeaseState.DRAINING | LeaseState.RELEASING:
                times.leaving = times.leaving or row.at
            case LeaseState.RELEASED:
                if times.leaving is not None and row.instance_id is not None:
                    self._stage("release", _seconds(times.leaving, row.at))
                del self._times[row.lease_id]  # its last move

    def _ready(self, db: Connection, row: Row[Any], times: _Times) -> None:
        self._stage("ready", _seconds(row.requested_at, row.at))
        query = select(lease_steps.c.finished_at).where(
            lease_steps.c.lease_id == row.lease_id, lease_steps.c.name == _LAST_STEP
        )
        started = db.execute(query).scalar_one_or_none()
        if started is not None:
            self._stage("register", _seconds(started, row.at))
            if times.address is not None:
                self._stage("join", _seconds(times.address, started))


def _seconds(began: datetime, ended: datetime) -> float:
    return max(0.0, (ended - began).total_seconds())
