"""A lease's time, cut into slices that add up to it, whatever happened and whenever it was looked at."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from factories import NOON
from hypothesis import given
from hypothesis import strategies as st

from broker.billing.booking import changes, standing
from broker.billing.slices import Metered, Occupancy, Payer, SliceKind, billed_until, slices
from broker.core.usage import UsageEvent, UsageKind, bounds

ALICE = Payer(job_id=7, user="alice", account="lab")
BOB = Payer(job_id=8, user="bob", account="chem")


def minutes(count):
    return NOON + timedelta(minutes=count)


def an_end(low, high):
    return UsageEvent(
        lease_id="l1",
        kind=UsageKind.END,
        not_before=low,
        not_after=high,
        price_per_hour=Decimal("4.29"),
        currency="USD",
    )


def metered(**changed):
    start = UsageEvent(
        lease_id="l1",
        kind=UsageKind.START,
        not_before=NOON - timedelta(seconds=2),
        not_after=NOON,
        price_per_hour=Decimal("4.29"),
        currency="USD",
    )
    values = {
        "lease_id": "l1",
        "start": start,
        "end": None,
        "ready_at": minutes(5),
        "released_at": None,
        "occupancies": (Occupancy(payer=ALICE, began_at=minutes(4), ended_at=minutes(35)),),
        "asked": ALICE,
        "provider": "lambda-a",
        "accelerator": "H100",
        "units": 1,
        "granularity": timedelta(seconds=60),
    }
    return Metered(**(values | changed))


def told(pieces):
    return [
        (
            piece.kind.value,
            piece.payer.job_id,
            *((at - NOON) / timedelta(minutes=1) for at in (piece.began_at, piece.ended_at)),
        )
        for piece in pieces
    ]


def test_a_node_boots_runs_its_job_idles_and_is_given_back():
    lease = metered(released_at=minutes(40), end=an_end(minutes(41), minutes(41)))

    assert told(slices(lease, minutes(600))) == [
        ("boot", 7, 0, 5),
        ("job", 7, 5, 35),
        ("idle", 7, 35, 40),
        ("release", 7, 40, 41),
    ]


def test_a_machine_that_never_became_a_node_is_a_failed_boot_even_when_a_job_was_led_to_it():
    lease = metered(ready_at=None, released_at=minutes(10), end=an_end(minutes(10), minutes(11)))

    assert told(slices(lease, minutes(600))) == [("failed_boot", 7, 0, 10)]


def test_time_is_idle_for_the_job_that_held_the_node_last():
    second = Occupancy(payer=BOB, began_at=minutes(50), ended_at=minutes(60))
    lease = metered(occupancies=(*metered().occupancies, second))

    assert told(slices(lease, minutes(70)))[2:] == [("idle", 7, 35, 50), ("job", 8, 50, 60), ("idle", 8, 60, 70)]


def test_jobs_that_hold_a_machine_together_have_equal_parts_of_it():
    both = (
        Occupancy(payer=ALICE, began_at=minutes(5), ended_at=minutes(35)),
        Occupancy(payer=BOB, began_at=minutes(20), ended_at=None),
    )
    pieces = slices(metered(occupancies=both), minutes(40))

    assert told(pieces) == [
        ("boot", 7, 0, 5),
        ("job", 7, 5, 20),
        ("job", 7, 20, 35),
        ("job", 8, 20, 35),
        ("job", 8, 35, 40),
    ]
    assert [(piece.part, piece.parts) for piece in pieces] == [(1, 1), (1, 1), (1, 2), (1, 2), (1, 1)]


def test_a_slice_ends_with_the_month_and_where_a_contract_begins():
    start = datetime(2026, 12, 31, 23, 0, tzinfo=UTC)
    lease = metered(start=replace(metered().start, not_before=start, not_after=start), ready_at=start, occupancies=())
    contract = start + timedelta(hours=2)

    pieces = slices(lease, start + timedelta(hours=4), [contract])

    assert [piece.ended_at for piece in pieces] == [
        datetime(2027, 1, 1, tzinfo=UTC),
        contract,
        start + timedelta(hours=4),
    ]


def test_the_provider_bills_its_begun_minute():
    lease = metered(released_at=minutes(40), end=an_end(minutes(40) + timedelta(seconds=1), minutes(42)))

    assert billed_until(lease) == minutes(41)


def test_a_machine_that_vanished_is_charged_until_it_was_missed_not_from_its_first_second():
    lease = metered(released_at=minutes(30), end=an_end(NOON, minutes(31)), occupancies=())

    assert billed_until(lease) == minutes(30)


moments = st.integers(0, 90 * 24 * 60).map(minutes)
spans = st.tuples(moments, st.one_of(st.none(), moments))
payers = st.sampled_from([ALICE, BOB, Payer(job_id=9, user="alice", account="lab"), Payer(job_id=10, user="eve")])


@st.composite
def leases(draw):
    low, high = sorted((draw(moments), draw(moments)))
    occupancies = tuple(
        Occupancy(payer=draw(payers), began_at=began, ended_at=None if ended is None else max(began, ended))
        for began, ended in draw(st.lists(spans, max_size=5))
    )
    return metered(
        ready_at=draw(st.one_of(st.none(), moments)),
        released_at=draw(st.one_of(st.none(), moments)),
        occupancies=occupancies,
        end=draw(st.one_of(st.none(), st.just(an_end(low, high)))),
        granularity=timedelta(seconds=draw(st.sampled_from([1, 60, 600]))),
    )


@given(leases(), moments, st.lists(moments, max_size=3))
def test_the_slices_of_any_lease_add_up_to_all_of_its_time(lease, until, cuts):
    ended = billed_until(lease)
    finish = until if ended is None else min(until, ended)
    pieces = slices(lease, until, cuts)

    whole = max(timedelta(0), finish - NOON) // timedelta(microseconds=1)
    parts = (Fraction((p.ended_at - p.began_at) // timedelta(microseconds=1) * p.part, p.parts) for p in pieces)
    assert sum(parts) == whole
    assert all(p.began_at < p.ended_at for p in pieces)
    assert all(not p.began_at < cut < p.ended_at for p in pieces for cut in cuts)
    assert all((p.ended_at - timedelta(microseconds=1)).month == p.began_at.month for p in pieces)


@given(leases(), moments)
def test_what_is_charged_lies_within_the_bounds_of_the_providers_bill(lease, until):
    ended = billed_until(lease)
    if ended is None or ended > until:
        return
    pieces = slices(lease, until)
    cost = sum((entry.cost for entry in changes([], lease, pieces, until)), Fraction(0))
    bound = bounds(lease.start, lease.end, until, lease.granularity)

    assert Fraction(bound.low) <= cost + Fraction(1, 10**6)
    assert cost <= Fraction(bound.high)


@given(st.lists(st.tuples(leases(), moments), min_size=1, max_size=6))
def test_whatever_was_believed_before_the_ledger_ends_as_the_last_facts_say(history):
    written = []
    for lease, until in history:
        for number, entry in enumerate(changes(written, lease, slices(lease, until), until), start=len(written) + 1):
            written.append(replace(entry, id=number))
    lease, until = history[-1]

    fresh = changes([], lease, slices(lease, until), until)
    assert covered(standing(written)) == covered(fresh)
    assert sum(entry.cost for entry in written) == sum(entry.cost for entry in fresh)
    assert changes(written, lease, slices(lease, until), until) == []
    reversed_ids = [entry.reverses for entry in written if entry.reverses is not None]
    assert len(reversed_ids) == len(set(reversed_ids))


def covered(entries):
    """Kind and payer → microseconds, however finely they are cut."""
    sums = {}
    for entry in entries:
        sums[entry.what] = sums.get(entry.what, 0) + entry.machine_us
    return sums


def test_an_hour_more_is_one_line_more_and_nothing_is_reversed():
    lease = metered(occupancies=(Occupancy(payer=ALICE, began_at=minutes(5), ended_at=None),))
    first = [replace(e, id=n) for n, e in enumerate(changes([], lease, slices(lease, minutes(60)), NOON))]

    more = changes(first, lease, slices(lease, minutes(120)), NOON)

    assert [(entry.reverses, *told([entry.slice])[0]) for entry in more] == [(None, "job", 7, 60, 120)]


def test_a_job_that_ended_earlier_than_was_booked_is_taken_back_and_put_down_anew():
    running = metered(occupancies=(Occupancy(payer=ALICE, began_at=minutes(5), ended_at=None),))
    first = [replace(e, id=n) for n, e in enumerate(changes([], running, slices(running, minutes(60)), NOON))]

    later = changes(first, metered(), slices(metered(), minutes(60)), NOON)

    assert [(entry.reverses, entry.slice.kind) for entry in later] == [
        (1, SliceKind.JOB),
        (None, SliceKind.JOB),
        (None, SliceKind.IDLE),
    ]
