"""Forecasts: what they say, and that none of them sees the future."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.core.test_readings import reading

from broker.core.readings import Series
from broker.signals.forecast import Observation, fit, from_net_load, hourly, same_hour
from broker.signals.net_load import NetLoad

MIDNIGHT = datetime(2026, 5, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def days_of(values, end=MIDNIGHT):
    start = end - len(values) * HOUR
    return Series(
        tuple(reading(start=start + n * HOUR, end=start + (n + 1) * HOUR, value=v) for n, v in enumerate(values))
    )


def seen(count, tonnes=lambda net: 0.1 * net + 500, end=MIDNIGHT, length=HOUR):
    nets = [10_000 + 500 * (number % 24) for number in range(count)]
    start = end - count * length
    return [
        Observation(
            start=start + n * length,
            end=start + (n + 1) * length,
            load_mw=25_000,
            net_load_mw=net,
            tonnes_per_hour=tonnes(net),
        )
        for n, net in enumerate(nets)
    ]


def ahead(*nets, start=MIDNIGHT):
    return [
        NetLoad(start=start + n * HOUR, end=start + (n + 1) * HOUR, load_mw=20_000, net_load_mw=net, is_forecast=True)
        for n, net in enumerate(nets)
    ]


def test_tomorrow_is_as_yesterday():
    said = same_hour(days_of([float(n) for n in range(48)]), 24, MIDNIGHT)

    assert [r.value for r in said] == [float(n) for n in range(24, 48)]
    assert {(r.quality, r.is_estimated) for r in said} == {("profile", True)}
    assert said[0].start == MIDNIGHT


def test_beyond_a_day_and_over_gaps_it_goes_back_whole_days():
    past = days_of([float(n) for n in range(48)])
    holed = Series(tuple(r for r in past if r.value not in {30.0, 31.0, 7.0}))

    said = same_hour(holed, 48, MIDNIGHT)

    assert len(said) == 46
    assert (said[6].value, said[6].source) == (6.0, "test, as 2 d before")
    assert [r.start for r in said if r.value in {7.0, 31.0}] == []
    assert said[24 - 1].value == said[0].value == 24.0
    assert [r.value for r in same_hour(past, 2, MIDNIGHT, days=7)] == []


def test_the_curve_is_found_again():
    curve = fit(seen(100, tonnes=lambda net: 100 + 0.05 * net + 2e-6 * net**2))

    assert curve.at(15_000) == pytest.approx(100 + 750 + 450, rel=1e-6)
    assert curve.at(99_000) == curve.at(21_500)  # a parabola means nothing beyond what was seen
    assert fit(seen(100, tonnes=lambda net: -5.0)).at(12_000) == 0.0


def test_intensity_is_the_curve_over_the_load_that_is_forecast():
    [said] = from_net_load(seen(100), ahead(15_000), reading(), MIDNIGHT)

    assert said.value == pytest.approx(1000 * (0.1 * 15_000 + 500) / 20_000)
    assert (said.quality, said.zone, said.scope) == ("forecast", "US-CAL-CISO", "direct")


def test_five_minutes_weigh_as_much_as_they_last_and_a_short_past_gives_no_curve():
    assert fit(seen(47)) is None
    assert fit(seen(48 * 12 - 1, length=HOUR / 12)) is None
    assert fit(seen(48 * 12, length=HOUR / 12)) is not None
    flat = [row.__class__(**{**vars_of(row), "net_load_mw": 10_000}) for row in seen(100)]
    assert fit(flat) is None
    assert from_net_load(seen(10), ahead(1), reading(), MIDNIGHT) == []


def vars_of(row):
    return {name: getattr(row, name) for name in ("start", "end", "load_mw", "net_load_mw", "tonnes_per_hour")}


def test_hours_are_means_of_what_they_hold():
    quarter = HOUR / 4
    parts = [
        reading(start=MIDNIGHT + n * quarter, end=MIDNIGHT + (n + 1) * quarter, value=float(v))
        for n, v in enumerate([100, 200, 300, 400, 500])
    ]

    [hour] = hourly(Series(tuple(parts)))

    assert (hour.start, hour.end, hour.value) == (MIDNIGHT, MIDNIGHT + HOUR, 250.0)


@given(st.lists(st.floats(0, 900), min_size=96, max_size=96), st.integers(49, 72))
def test_no_forecast_sees_what_is_not_over_yet(future, at):
    now = days_of([0.0] * 96).readings[at].start
    known, other = days_of([5.0] * at + future[at:]), days_of([5.0] * at + [777.0] * (96 - at))
    nets = seen(96)
    changed = [row if row.end <= now else Observation(**{**vars_of(row), "tonnes_per_hour": 9e9}) for row in nets]

    assert [r.value for r in same_hour(known, 24, now)] == [r.value for r in same_hour(other, 24, now)]
    hours = ahead(12_000, 13_000, start=now)
    assert from_net_load(nets, hours, reading(), now) == from_net_load(changed, hours, reading(), now)


def test_what_is_over_is_not_forecast():
    said = from_net_load(seen(100), ahead(12_000, 13_000, start=MIDNIGHT - HOUR), reading(), MIDNIGHT)

    assert [r.start for r in said] == [MIDNIGHT]
