"""From leases to closed months, on both databases."""

import csv
import io
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from billing_world import DECEMBER, NOVEMBER, OCTOBER, Machine, a_billing, a_metering, a_term
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from broker.billing.export import to_csv
from broker.billing.invoices import period_of
from broker.billing.slices import SliceKind
from broker.core.errors import BrokerError, Refused
from broker.db import usage_entries
from broker.db.engine import reading
from broker.db.schema import invoices
from broker.db.schema import usage_entries as entries_table

HOUR = timedelta(hours=1)


@pytest.fixture
def clock(clock):
    clock.now = NOVEMBER + HOUR
    return clock


@pytest.fixture
def billing(engine, clock):
    return a_billing(engine, clock)


def a_used_machine(engine, at=OCTOBER, **changes):
    """A quarter of an hour of boot, two hours of a job, an hour idle, gone."""
    machine = Machine(engine, at, **changes).ready(at + HOUR / 4)
    job = {key: changes[key] for key in ("user", "account") if key in changes}
    machine.job(7, at + HOUR / 4, at + 2 * HOUR + HOUR / 4, **job)
    return machine.given_back(at + 3 * HOUR + HOUR / 4)


def test_without_any_term_usage_is_charged_as_the_provider_takes_it(engine, billing):
    a_used_machine(engine)

    (invoice,) = billing.close(period_of("2026-10"), None, "root").made

    assert (invoice.id, invoice.account, invoice.net_minor, invoice.currency) == ("2026-10-lab", "lab", 1170, "USD")
    assert [(line.kind, line.hours, line.minor) for line in invoice.lines] == [
        (SliceKind.JOB, 2, 720),
        (SliceKind.BOOT, Fraction(1, 4), 90),
        (SliceKind.IDLE, 1, 360),
    ]


def test_closing_again_changes_nothing(engine, billing):
    a_used_machine(engine)
    first = billing.close(period_of("2026-10"), None, "root")

    again = billing.close(period_of("2026-10"), None, "eve")

    assert again.made == ()
    assert [each.id for each in again.already] == [each.id for each in first.made]
    assert billing.invoices(None, None) == list(again.already)
    assert again.already[0].closed_by == "root"


def test_a_month_that_is_not_over_cannot_be_closed(billing):
    with pytest.raises(Refused, match="2026-11 ends at 2026-12-01"):
        billing.close(period_of("2026-11"), None, "root")


def test_a_later_month_waits_for_an_earlier_one(engine, billing, clock):
    a_used_machine(engine)
    a_used_machine(engine, NOVEMBER)
    clock.now = DECEMBER + HOUR

    with pytest.raises(Refused, match="lab has usage of 2026-10, which is not closed"):
        billing.close(period_of("2026-11"), None, "root")


def test_a_price_of_the_account_stands_before_that_of_all_and_a_margin_where_there_is_none(engine, billing):
    billing.set_term(a_term("price", "2.00", accelerator="H100"), "root")
    billing.set_term(a_term("price", "3.00", accelerator="H100", account="chem"), "root")
    billing.set_term(a_term("margin", "10"), "root")
    a_used_machine(engine)
    a_used_machine(engine, account="chem", node="h100-2")
    a_used_machine(engine, account="bio", node="cpu-1", shape="cpu", price="1.00")

    made = {each.account: each for each in billing.close(period_of("2026-10"), None, "root").made}

    assert {name: each.net_minor for name, each in made.items()} == {"lab": 650, "chem": 975, "bio": 358}
    assert {line.basis for line in made["bio"].lines} == {"cost + 10 %"}


def test_a_price_is_of_each_gpu_of_the_machine(engine, billing):
    billing.set_term(a_term("price", "2.00"), "root")
    a_used_machine(engine, shape="h100x8", price="24.00")

    (invoice,) = billing.close(period_of("2026-10"), None, "root").made

    assert invoice.net_minor == 200 * 8 * 325 // 100


def test_a_new_price_holds_from_its_hour_on_and_cuts_the_job_there(engine, billing, clock):
    clock.now = OCTOBER
    billing.set_term(a_term("price", "2.00"), "root")
    billing.set_term(a_term("price", "4.00", OCTOBER + HOUR), "root")
    a_used_machine(engine)
    clock.now = NOVEMBER + HOUR

    (invoice,) = billing.close(period_of("2026-10"), None, "root").made

    jobs = [line for line in invoice.lines if line.kind is SliceKind.JOB]
    assert [(line.unit_price, line.hours, line.minor) for line in jobs] == [
        (2, Fraction(3, 4), 150),
        (4, Fraction(5, 4), 500),
    ]


