"""Readings and series: what they refuse to hold."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from broker.core.readings import (
    AverageIntensity,
    Boundary,
    EnergyPrice,
    MarginalIntensity,
    Quality,
    Scope,
    Series,
    in_order,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def reading(kind=AverageIntensity, start=NOON, **other):
    own = {"scope": Scope.DIRECT, "boundary": Boundary.PRODUCTION} if kind is AverageIntensity else {}
    given = {"zone": "US-CAL-CISO", "start": start, "end": start + HOUR, "value": 200.0, "source": "test"}
    return kind(**{**given, "fetched_at": NOON, "quality": Quality.MEASURED, **own, **other})


@pytest.mark.parametrize(
    "other",
    [
        {"kind": MarginalIntensity},
        {"zone": "US-TEX-ERCO"},
        {"scope": Scope.LIFECYCLE},
        {"boundary": Boundary.CONSUMPTION},
    ],
)
def test_a_series_never_mixes(other):
    with pytest.raises(ValueError, match="more than one"):
        Series((reading(), reading(start=NOON + HOUR, **other)))


def test_prices_in_two_currencies_are_two_series():
    price = {"kind": EnergyPrice, "value": Decimal("31.5")}

    with pytest.raises(ValueError, match="currency"):
        Series((reading(**price, currency="USD"), reading(**price, currency="EUR", start=NOON + HOUR)))


def test_two_readings_for_one_moment_are_refused_and_in_order_keeps_the_one_issued_later():
    first = reading(issued_at=NOON)
    revised = reading(issued_at=NOON + HOUR, value=180.0)

    with pytest.raises(ValueError, match="two readings"):
        Series((first, revised))
    assert [r.value for r in in_order([revised, first])] == [180.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"end": NOON},
        {"start": NOON.replace(tzinfo=None)},
        {"fetched_at": NOON.astimezone(timezone(-8 * HOUR))},
    ],
)
def test_what_is_no_number_or_no_interval_in_utc_is_refused(wrong):
    with pytest.raises((ValueError, TypeError)):
        reading(**wrong)


def test_a_series_is_asked_by_moment_and_age_counts_from_the_end_of_the_interval():
    series = Series((reading(), reading(start=NOON + 2 * HOUR, value=150.0)))

    assert series.at(NOON + HOUR / 2).value == 200.0
    assert series.at(NOON + HOUR) is None
    assert len(series.until(NOON + HOUR)) == 1
    assert len(series.since(NOON + HOUR)) == 1
    assert series.last().age(NOON + 5 * HOUR) == 2 * HOUR
    assert series.last().age(NOON) == timedelta(0)


def test_a_price_says_what_a_machine_costs_for_an_hour():
    price = reading(EnergyPrice, value=Decimal("31.50"), currency="USD")

    assert price.an_hour_of(Decimal("10.2")) == Decimal("0.3213")
