"""Closed invoices at Stripe, by its real library, on both databases."""

from datetime import timedelta
from decimal import Decimal

import pytest
from billing_world import NOVEMBER, OCTOBER, Machine, a_billing, a_term
from stripe_world import DAY, KEY, a_cashier, a_server

from broker.billing.invoices import period_of
from broker.core.errors import Refused
from broker.db import stripe
from broker.db.engine import reading
from broker.sandbox.emulators.stripe_http import StripeTrouble
from broker.sandbox.emulators.stripe_invoices import pay

HOUR = timedelta(hours=1)
PERIOD = period_of("2026-10")


@pytest.fixture
def clock(clock):
    clock.now = NOVEMBER + HOUR
    return clock


@pytest.fixture
def server(clock):
    return a_server(clock)


@pytest.fixture
def cashier(engine, clock, server):
    return a_cashier(engine, clock, server)


@pytest.fixture
def billing(engine, clock):
    billing = a_billing(engine, clock)
    billing.set_term(a_term("tax", "19", name="VAT"), "root")
    for number, account in enumerate(("chem", "lab"), start=1):
        machine = Machine(engine, OCTOBER, node=f"h100-{number}", job=number, account=account).ready(OCTOBER + HOUR / 4)
        machine.job(number, OCTOBER + HOUR / 4, OCTOBER + 3 * HOUR, account=account).given_back(OCTOBER + 3 * HOUR)
    billing.close(PERIOD, None, "root")
    return billing


def at_stripe(server):
    """Customer's name, status, total and items of each invoice there."""
    names = {each["id"]: each["name"] for each in server.account.all("customers")}
    return [
        (
            names[each["customer"]],
            each["status"],
            each["total"],
            [(i["description"], i["amount"]) for i in server.account.all("invoiceitems") if i["invoice"] == each["id"]],
        )
        for each in server.account.all("invoices")
    ]


WHOLE = [
    ("H100 GPU-hours, jobs, alice", 990),
    ("H100 GPU-hours, machines' boots, alice", 90),
    ("VAT (19 %)", 205),
]


def test_an_invoice_stands_at_stripe_as_it_was_closed(billing, cashier, server):
    done = cashier.push(billing.invoices(None, PERIOD))

    assert [(each.invoice_id, each.status, each.error) for each in done] == [
        ("2026-10-chem", "open", None),
        ("2026-10-lab", "open", None),
    ]
    assert at_stripe(server) == [("chem", "open", 1285, WHOLE), ("lab", "open", 1285, WHOLE)]


def test_pushing_again_makes_nothing_new(billing, cashier, server, clock):
    cashier.push(billing.invoices(None, PERIOD))
    before = {kind: len(things) for kind, things in server.account.things.items()}
    clock.now += 3 * DAY

    assert [each.status for each in cashier.push(billing.invoices(None, PERIOD))] == ["open", "open"]
    assert {kind: len(things) for kind, things in server.account.things.items()} == before


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/invoices", "/v1/invoiceitems", "/v1/invoices/.*/finalize"])
@pytest.mark.parametrize("pause", [timedelta(minutes=1), 3 * DAY], ids=["the key still holds", "the key is forgotten"])
def test_an_answer_that_is_lost_doubles_nothing(billing, cashier, server, clock, path, pause):
    server.troubles.append(StripeTrouble(path, "after", None))
    first = cashier.push(billing.invoices("lab", PERIOD))
    clock.now += pause
    second = cashier.push(billing.invoices("lab", PERIOD))

    assert first[0].error is not None
    assert [each.status for each in second] == ["open"]
    assert at_stripe(server) == [("lab", "open", 1285, WHOLE)]


@pytest.mark.parametrize("status", [409, 429, 500])
def test_a_trouble_of_stripes_is_told_and_over_at_the_next_push(billing, cashier, server, status):
    server.troubles.append(StripeTrouble("/v1/invoices", "before", status))

    first = cashier.push(billing.invoices("lab", PERIOD))
    second = cashier.push(billing.invoices("lab", PERIOD))

    assert "Something went wrong on our end" in first[0].error
    assert second[0].status == "open"
    assert len(server.account.all("invoices")) == 1