def test_a_term_does_not_rewrite_what_it_charged_before(engine, billing, clock):
    billing.set_term(a_term("price", "2.00", OCTOBER), "root")

    with pytest.raises(Refused, match="has been in force since 2026-10-01 00:00 UTC"):
        billing.set_term(a_term("price", "1.00", OCTOBER + HOUR), "root")
    a_used_machine(engine)
    billing.close(period_of("2026-10"), None, "root")
    with pytest.raises(Refused, match="before 2026-11-01 is invoiced already"):
        billing.set_term(a_term("price", "1.00", OCTOBER, account="lab"), "root")

    billing.set_term(a_term("price", "1.00", None), "root")
    assert billing.invoice("2026-10-lab").net_minor == 650


def test_a_term_that_is_withdrawn_leaves_the_next_wider_one(engine, billing, clock):
    clock.now = OCTOBER
    billing.set_term(a_term("price", "2.00"), "root")
    billing.set_term(a_term("price", "9.00", account="lab"), "root")
    billing.set_term(a_term("price", None, OCTOBER + timedelta(minutes=1), account="lab"), "root")
    a_used_machine(engine, OCTOBER + HOUR)
    clock.now = NOVEMBER + HOUR

    assert billing.close(period_of("2026-10"), None, "root").made[0].net_minor == 650


def test_free_hours_are_taken_off_once_a_month_in_the_order_of_use(engine, billing):
    billing.set_term(a_term("price", "2.00"), "root")
    billing.set_term(a_term("quota", "4"), "root")
    a_used_machine(engine)
    a_used_machine(engine, OCTOBER + 24 * HOUR)

    (invoice,) = billing.close(period_of("2026-10"), None, "root").made

    assert sum(line.free_hours for line in invoice.lines) == 4
    assert invoice.net_minor == 500
    assert "free hours taken off" in invoice.lines[0].text


def test_boots_that_fail_are_the_sites_unless_it_says_otherwise(engine, billing):
    Machine(engine, OCTOBER).given_back(OCTOBER + HOUR)

    (first,) = billing.preview(period_of("2026-10"), None).invoices
    billing.set_term(a_term("share", "50", slice_kind=SliceKind.FAILED_BOOT), "root")
    (then,) = billing.preview(period_of("2026-10"), None).invoices

    assert (first.net_minor, then.net_minor) == (0, 180)
    assert first.lines[0].text == "H100 GPU-hours, boots that failed, alice, 0 % charged"


def test_what_nobody_asked_for_is_shown_as_the_sites_own(engine, billing):
    Machine(engine, OCTOBER, job=None).given_back(OCTOBER + HOUR)

    preview = billing.preview(period_of("2026-10"), None)

    assert preview.invoices == ()
    assert preview.sites_own == {"USD": Fraction(36, 10)}


def test_money_of_another_currency_needs_a_rate_with_its_source(engine, clock):
    billing = a_billing(engine, clock, currency="EUR")
    a_used_machine(engine)

    with pytest.raises(BrokerError, match="no rate of exchange held then; `broker rate set exchange VALUE --name USD"):
        billing.close(period_of("2026-10"), None, "root")
    with pytest.raises(BrokerError, match="--source"):
        billing.set_term(a_term("exchange", "0.5", name="USD"), "root")
    billing.set_term(a_term("exchange", "0.5", name="USD", source="ECB 2026-10-01"), "root")

    (invoice,) = billing.close(period_of("2026-10"), None, "root").made
    assert (invoice.net_minor, invoice.currency) == (585, "EUR")
    assert {(line.currency, line.exchange, line.exchange_source) for line in invoice.lines} == {
        ("USD", Decimal("0.5"), "ECB 2026-10-01")
    }


def test_taxes_come_on_top_of_the_rounded_net(engine, billing):
    billing.set_term(a_term("tax", "19", name="VAT"), "root")
    billing.set_term(a_term("tax", "0", name="VAT", account="chem"), "root")
    billing.set_term(a_term("cost_centre", None, text="K-77", account="lab"), "root")
    a_used_machine(engine)
    a_used_machine(engine, account="chem", node="h100-2")

    chem, lab = billing.close(period_of("2026-10"), None, "root").made

    assert [(tax.name, tax.minor) for tax in lab.taxes] == [("VAT", 222)]
    assert (lab.total_minor, lab.cost_centre) == (1392, "K-77")
    assert chem.taxes == ()


def test_usage_that_is_known_late_comes_on_the_next_invoice_and_a_mistake_is_taken_back_there(engine, billing, clock):
    machine = Machine(engine, OCTOBER).ready(OCTOBER).job(7, OCTOBER, None)
    clock.now = NOVEMBER + HOUR
    (october,) = billing.close(period_of("2026-10"), None, "root").made
    # Slurm says later that the job had ended on the second day, and the machine was gone with it.
    machine.job_ends(7, OCTOBER + 24 * HOUR)
    machine.given_back(OCTOBER + 24 * HOUR)
    clock.now = DECEMBER + HOUR

    (november,) = billing.close(period_of("2026-11"), None, "root").made

    assert october.net_minor == 360 * 24 * 31
    assert november.net_minor == -360 * 24 * 30
    assert "(correction of 2026-10)" in november.lines[0].text


