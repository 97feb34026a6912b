"""Usage at Stripe's meters: each hour once, whatever is lost on the way."""

from datetime import timedelta
from decimal import Decimal

import pytest
from billing_world import DECEMBER, NOVEMBER, OCTOBER, Machine, a_billing, a_metering, a_term
from stripe_world import DAY, a_cashier, a_server

from broker.billing.invoices import period_of
from broker.core.errors import Refused
from broker.db import outbox
from broker.db.engine import reading
from broker.sandbox.emulators.stripe_http import StripeTrouble
from broker.sandbox.emulators.stripe_metering import bill
from broker.services.usage_outbox import UsageOutbox

HOUR = timedelta(hours=1)
PERIOD = period_of("2026-11")
EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def clock(clock):
    clock.now = NOVEMBER + 4 * HOUR
    return clock


@pytest.fixture
def server(clock):
    return a_server(clock)


@pytest.fixture
def cashier(engine, clock, server):
    return a_cashier(engine, clock, server, meters=True)


@pytest.fixture
def metering(engine):
    return a_metering(engine, told=UsageOutbox(cluster="test").tell)


@pytest.fixture
def machine(engine, metering, clock):
    machine = Machine(engine, NOVEMBER).ready(NOVEMBER).job(7, NOVEMBER, NOVEMBER + 2 * HOUR + HOUR / 2)
    machine.given_back(NOVEMBER + 2 * HOUR + HOUR / 2)
    metering.book(clock.now)
    return machine


def told(server):
    return [(each["timestamp"] - int(NOVEMBER.timestamp()), str(each["value"])) for each in server.account.usage]


def test_each_hour_is_told_once_at_its_last_second(machine, cashier, server):
    first, second = cashier.metered.send(), cashier.metered.send()

    assert told(server) == [(3599, "3600"), (7199, "3600"), (10799, "1800")]
    assert (first.sent, second.sent) == (3, 0)


def test_an_hour_that_goes_on_is_not_told_yet(engine, metering, clock, cashier, server):
    clock.now = NOVEMBER + HOUR / 2
    Machine(engine, NOVEMBER).ready(NOVEMBER).given_back(NOVEMBER + HOUR / 3)
    metering.book(clock.now)

    assert cashier.metered.send().sent == 0
    clock.now = NOVEMBER + HOUR
    assert cashier.metered.send().sent == 1


def test_a_customer_whom_stripe_refuses_holds_up_nobody_elses_usage(engine, metering, clock, cashier, server):
    for node, account in (("h100-1", "lab"), ("h100-2", "astro")):
        machine = Machine(engine, NOVEMBER, node=node).ready(NOVEMBER)
        machine.job(7, NOVEMBER, NOVEMBER + HOUR, account=account).given_back(NOVEMBER + HOUR)
    metering.book(clock.now)
    server.troubles.append(StripeTrouble("/v1/customers", "before", 400))

    first = cashier.metered.send()
    clock.now += 2 * HOUR
    second = cashier.metered.send()

    assert (first.sent, first.waiting, first.dead) == (1, 1, 0)
    assert (second.sent, second.waiting) == (1, 0) and len(server.account.usage) == 2


