"""Two workers at one ledger at the same time: real threads, real transactions, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from factories import NOON, a_lease
from sqlalchemy.exc import IntegrityError

from broker.core.blocks import Cause, Failure, Target
from broker.core.errors import StaleLease
from broker.core.leases import LeaseState, label_for
from broker.core.usage import UsageEvent, UsageKind
from broker.db import blocks, leases, purchasing, usage
from broker.db.engine import reading


def both(*workers):
    """Run the workers at once; what each returned or raised."""
    start = threading.Barrier(len(workers))

    def run(worker):
        start.wait(10)
        try:
            return worker()
        except Exception as exc:
            return exc

    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(run, workers))


@pytest.fixture
def first_holds(engine):
    """Runs `first` in a transaction that is open while `second` begins; what `second` came to."""

    def run(first, second):
        written, done = threading.Event(), threading.Event()

        def hold():
            with engine.begin() as db:
                first(db)
                written.set()
                # On PostgreSQL the second comes as far as the first one's lock, on SQLite not even past its BEGIN.
                done.wait(0.2)

        def follow():
            assert written.wait(10)
            try:
                with engine.begin() as db:
                    return second(db)
            finally:
                done.set()

        _, came = both(hold, follow)
        return came

    return run


def buy_the_last_allowed(db, lease):
    """What `launch` does between the limits and the intent."""
    purchasing.take_turn(db)
    if any(other.label is not None for other in leases.living(db)):
        return "over the limit"
    leases.move(db, lease, LeaseState.LAUNCHING, "buying", NOON, label=label_for("test", lease.id, 1))
    return "bought"


def test_of_two_buyers_of_the_last_allowed_node_one_buys(engine):
    wanted = [a_lease(node=f"h100-{number}") for number in range(8)]
    with engine.begin() as db:
        for lease in wanted:
            leases.add(db, lease, "asked", NOON)

    def buyer(lease):
        def buy():
            with engine.begin() as db:
                return buy_the_last_allowed(db, lease)

        return buy

    assert sorted(both(*map(buyer, wanted))) == ["bought", *["over the limit"] * 7]
    with reading(engine) as db:
        assert [lease.state for lease in leases.living(db)].count("launching") == 1


def test_a_buyer_that_waited_for_its_turn_sees_what_the_one_before_it_bought(engine, first_holds):
    first, second = a_lease(node="h100-1"), a_lease(node="h100-2")
    with engine.begin() as db:
        leases.add(db, first, "asked", NOON)
        leases.add(db, second, "asked", NOON)

    came = first_holds(lambda db: buy_the_last_allowed(db, first), lambda db: buy_the_last_allowed(db, second))

    assert came == "over the limit"


def test_after_a_pause_was_written_nothing_is_bought(engine, first_holds):
    def buy(db):
        purchasing.take_turn(db)
        return purchasing.paused(db)

    assert first_holds(lambda db: purchasing.set_paused(db, "maintenance", "root"), buy) == "maintenance"


def test_of_two_workers_that_move_one_lease_the_second_is_told(engine, first_holds):
    lease = a_lease(state=LeaseState.BOOTSTRAPPING)
    with engine.begin() as db:
        leases.add(db, lease, "bought", NOON)

    came = first_holds(
        lambda db: leases.move(db, lease, LeaseState.READY, "up", NOON),
        lambda db: leases.move(db, lease, LeaseState.RELEASING, "too late", NOON),
    )

    assert isinstance(came, StaleLease)
    with reading(engine) as db:
        assert leases.get(db, lease.id).state is LeaseState.READY
        assert [event.became for event in leases.events(db, lease.id)] == ["bootstrapping", "ready"]


def test_a_lease_read_to_be_written_is_read_after_the_worker_before_has_written_it(engine, first_holds):
    lease = a_lease(state=LeaseState.BOOTSTRAPPING)
    with engine.begin() as db:
        leases.add(db, lease, "bought", NOON)

    def give_up(db):
        return leases.move(db, leases.get(db, lease.id), LeaseState.DRAINING, "suspended", NOON).version

    assert first_holds(lambda db: leases.move(db, lease, LeaseState.READY, "up", NOON), give_up) == 3


def test_who_waits_for_the_holder_of_a_name_sees_its_next_holder(engine, first_holds):
    lease, following = a_lease(state=LeaseState.BOOTSTRAPPING), a_lease(attempt=2)
    with engine.begin() as db:
        leases.add(db, lease, "bought", NOON)

    def abandon(db):
        leases.move(db, lease, LeaseState.RELEASING, "no good", NOON)
        leases.add(db, following, "attempt 2", NOON)

    assert first_holds(abandon, lambda db: leases.holding(db, "h100-1")) == following


def test_of_two_leases_for_one_name_the_database_takes_one(engine):
    def add():
        with engine.begin() as db:
            leases.add(db, a_lease(), "asked", NOON)
        return "added"

    came = both(*[add] * 6)

    assert came.count("added") == 1
    assert sum(isinstance(result, IntegrityError) for result in came) == 5


def test_the_end_of_a_usage_is_written_once_by_whoever_saw_it_first(engine, first_holds):
    lease = a_lease(state=LeaseState.RELEASING)
    with engine.begin() as db:
        leases.add(db, lease, "bought", NOON)

    def record(seconds):
        at = NOON + timedelta(seconds=seconds)
        event = UsageEvent(
            lease_id=lease.id,
            kind=UsageKind.END,
            not_before=at,
            not_after=at,
            price_per_hour=lease.price_per_hour,
            currency="USD",
        )
        return lambda db: usage.record(db, event)

    assert first_holds(record(1), record(2)) is None
    with reading(engine) as db:
        assert usage.of_lease(db, lease.id)[UsageKind.END].not_after == NOON + timedelta(seconds=1)


def test_two_failures_at_once_are_both_counted(engine, first_holds):
    bad = Failure(cause=Cause.PROTECTED, provider="lambda-a", subject="i" * 12, reason="no boot")

    block, opened = first_holds(lambda db: blocks.fail(db, bad, NOON), lambda db: blocks.fail(db, bad, NOON))
    assert (block.strikes, opened) == (2, False)
    with reading(engine) as db:
        assert [block.strikes for block in blocks.current(db)] == [2]


def test_a_reader_sees_one_moment_and_holds_nobody_up(engine):
    lease = a_lease()
    with engine.begin() as db:
        leases.add(db, lease, "asked", NOON)
    with reading(engine) as reader:
        assert leases.get(reader, lease.id).version == 1
        with engine.begin() as writer:
            leases.amend(writer, lease, None, NOON, reason="changed")
        assert leases.get(reader, lease.id).version == 1
    with reading(engine) as reader:
        assert leases.get(reader, lease.id).version == 2


def test_of_two_buyers_at_a_half_open_block_one_tries(engine):
    wanted = [
        a_lease(node=f"h100-{number}", job_id=number, offer_id="lambda-a/x/z/on_demand", provider="lambda-a")
        for number in range(2)
    ]
    target = Target(provider="lambda-a", offer_id="lambda-a/x/z/on_demand")
    sold_out = Failure(cause=Cause.SOLD_OUT, provider="lambda-a", subject=target.offer_id, reason="sold out")
    with engine.begin() as db:
        blocks.fail(db, sold_out, NOON)
        for lease in wanted:
            leases.add(db, lease, "asked", NOON)

    def buy(lease):
        with engine.begin() as db:
            purchasing.take_turn(db)
            standing = blocks.view(db, NOON + timedelta(minutes=2), "image", lease.job_id)
            if standing.stop_at(target, lease.id) is not None:
                return "stopped"
            blocks.claim(db, standing.to_try(target), lease.id, NOON)
            return "tries"

    assert sorted(both(*(partial(buy, lease) for lease in wanted))) == ["stopped", "tries"]
