from datetime import timedelta
from decimal import Decimal

from factories import NOON
from hypothesis import given
from hypothesis import strategies as st

from broker.core.usage import UsageEvent, UsageKind, bounds


def event(kind, earliest, latest):
    return UsageEvent(
        lease_id="l1",
        kind=kind,
        not_before=NOON + timedelta(seconds=earliest),
        not_after=NOON + timedelta(seconds=latest),
        price_per_hour=Decimal("6"),
        currency="USD",
    )


def test_a_machine_billed_by_begun_minutes_costs_between_its_shortest_and_longest_life():
    cost = bounds(event(UsageKind.START, 0, 2), event(UsageKind.END, 61, 63), NOON, timedelta(minutes=1))
    assert (cost.low, cost.high) == (Decimal("0.1"), Decimal("0.2"))


def test_a_machine_that_still_runs_costs_up_to_now():
    cost = bounds(event(UsageKind.START, 0, 0), None, NOON + timedelta(minutes=30), timedelta(minutes=1))
    assert cost.low == cost.high == Decimal("3")


def test_where_nothing_is_billed_before_the_machine_runs_the_low_bound_begins_when_it_was_seen_to():
    start, end = event(UsageKind.START, 0, 2), event(UsageKind.END, 62, 63)
    cost = bounds(start, end, NOON, timedelta(seconds=1), NOON + timedelta(seconds=32))
    assert (cost.low, cost.high) == (Decimal("0.05"), Decimal("0.105"))
    never_seen = bounds(start, end, NOON, timedelta(seconds=1), NOON + timedelta(hours=1))
    assert never_seen.low == 0


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 500), st.integers(0, 9), st.integers(1, 3600))
def test_the_true_bill_always_lies_within_the_bounds(start, start_slack, life, end_slack, unit):
    end = start + start_slack + life
    cost = bounds(
        event(UsageKind.START, start, start + start_slack),
        event(UsageKind.END, end, end + end_slack),
        NOON,
        timedelta(seconds=unit),
    )
    for began, ended in ((start, end + end_slack), (start + start_slack, end)):
        units = -(-(ended - began) // unit)
        assert cost.low <= Decimal(6) * units * unit / 3600 <= cost.high