@pytest.mark.parametrize("pause", [2 * HOUR, 2 * DAY], ids=["the guard holds", "the guard is over"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("status", [None, 409, 500])
def test_an_answer_that_is_lost_neither_loses_nor_doubles_usage(machine, cashier, server, clock, pause, when, status):
    server.troubles.append(StripeTrouble(EVENTS, when, status))
    cashier.metered.send()
    clock.now += pause
    cashier.metered.send()

    assert sorted(told(server)) == [(3599, "3600"), (7199, "3600"), (10799, "1800")]
    assert [line.agrees for line in cashier.metered.reconcile(PERIOD)] == [True]


def test_too_many_calls_end_the_pass_and_the_rest_comes_later(machine, cashier, server, clock):
    server.troubles.append(StripeTrouble(EVENTS, "before", 429))
    with pytest.raises(Exception, match="Something went wrong"):
        cashier.metered.send()
    assert told(server) == []
    clock.now += HOUR

    assert cashier.metered.send().sent == 3


def test_usage_that_is_taken_back_is_told_as_a_difference(engine, metering, clock, cashier, server):
    machine = Machine(engine, NOVEMBER).ready(NOVEMBER).job(7, NOVEMBER, None)
    metering.book(clock.now)
    cashier.metered.send()
    machine.given_back(NOVEMBER + HOUR / 2)
    metering.book(clock.now)
    cashier.metered.send()

    assert told(server)[4:] == [(3599, "-1800"), (7199, "-3600"), (10799, "-3600"), (14399, "-3600")]
    (line,) = cashier.metered.reconcile(PERIOD)
    assert (line.ledger, line.outbox, line.sent, line.stripe, line.agrees) == (1800, 1800, 1800, 1800, True)


def test_parts_that_no_decimal_holds_add_up_all_the_same(engine, metering, clock, cashier, server):
    machine = Machine(engine, NOVEMBER).ready(NOVEMBER)
    for number in (7, 8, 9):
        machine.job(number, NOVEMBER, NOVEMBER + timedelta(microseconds=1), account=f"lab{number}")
    machine.given_back(NOVEMBER + HOUR)
    metering.book(clock.now)
    cashier.metered.send()

    thirds = sorted(str(each["value"]) for each in server.account.usage)
    assert thirds[0] == "3.33333E-7"
    assert all(line.agrees for line in cashier.metered.reconcile(PERIOD))


def test_usage_older_than_the_meter_takes_waits_for_a_person(machine, cashier, server, engine, clock):
    clock.now += 36 * DAY

    assert cashier.metered.send().dead == 3
    with reading(engine) as db:
        assert {each.state.value for each in outbox.stuck(db)} == {"too_late"}
    assert told(server) == []


def test_what_stripe_refuses_at_once_is_not_tried_again(machine, cashier, server, engine, clock):
    cashier.metered.meter("H100")
    server.account.all("meters")[0]["status"] = "inactive"

    assert cashier.metered.send().dead == 3
    clock.now += DAY
    assert cashier.metered.send().dead == 0
    with reading(engine) as db:
        assert {each.error for each in outbox.stuck(db)} == {"Stripe: The meter is archived."}


def test_when_nobody_can_tell_whether_it_arrived_a_person_is_asked(machine, cashier, server, engine, clock):
    server.troubles.append(StripeTrouble(EVENTS, "after", None))
    cashier.metered.send()
    server.account.usage[0]["value"] = Decimal(17)
    clock.now += 2 * DAY

    assert cashier.metered.send().dead == 1
    with reading(engine) as db:
        assert "nobody can tell whether it arrived" in outbox.stuck(db)[0].error


def test_a_price_is_subscribed_to_once_and_stripe_bills_what_the_ledger_says(engine, machine, cashier, server, clock):
    billing = a_billing(engine, clock, check_term=cashier.metered.check_term)
    billing.set_term(a_term("price", "2.99", accelerator="H100"), "root")
    first = cashier.metered.subscribe("lab")
    clock.now += 3 * DAY
    again = cashier.metered.subscribe("lab")
    cashier.metered.send()
    cashier.grant("lab", "welcome", Decimal("1.00"), None, paid=False)

    billed = bill(server.account, first, NOVEMBER, DECEMBER)

    assert again == first
    assert server.account.all("prices")[0]["unit_amount_decimal"] == "0.083055555556"
    assert (billed["subtotal"], billed["total"]) == (748, 648)
    assert server.account.all("subscriptions")[0]["billing_cycle_anchor"] == int(DECEMBER.timestamp())


def test_two_prices_of_one_meter_are_never_subscribed_to_together(engine, machine, cashier, server, clock):
    billing = a_billing(engine, clock, check_term=cashier.metered.check_term)
    billing.set_term(a_term("price", "2.99", accelerator="H100"), "root")
    billing.set_term(a_term("price", "1.99", DECEMBER, accelerator="H100"), "root")
    cashier.metered.subscribe("lab")
    clock.now = DECEMBER + HOUR

    with pytest.raises(Refused, match=r"another price of H100 \(price_\d+\), and Stripe would charge both"):
        cashier.metered.subscribe("lab")
    assert len(server.account.all("subscription_items")) == 1


@pytest.mark.parametrize(
    ("term", "said"),
    [
        (a_term("margin", "10"), "charges by price alone, and a margin would not be charged"),
        (a_term("quota", "10"), "a free quota is a grant"),
        (a_term("price", "2", OCTOBER + DAY), "name its first day, such as 2026-11-01"),
        (a_term("price", "2", currency="EUR"), "charges in USD"),
    ],
)
def test_terms_that_a_meter_would_not_charge_are_refused(engine, cashier, clock, term, said):
    billing = a_billing(engine, clock, check_term=cashier.metered.check_term)

    with pytest.raises(Refused, match=said):
        billing.set_term(term, "root")


def test_stripe_makes_the_invoices_so_ours_are_not_pushed_too(cashier, engine, machine, clock, server):
    clock.now = DECEMBER + HOUR
    billing = a_billing(engine, clock)
    billing.close(PERIOD, None, "root")

    with pytest.raises(Refused, match="Stripe makes the invoices"):
        cashier.push(billing.invoices(None, PERIOD))
    (done,) = a_cashier(engine, clock, server).push(billing.invoices(None, PERIOD))
    assert "pushed too, it would be charged twice" in done.error
    assert server.account.all("invoices") == []
