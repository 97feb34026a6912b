"""What must be written so that the ledger says what the facts say: entries are added and reversed, never changed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from broker.billing.slices import Metered, Payer, Slice, SliceKind

HOUR_US = 3_600_000_000
_US = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger. `reverses`: the entry that it takes back, whose span and price it repeats.

    `price_per_hour`: the provider's, for the whole machine, as it was launched.
    """

    id: int | None
    lease_id: str
    slice: Slice
    provider: str | None
    accelerator: str | None
    units: int
    price_per_hour: Decimal
    currency: str
    reason: str
    written_at: datetime
    reverses: int | None = None

    @property
    def sign(self) -> int:
        return 1 if self.reverses is None else -1

    @property
    def machine_us(self) -> Fraction:
        """Microseconds of the whole machine, with the sign; exact."""
        span = (self.slice.ended_at - self.slice.began_at) // _US
        return Fraction(self.sign * span * self.slice.part, self.slice.parts)

    @property
    def cost(self) -> Fraction:
        """What the provider takes for it, exact."""
        return self.machine_us * Fraction(self.price_per_hour) / HOUR_US

    @property
    def what(self) -> tuple[SliceKind, Payer, int, int, str | None, str | None, int, Decimal, str]:
        """Entries that agree in this differ in their times only."""
        where = (self.provider, self.accelerator, self.units, self.price_per_hour, self.currency)
        return (self.slice.kind, self.slice.payer, self.slice.part, self.slice.parts, *where)


def entry_of(metered: Metered, piece: Slice, reason: str, now: datetime) -> Entry:
    """The slice as a line that is not written yet, priced as the machine was launched."""
    return Entry(
        id=None,
        lease_id=metered.lease_id,
        slice=piece,
        provider=metered.provider,
        accelerator=metered.accelerator,
        units=metered.units,
        price_per_hour=metered.start.price_per_hour,
        currency=metered.start.currency,
        reason=reason,
        written_at=now,
    )


def standing(entries: Iterable[Entry]) -> list[Entry]:
    """Entries that nothing has reversed."""
    listed = list(entries)
    gone = {entry.reverses for entry in listed if entry.reverses is not None}
    return [entry for entry in listed if entry.reverses is None and entry.id not in gone]


def changes(written: Iterable[Entry], metered: Metered, wanted: Iterable[Slice], now: datetime) -> list[Entry]:
    """Lines to add so that what stands is just `wanted`: first the reversals, then what is missing. None: it agrees."""
    wanted_by: dict[object, list[Entry]] = defaultdict(list)
    for piece in wanted:
        entry = entry_of(metered, piece, "metered", now)
        wanted_by[entry.what].append(entry)
    reversals: list[Entry] = []
    kept: dict[object, list[Entry]] = defaultdict(list)
    for entry in standing(written):
        if any(_within(entry.slice, other.slice) for other in wanted_by.get(entry.what, ())):
            kept[entry.what].append(entry)
        else:
            reversals.append(
                replace(entry, id=None, reverses=entry.id, reason="what is known has changed", written_at=now)
            )
    missing: list[Entry] = []
    for what, entries in wanted_by.items():
        for entry in entries:
            missing.extend(_gaps(entry, kept[what]))
    return reversals + sorted(missing, key=lambda each: (each.slice.began_at, each.slice.payer.job_id or 0))


def _within(inner: Slice, outer: Slice) -> bool:
    return outer.began_at <= inner.began_at and inner.ended_at <= outer.ended_at


def _gaps(entry: Entry, kept: list[Entry]) -> list[Entry]:
    """The parts of `entry` that no kept one covers."""
    found: list[Entry] = []
    at = entry.slice.began_at
    inside = [other.slice for other in kept if _within(other.slice, entry.slice)]
    for piece in sorted(inside, key=lambda each: each.began_at):
        if at < piece.began_at:
            found.append(replace(entry, slice=replace(entry.slice, began_at=at, ended_at=piece.began_at)))
        at = max(at, piece.ended_at)
    if at < entry.slice.ended_at:
        found.append(replace(entry, slice=replace(entry.slice, began_at=at)))
    return found
