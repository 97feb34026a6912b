"""Old observations become hours, old hours become days: the one place where history is taken away.

The newest observation of each offer stays, however old: it says what the offer is now.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from broker.core.observations import Source
from broker.db.schema import offer_observations, offer_periods, offer_readings, offer_series

_HOUR = timedelta(hours=1)
# A daemon that was away saw nothing: what lies between two readings further apart than this does not count as seen.
# (Readings that change nothing are written down every 5 minutes.)
_UNSEEN_AFTER = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long single observations are kept, then hours; days are kept for ever.

    Shorter: chances of success are learned from less. Longer: megabytes (docs/explanation/availability.md).
    """

    observations: timedelta = timedelta(days=7)
    hours: timedelta = timedelta(days=60)


@dataclass(kw_only=True)
class _Period:
    price_low: Decimal
    price_high: Decimal
    price_last: Decimal
    available_s: int = 0
    changes: int = 0
    bought: int = 0
    refused: int = 0


def fold(db: Connection, now: datetime, retention: Retention, at_most: int = 200) -> int:
    """Fold the `at_most` offers that have waited longest; how many they were: 0 means that all is done."""
    until = _whole_hour(now - retention.observations)
    query = (
        select(offer_series.c.id, offer_series.c.provider, offer_series.c.folded_until)
        .where(or_(offer_series.c.folded_until.is_(None), offer_series.c.folded_until < until))
        .order_by(offer_series.c.folded_until, offer_series.c.id)
        .limit(at_most)
    )
    due = db.execute(query).all()
    gaps = {provider: _gaps(db, provider, until) for provider in {row.provider for row in due}}
    for row in due:
        _fold_observations(db, row.id, row.folded_until, until, gaps[row.provider])
    if due:
        ids = [row.id for row in due]
        db.execute(update(offer_series).where(offer_series.c.id.in_(ids)).values(folded_until=until))
        _fold_hours(db, ids, _whole_day(now - retention.hours))
    return len(due)


def forget_readings(db: Connection, now: datetime, retention: Retention) -> None:
    """Readings older than the observations they confirmed say nothing any more; call it when all is folded."""
    # One day more than the observations: the gaps of the last hours folded must still be seen.
    db.execute(delete(offer_readings).where(offer_readings.c.at < now - retention.observations - timedelta(days=1)))


def _fold_observations(
    db: Connection, series: int, since: datetime | None, until: datetime, gaps: Sequence[tuple[datetime, datetime]]
) -> None:
    of_series = offer_observations.c.series_id == series
    rows = db.execute(
        select(offer_observations)
        .where(of_series, offer_observations.c.at < until)
        .order_by(offer_observations.c.at, offer_observations.c.id)
    ).all()
    if not rows:
        return
    periods = _hours(rows, since, until, gaps)
    if periods:
        db.execute(insert(offer_periods), [_row(series, 1, start, period) for start, period in periods.items()])
    db.execute(
        delete(offer_observations).where(
            of_series, offer_observations.c.at < until, offer_observations.c.id != rows[-1].id
        )
    )


def _hours(
    rows: Sequence[Any], since: datetime | None, until: datetime, gaps: Sequence[tuple[datetime, datetime]]
) -> dict[datetime, _Period]:
    """Start → what the hour held; an hour in which nothing changed and nothing could be had is left out."""
    periods: dict[datetime, _Period] = {}
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        told_before = since is not None and row.at < since  # kept by the fold before, as what the offer was then
        if not told_before:
            period = _period(periods, _whole_hour(row.at), row.price_per_hour)
            period.changes += row.source == Source.LISTING
            period.bought += row.source == Source.CREATE_ACCEPTED
            period.refused += row.source == Source.CREATE_REFUSED
        if row.available:
            began = row.at if since is None else max(row.at, since)
            for low, high in _seen(began, after.at if after is not None else until, gaps):
                for start, seconds in _by_hour(low, high):
                    _period(periods, start, row.price_per_hour).available_s += seconds
    return periods


def _period(periods: dict[datetime, _Period], start: datetime, price: Decimal) -> _Period:
    period = periods.setdefault(start, _Period(price_low=price, price_high=price, price_last=price))
    period.price_low, period.price_high = min(period.price_low, price), max(period.price_high, price)
    period.price_last = price
    return period


def _by_hour(low: datetime, high: datetime) -> Iterator[tuple[datetime, int]]:
    start = _whole_hour(low)
    while start < high:
        seconds = round((min(high, start + _HOUR) - max(low, start)).total_seconds())
        if seconds:
            yield start, seconds
        start += _HOUR


def _seen(
    low: datetime, high: datetime, gaps: Iterable[tuple[datetime, datetime]]
) -> Iterator[tuple[datetime, datetime]]:
    """[`low`, `high`) without the gaps, which are in order."""
    for began, ended in gaps:
        if ended <= low or began >= high:
            continue
        if began > low:
            yield low, began
        low = max(low, ended)
    if low < high:
        yield low, high


def _gaps(db: Connection, provider: str, until: datetime) -> list[tuple[datetime, datetime]]:
    query = select(offer_readings.c.at).where(
        offer_readings.c.provider == provider, offer_readings.c.believed, offer_readings.c.at < until + _UNSEEN_AFTER
    )
    times = list(db.execute(query.order_by(offer_readings.c.at)).scalars())
    return [(before, after) for before, after in pairwise(times) if after - before > _UNSEEN_AFTER]


def _fold_hours(db: Connection, ids: Sequence[int], until: datetime) -> None:
    old = (offer_periods.c.series_id.in_(ids)) & (offer_periods.c.hours == 1) & (offer_periods.c.start < until)
    hours = db.execute(select(offer_periods).where(old).order_by(offer_periods.c.start)).all()
    days: dict[tuple[int, datetime], list[Any]] = defaultdict(list)
    for row in hours:
        days[row.series_id, _whole_day(row.start)].append(row)
    if days:
        db.execute(delete(offer_periods).where(old))
        db.execute(insert(offer_periods), [_row(series, 24, day, _sum(rows)) for (series, day), rows in days.items()])


def _sum(rows: Sequence[Any]) -> _Period:
    return _Period(
        price_low=min(row.price_low for row in rows),
        price_high=max(row.price_high for row in rows),
        price_last=rows[-1].price_last,
        available_s=sum(row.available_s for row in rows),
        changes=sum(row.changes for row in rows),
        bought=sum(row.bought for row in rows),
        refused=sum(row.refused for row in rows),
    )


def _row(series: int, hours: int, start: datetime, period: _Period) -> dict[str, Any]:
    return {"series_id": series, "hours": hours, "start": start, **vars(period)}


def _whole_hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _whole_day(at: datetime) -> datetime:
    return _whole_hour(at).replace(hour=0)