def test_a_draft_that_somebody_has_changed_there_is_not_finalized(billing, cashier, server):
    server.troubles.append(StripeTrouble("/v1/invoices/.*/finalize", "before", 500))
    cashier.push(billing.invoices("lab", PERIOD))
    server.account.all("invoiceitems")[0]["amount"] = 1

    (done,) = cashier.push(billing.invoices("lab", PERIOD))

    assert "is 12.85 USD and Stripe's in_000002 is 2.96 USD with 3 of 3 items: it is not finalized" in done.error
    assert server.account.all("invoices")[0]["status"] == "draft"


def test_a_wrong_key_is_told_without_the_key(engine, clock, server, billing):
    cashier = a_cashier(engine, clock, server, key="sk_live_wrong_987654321")

    (done,) = cashier.push(billing.invoices("lab", PERIOD))

    assert "Invalid API Key provided" in done.error
    assert "stripe_key_file" in done.error
    assert "sk_live_wrong_987654321" not in done.error


def test_the_key_stands_in_no_request_but_its_header_and_in_no_row(engine, billing, cashier, server):
    cashier.push(billing.invoices(None, PERIOD))

    with reading(engine) as db:
        rows = [stripe.wish(db, kind, name) for kind, name in (("customer", "lab"), ("invoice", "2026-10-lab"))]
    assert KEY not in repr(rows) + repr(server.calls) + repr(server.account.things)
    assert KEY not in repr(cashier)


def test_two_clusters_share_an_account_of_stripes(engine, clock, server, billing, cashier):
    other = a_cashier(engine, clock, server, cluster="other")
    name = other._at.named("lab")

    assert cashier._payers.customer("lab") == server.account.all("customers")[0]["id"]
    assert name != cashier._at.named("lab")
    assert other._at.key("customer", "lab", 1) != cashier._at.key("customer", "lab", 1)


@pytest.mark.parametrize("paid", [False, True])
def test_a_credit_note_is_issued_there_once(billing, cashier, server, clock, paid):
    billing.credit("2026-10-lab", Decimal("5.00"), "the node was broken", "root")
    cashier.push([billing.invoice("2026-10-lab")])
    if paid:
        pay(server.account, server.account.all("invoices")[0]["id"])
    server.troubles.append(StripeTrouble("/v1/credit_notes", "after", None))

    first = cashier.push([billing.invoice("2026-10-lab-credit-1")])
    clock.now += 2 * DAY
    second = cashier.push([billing.invoice("2026-10-lab-credit-1")])

    assert (first[0].status, second[0].status) == (None, "issued")
    assert [(each["amount"], each["memo"]) for each in server.account.all("credit_notes")] == [
        (595, "the node was broken")
    ]


def test_a_credit_note_waits_for_its_invoice(billing, cashier):
    note = billing.credit("2026-10-lab", Decimal("5.00"), "the node was broken", "root")

    assert "push its invoice 2026-10-lab first" in cashier.push([note])[0].error


def test_how_an_invoice_stands_is_known_after_the_push(billing, cashier, server):
    cashier.push(billing.invoices("lab", PERIOD))

    chem, lab = cashier.standing(None)

    assert (chem.status, chem.stripe_id) == (None, None)
    assert (lab.total, lab.status, lab.url) == ("12.85", "open", "https://invoice.stripe.test/in_000002")


def test_ledger_and_stripe_are_held_against_each_other(billing, cashier, server):
    cashier.push(billing.invoices("lab", PERIOD))
    missing, same = cashier.reconcile(PERIOD)
    server.account.all("invoiceitems")[0]["amount"] += 1
    changed = cashier.reconcile(PERIOD)[1]

    assert (missing.ledger, missing.stripe, missing.agrees) == ("12.85", None, False)
    assert (same.ledger, same.stripe, same.agrees) == ("12.85", "12.85", True)
    assert (changed.stripe, changed.agrees) == ("12.86", False)


def test_a_payer_gets_a_page_to_leave_a_way_to_pay(cashier):
    assert cashier.setup_link("lab").startswith("https://checkout.stripe.test/cs_")


def test_grants_are_refused_where_stripe_would_never_use_them(cashier):
    with pytest.raises(Refused, match="metered prices only"):
        cashier.grant("lab", "welcome", Decimal("100"), None, paid=False)


def test_invoices_due_later_say_when(engine, clock, server, billing):
    a_cashier(engine, clock, server, due=30).push(billing.invoices("lab", PERIOD))

    assert server.account.all("invoices")[0]["collection_method"] == "send_invoice"
