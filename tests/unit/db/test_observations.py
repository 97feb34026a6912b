from datetime import timedelta
from decimal import Decimal

from factories import NOON, an_offer
from sqlalchemy import func, select

from broker.core.observations import Look, Observation, Source
from broker.db import observations
from broker.db.engine import reading
from broker.db.folding import Retention, fold, forget_readings
from broker.db.schema import offer_observations, offer_periods, offer_readings, offer_series

DAY = timedelta(days=1)
KEEP = Retention(observations=7 * DAY, hours=60 * DAY)


def saw(engine, at, *, available=True, price="4", zone="east", source=Source.LISTING):
    offer = an_offer(zone=zone, price_per_hour=Decimal(price))
    with engine.begin() as db:
        observations.append(db, [Observation(offer=offer, available=available, at=at, source=source)])


def looked(engine, *times):
    with engine.begin() as db:
        for at in times:
            observations.append_look(
                db,
                Look(provider="lambda-a", at=at, polls=1, rows=1, changes=0, believed=True, note=None, left_out={}),
            )


def folded(engine, now):
    with engine.begin() as db:
        while fold(db, now, KEEP):
            pass
        forget_readings(db, now, KEEP)


def periods(engine):
    with reading(engine) as db:
        return [
            (row.hours, row.start, str(row.price_low), str(row.price_last), row.available_s, row.changes)
            for row in db.execute(select(offer_periods).order_by(offer_periods.c.start, offer_periods.c.hours))
        ]


def count(engine, table):
    with reading(engine) as db:
        return db.execute(select(func.count()).select_from(table)).scalar()


def test_history_comes_back_as_it_was_seen(engine):
    saw(engine, NOON)
    saw(engine, NOON + timedelta(minutes=1), available=False, source=Source.CREATE_REFUSED)
    with reading(engine) as db:
        told = observations.history(db, NOON)
    assert [(one.sku.zone, one.at, one.available, one.source) for one in told] == [
        ("east", NOON, True, Source.LISTING),
        ("east", NOON + timedelta(minutes=1), False, Source.CREATE_REFUSED),
    ]
    assert count(engine, offer_series) == 1


def test_what_is_younger_than_the_retention_is_not_touched(engine):
    saw(engine, NOON - 6 * DAY)
    folded(engine, NOON)
    assert (count(engine, offer_observations), periods(engine)) == (1, [])


def test_old_observations_become_hours_with_their_price_and_the_time_it_could_be_had(engine):
    start = NOON - 9 * DAY
    saw(engine, start + timedelta(minutes=15))
    saw(engine, start + timedelta(minutes=30), price="5")
    saw(engine, start + timedelta(minutes=90), price="5", available=False)
    folded(engine, NOON)
    assert periods(engine) == [
        (1, start, "4", "5", 45 * 60, 2),
        (1, start + timedelta(hours=1), "5", "5", 30 * 60, 1),
    ]
    assert count(engine, offer_observations) == 1  # the newest says what the offer is now


def test_folding_day_by_day_is_folding_all_at_once(engine):
    saw(engine, NOON - 20 * DAY)
    saw(engine, NOON - 12 * DAY, available=False)
    saw(engine, NOON - 12 * DAY + timedelta(minutes=10), price="6")
    at_once = NOON + DAY
    for days in range(-12, 2):
        folded(engine, NOON + days * DAY)
    total = sum(available for *_, available, _ in periods(engine))
    lived = (at_once - 7 * DAY) - (NOON - 20 * DAY) - timedelta(minutes=10)
    assert total == lived.total_seconds()
    assert sum(changes for *_, changes in periods(engine)) == 3


def test_hours_become_days(engine):
    saw(engine, NOON - 100 * DAY)
    saw(engine, NOON - 98 * DAY, available=False)
    folded(engine, NOON)
    assert [(hours, available) for hours, *_, available, _ in periods(engine)] == [
        (24, 12 * 3600),
        (24, 24 * 3600),
        (24, 12 * 3600),
    ]


def test_time_in_which_nobody_looked_does_not_count_as_available(engine):
    began = NOON - 10 * DAY
    saw(engine, began)
    looked(engine, began, began + timedelta(minutes=5), began + timedelta(minutes=50), began + timedelta(minutes=55))
    saw(engine, began + timedelta(minutes=55), available=False)
    folded(engine, NOON)
    assert sum(available for *_, available, _ in periods(engine)) == 10 * 60


def test_purchases_are_counted_in_their_hour(engine):
    saw(engine, NOON - 10 * DAY)
    for source in (Source.CREATE_ACCEPTED, Source.CREATE_REFUSED, Source.CREATE_REFUSED):
        saw(engine, NOON - 10 * DAY, source=source, available=source is Source.CREATE_ACCEPTED)
    folded(engine, NOON)
    with reading(engine) as db:
        rows = db.execute(select(offer_periods.c.bought, offer_periods.c.refused)).all()
    assert (sum(row.bought for row in rows), sum(row.refused for row in rows)) == (1, 2)


def test_old_readings_are_forgotten(engine):
    looked(engine, NOON - 30 * DAY, NOON - DAY)
    folded(engine, NOON)
    assert count(engine, offer_readings) == 1