def test_what_runs_is_in_the_preview_and_not_in_the_ledger(engine, billing, clock):
    Machine(engine, NOVEMBER).ready(NOVEMBER).job(7, NOVEMBER, None)
    clock.now = NOVEMBER + HOUR + HOUR / 2
    a_metering(engine).book(clock.now)

    preview = billing.preview(period_of("2026-11"), None)

    assert preview.invoices[0].net_minor == 540
    assert preview.provisional == {"lab": Fraction(18, 10)}
    with reading(engine) as db:
        assert [e.cost for e in usage_entries.not_invoiced(db, DECEMBER)] == [Fraction(36, 10)]


def test_a_job_over_the_months_end_is_on_both_invoices_and_nothing_is_lost_between(engine, billing, clock):
    start = NOVEMBER - HOUR / 3
    Machine(engine, start, price="0.01").ready(start).job(7, start, start + HOUR).given_back(start + HOUR)
    (october,) = billing.close(period_of("2026-10"), None, "root").made
    clock.now = DECEMBER + HOUR
    (november,) = billing.close(period_of("2026-11"), None, "root").made

    assert sum(line.hours for line in october.lines + november.lines) == 1
    assert (october.net_minor, november.net_minor) == (0, 1)
    assert (october.carried_out, november.carried_out) == (Fraction(1, 300), 0)


def test_a_credit_note_is_made_once_and_never_for_more_than_is_left(engine, billing):
    billing.set_term(a_term("tax", "19", name="VAT"), "root")
    a_used_machine(engine)
    billing.close(period_of("2026-10"), None, "root")

    note = billing.credit("2026-10-lab", Decimal("10.00"), "the node was broken", "root")
    again = billing.credit("2026-10-lab", Decimal("10.00"), "the node was broken", "root")

    assert (note.id, note.net_minor, note.total_minor) == ("2026-10-lab-credit-1", -1000, -1190)
    exported = list(csv.DictReader(io.StringIO(to_csv([note]))))
    assert [(row["position"], row["amount"]) for row in exported] == [("1", "-10.00"), ("2", "-1.90")]
    assert again == note
    with pytest.raises(BrokerError, match=r"1\.70 USD of its net can be credited"):
        billing.credit("2026-10-lab", Decimal("2.00"), "and again", "root")
    with pytest.raises(BrokerError, match="2 decimals at most"):
        billing.credit("2026-10-lab", Decimal("0.001"), "dust", "root")


def test_the_database_itself_refuses_to_change_or_drop_a_line(engine, billing):
    a_used_machine(engine)
    billing.close(period_of("2026-10"), None, "root")

    for statement in (
        update(entries_table).values(units=2),
        delete(entries_table),
        update(invoices).values(net_minor=1),
        text("DELETE FROM charges"),
    ):
        with pytest.raises(DBAPIError, match="only grows"), engine.begin() as db:
            db.execute(statement)


def test_what_is_settled_is_not_looked_at_again_until_a_thorough_look(engine, clock):
    machine = a_used_machine(engine, NOVEMBER - 5 * HOUR)
    metering = a_metering(engine)

    assert metering.book(clock.now) == 3
    with reading(engine) as db:
        assert usage_entries.unsettled(db) == []
    assert metering.book(clock.now, thorough=True) == 0
    with engine.begin() as db:
        db.execute(text("UPDATE occupancies SET ended_at = began_at WHERE lease_id = :id"), {"id": machine.lease.id})
    assert metering.book(clock.now) == 0
    assert metering.book(clock.now, thorough=True) == 2


def test_a_clock_that_was_set_back_takes_no_booked_hour_away(engine, clock):
    Machine(engine, OCTOBER).ready(OCTOBER)
    metering = a_metering(engine)
    assert metering.book(OCTOBER + 5 * HOUR) == 1

    assert metering.book(OCTOBER + 2 * HOUR, thorough=True) == 0


@pytest.mark.parametrize(
    ("term", "said"),
    [
        (a_term("price", "-1"), "plain number, 0 or more"),
        (a_term("price", "NaN"), "plain number"),
        (a_term("price", "0.0000000000001"), "12 decimals"),
        (a_term("price", "1", currency="euro"), "no currency code"),
        (a_term("margin", "2000"), "too many; 15 means 15 %"),
        (a_term("tax", "19"), "--name"),
        (a_term("share", "50"), "a share needs it"),
        (a_term("quota", "5", slice_kind=SliceKind.IDLE), "belongs to a share"),
        (a_term("tax", "19", name="VAT", accelerator="H100"), "does not depend on the GPU"),
        (a_term("cost_centre", None, text="K"), "name it"),
        (a_term("margin", "10", account="a b"), "no Slurm account's name"),
        (a_term("exchange", "1", name="USD", source="x"), "not itself"),
    ],
)
def test_a_term_that_cannot_be_used_is_refused_with_the_mend(billing, term, said):
    with pytest.raises(BrokerError, match=said):
        billing.set_term(term, "root")
    assert billing.terms() == []
