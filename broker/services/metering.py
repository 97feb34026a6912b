"""From the ledger's facts to entries of usage: what a lease's events say is compared with what is booked, and booked.

Whoever dies half way leaves either all of a lease's new entries or none; the next look finds what is missing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine

from broker.billing import slices
from broker.billing.booking import Entry, changes
from broker.billing.slices import NOBODY, Metered
from broker.core.demand import Shape
from broker.core.leases import Lease, LeaseEvent, LeaseState
from broker.core.usage import UsageKind
from broker.db import leases, occupancies, offers, payers, usage, usage_entries
from broker.db.chunks import chunks
from broker.db.engine import reading
from broker.db.usage_entries import Counted

_AGAIN = timedelta(days=40)
"""Ended leases whose facts are looked at once more by a thorough look: a restore, a late word of Slurm."""

Told = Callable[[Connection, list[Entry], datetime], None]
"""Told of new entries in the transaction that writes them: what must not be lost with a crash goes there."""


@dataclass(frozen=True, kw_only=True)
class Metering:
    """`granularity`: credential → its billing unit. `told`: who else writes down what new entries mean."""

    engine: Engine
    shapes: Mapping[str, Shape]
    granularity: Mapping[str, timedelta]
    told: Told = lambda db, entries, now: None

    def book(self, now: datetime, thorough: bool = False) -> int:
        """Book all that is known up to the last full hour; how many entries that took.

        `thorough`: leases that ended within 40 days are compared once more.
        """
        with reading(self.engine) as db:
            due = usage_entries.due(db, full_hour(now), now - _AGAIN if thorough else None)
        written = 0
        for some in chunks(due):
            with self.engine.begin() as db:
                usage_entries.take_turn(db)
                written += self._book(db, some, full_hour(now), now)
        return written

    def expected(self, db: Connection, until: datetime, now: datetime) -> list[Entry]:
        """What would be booked if the hour ended at `until`: the provisional entries of what still runs. Writes nothing."""
        found: list[Entry] = []
        for some in chunks(usage_entries.unsettled(db)):
            written = usage_entries.of_leases(db, some)
            for metered in _facts(db, some, self._counted(db, some)).values():
                pieces = slices.slices(metered, until)
                found.extend(changes(written.get(metered.lease_id, []), metered, pieces, now))
        return found

    def _book(self, db: Connection, lease_ids: list[str], until: datetime, now: datetime) -> int:
        how = self._counted(db, lease_ids)
        written = usage_entries.of_leases(db, lease_ids)
        new: list[Entry] = []
        for metered in _facts(db, lease_ids, how).values():
            lease_id = metered.lease_id
            before, ended = how[lease_id], slices.billed_until(metered)
            # Never to an earlier hour: a clock that was set back must not take booked usage away.
            high = max(until, before.until or until, ended or until)
            new.extend(changes(written.get(lease_id, []), metered, slices.slices(metered, high), now))
            settled = ended is not None and all(o.ended_at for o in metered.occupancies)
            if settled != before.settled or high != before.until:
                usage_entries.count_by(db, replace(before, until=high, settled=settled))
        entries = usage_entries.add(db, new)
        if entries:
            self.told(db, entries, now)
        return len(entries)

    def _counted(self, db: Connection, lease_ids: list[str]) -> dict[str, Counted]:
        """How each lease is counted: as kept, or as it is now when it is looked at for the first time."""
        known = usage_entries.counted(db, lease_ids)
        fresh = [lease for lease in leases.by_ids(db, lease_ids) if lease.id not in known]
        for lease in fresh:
            accelerator, count = self._gpus(db, lease)
            known[lease.id] = Counted(
                lease_id=lease.id,
                provider=lease.provider,
                accelerator=accelerator,
                units=max(1, count),
                granularity=self.granularity.get(lease.provider or "", timedelta(seconds=1)),
                until=None,
                settled=False,
            )
        return known

    def _gpus(self, db: Connection, lease: Lease) -> tuple[str | None, int]:
        """What Slurm had of the machine; a larger one than its shape is still one node of the shape."""
        shape = self.shapes.get(lease.shape)
        if shape is not None:
            return shape.accelerator, shape.accelerator_count
        offer = offers.one(db, lease.offer_id) if lease.offer_id is not None else None
        return (offer.hardware.accelerator, offer.hardware.accelerator_count) if offer is not None else (None, 1)


def full_hour(at: datetime) -> datetime:
    """The last full hour, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _facts(db: Connection, lease_ids: list[str], how: Mapping[str, Counted]) -> dict[str, Metered]:
    """What each bought lease's usage follows from."""
    used = usage.of_leases(db, lease_ids)
    histories = leases.histories(db, lease_ids)
    held = occupancies.of_leases(db, lease_ids)
    asked = payers.of_leases(db, lease_ids)
    found = {}
    for lease_id in lease_ids:
        start = used.get(lease_id, {}).get(UsageKind.START)
        if start is None:
            continue
        history, counted = histories.get(lease_id, []), how[lease_id]
        found[lease_id] = Metered(
            lease_id=lease_id,
            start=start,
            end=used[lease_id].get(UsageKind.END),
            ready_at=_first(history, {LeaseState.READY}),
            released_at=_first(history, {LeaseState.DRAINING, LeaseState.RELEASING}),
            occupancies=held.get(lease_id, ()),
            asked=asked.get(lease_id, NOBODY),
            provider=counted.provider,
            accelerator=counted.accelerator,
            units=counted.units,
            granularity=counted.granularity,
            parked=tuple(_spans(history)),
        )
    return found


def _first(history: Iterable[LeaseEvent], states: set[LeaseState]) -> datetime | None:
    return next((event.at for event in history if event.became in states and event.was != event.became), None)


def _spans(history: Iterable[LeaseEvent]) -> list[tuple[datetime, datetime | None]]:
    """When the machine was parked."""
    spans: list[tuple[datetime, datetime | None]] = []
    for event in history:
        if event.was == event.became:
            continue
        if event.became is LeaseState.PARKED:
            spans.append((event.at, None))
        elif event.was is LeaseState.PARKED and spans:
            spans[-1] = (spans[-1][0], event.at)
    return spans
