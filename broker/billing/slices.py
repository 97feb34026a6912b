"""What a rented machine's time was spent on, cut so that the slices add up to all of it, exactly."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from broker.core.usage import UsageEvent


class SliceKind(StrEnum):
    BOOT = "boot"
    """From the purchase until Slurm could use the node."""
    FAILED_BOOT = "failed_boot"
    """All of a machine that never became a node."""
    JOB = "job"
    IDLE = "idle"
    """A node that no job held: between jobs, or after the last one."""
    PARKED = "parked"
    RELEASE = "release"
    """From the decision to give it back until the provider stopped billing."""


@dataclass(frozen=True, kw_only=True)
class Payer:
    """The job that a slice is put down to. All None: nobody's, so it stays the site's own cost."""

    job_id: int | None = None
    user: str | None = None
    account: str | None = None


NOBODY = Payer()


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """A job held the machine in [`began_at`, `ended_at`); None: it still does."""

    payer: Payer
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Metered:
    """All that a lease's usage follows from. `asked`: who made us buy it. `units`: its GPUs; 1 for a machine without.

    `ready_at`: Slurm could use it from then on; None: it never could. `released_at`: when it was decided to give it back.
    `granularity`: the provider bills begun units of it. `parked`: spans without a node name.
    """

    lease_id: str
    start: UsageEvent
    end: UsageEvent | None
    ready_at: datetime | None
    released_at: datetime | None
    occupancies: tuple[Occupancy, ...]
    asked: Payer
    provider: str | None
    accelerator: str | None
    units: int
    granularity: timedelta
    parked: tuple[tuple[datetime, datetime | None], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slice:
    """[`began_at`, `ended_at`) of one lease for one payer, who shares it with others: `part` of `parts`."""

    kind: SliceKind
    payer: Payer
    began_at: datetime
    ended_at: datetime
    part: int = 1
    parts: int = 1

    @property
    def what(self) -> tuple[SliceKind, Payer, int]:
        """Slices that agree in this are one when they touch."""
        return self.kind, self.payer, self.parts


def billed_until(metered: Metered) -> datetime | None:
    """When billing ended, as near as we know within the bounds, with the provider's begun unit; None: it still runs."""
    begin, end = metered.start.not_after, metered.end
    if end is None:
        return None
    # One that ended by itself may have done so at any time before we saw it; until then its job was believed to run.
    believed = metered.released_at or end.not_after
    used = max(timedelta(0), min(max(believed, end.not_before), end.not_after) - begin)
    return begin + -(-used // metered.granularity) * metered.granularity


def slices(metered: Metered, until: datetime, cuts: Iterable[datetime] = ()) -> list[Slice]:
    """The lease's time up to `until`, cut at months' ends (UTC) and at `cuts` (contracts); in order, without a gap.

    Where several jobs held the machine at once, each has an equal part of it.
    """
    begin, ended = metered.start.not_after, billed_until(metered)
    finish = until if ended is None else min(until, ended)
    if finish <= begin:
        return []
    hard = {cut for cut in (*month_starts(begin, finish), *cuts) if begin < cut < finish}
    soft = {at for at in _changes(metered) if begin < at < finish}
    edges = sorted({begin, finish} | hard | soft)
    pieces: dict[tuple[SliceKind, Payer, int], Slice] = {}
    done: list[Slice] = []
    for low, high in pairwise(edges):
        now = {piece.what: piece for piece in _piece(metered, low, high)}
        for what, piece in now.items():
            before = pieces.get(what)
            if before is not None and low not in hard and before.part == piece.part:
                now[what] = replace(before, ended_at=high)
                del pieces[what]
        done.extend(pieces.values())
        pieces = now
    done.extend(pieces.values())
    return sorted(done, key=lambda each: (each.began_at, each.payer.job_id or 0, each.part))


def month_starts(low: datetime, high: datetime) -> Iterator[datetime]:
    """The first moments of the months after `low` and before `high`, UTC."""
    at = next_month(low)
    while at < high:
        yield at
        at = next_month(at)


def month_start(at: datetime) -> datetime:
    """The first moment of the month, UTC."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(at: datetime) -> datetime:
    """The first moment of the next month, UTC."""
    first = month_start(at)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _changes(metered: Metered) -> Iterator[datetime]:
    for at in (metered.ready_at, metered.released_at):
        if at is not None:
            yield at
    for low, high in (*metered.parked, *((each.began_at, each.ended_at) for each in metered.occupancies)):
        yield low
        if high is not None:
            yield high


def _piece(metered: Metered, low: datetime, high: datetime) -> list[Slice]:
    """What [`low`, `high`) was, in which nothing changes."""
    ready, released = metered.ready_at, metered.released_at
    if ready is None or low < ready:
        failed = ready is None and (released is not None or metered.end is not None)
        kind = SliceKind.FAILED_BOOT if failed else SliceKind.BOOT
        return [Slice(kind=kind, payer=metered.asked, began_at=low, ended_at=high)]
    holding = sorted(
        {each.payer for each in metered.occupancies if _covers(each.began_at, each.ended_at, low)},
        key=lambda payer: (payer.job_id or 0, payer.account or "", payer.user or ""),
    )
    if holding:
        return [
            Slice(kind=SliceKind.JOB, payer=payer, began_at=low, ended_at=high, part=1, parts=len(holding))
            for payer in holding
        ]
    kind = SliceKind.IDLE
    if released is not None and low >= released:
        kind = SliceKind.RELEASE
    elif any(_covers(began, ended, low) for began, ended in metered.parked):
        kind = SliceKind.PARKED
    return [Slice(kind=kind, payer=_last(metered, low), began_at=low, ended_at=high)]


def _covers(began: datetime, ended: datetime | None, at: datetime) -> bool:
    return began <= at and (ended is None or at < ended)


def _last(metered: Metered, at: datetime) -> Payer:
    """Whose job held the machine last before `at`; else who asked for it."""
    before = [each for each in metered.occupancies if each.ended_at is not None and each.ended_at <= at]
    if not before:
        return metered.asked
    return max(before, key=lambda each: (each.ended_at or at, each.payer.job_id or 0)).payer
