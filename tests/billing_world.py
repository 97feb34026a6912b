"""A ledger with machines that were bought, used and given back, for tests of what becomes of their money."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from factories import a_lease, a_shape

from broker.billing.terms import Scope, TermKind
from broker.core.leases import LeaseState
from broker.core.usage import UsageEvent, UsageKind
from broker.db import jobs, leases, payers, usage
from broker.services.billing import Billing, Wanted
from broker.services.metering import Metering

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


class Machine:
    """One lease, written as the activities write it."""

    def __init__(
        self, engine, bought_at, price="3.60", node="h100-1", job=7, user="alice", account="lab", shape="h100"
    ):
        self.engine = engine
        self.price = Decimal(price)
        self.lease = a_lease(
            node=node,
            shape=shape,
            state=LeaseState.LAUNCHING,
            price_per_hour=self.price,
            created_at=bought_at,
            job_id=job,
        )
        with engine.begin() as db:
            leases.add(db, self.lease, "bought", bought_at)
            if job is not None:
                payers.record(db, self.lease.id, job, user, account)
            self.lease = leases.move(db, self.lease, LeaseState.BOOTSTRAPPING, "there", bought_at)
            usage.record(db, self._event(UsageKind.START, bought_at, bought_at))

    def ready(self, at):
        return self._move(LeaseState.READY, at)

    def job(self, job_id, began, ended, user="alice", account="lab"):
        with self.engine.begin() as db:
            jobs.attend(db, job_id, self.lease.id, user, began, account)
            jobs.mounted(db, job_id, self.lease.id, began)
            if ended is not None:
                jobs.end(db, job_id, self.lease.id, ended)
        return self

    def job_ends(self, job_id, at):
        with self.engine.begin() as db:
            jobs.end(db, job_id, self.lease.id, at)
        return self

    def given_back(self, at, gone=None):
        self._move(LeaseState.RELEASING, at)
        gone = gone or at
        with self.engine.begin() as db:
            self.lease = leases.move(db, self.lease, LeaseState.RELEASED, "gone", gone)
            usage.record(db, self._event(UsageKind.END, gone, gone))
        return self

    def _move(self, to, at):
        with self.engine.begin() as db:
            self.lease = leases.move(db, self.lease, to, str(to), at)
        return self

    def _event(self, kind, low, high):
        return UsageEvent(
            lease_id=self.lease.id, kind=kind, not_before=low, not_after=high, price_per_hour=self.price, currency="USD"
        )


def a_metering(engine, **changes):
    shapes = {
        "h100": a_shape(),
        "h100x8": a_shape(name="h100x8", accelerator_count=8),
        "cpu": a_shape(name="cpu", accelerator=None, accelerator_count=0),
    }
    values = {"engine": engine, "shapes": shapes, "granularity": {"lambda-a": timedelta(seconds=60)}}
    return Metering(**(values | changes))


def a_billing(engine, clock, **changes):
    values = {"engine": engine, "clock": clock, "metering": a_metering(engine), "currency": "USD"}
    return Billing(**(values | changes))


def a_term(kind, value, since=OCTOBER, *, text=None, currency=None, source=None, **scope):
    return Wanted(
        scope=Scope(kind=TermKind(kind), **scope),
        value=None if value is None else Decimal(value),
        text=text,
        currency=currency,
        effective_from=since,
        source=source,
    )
