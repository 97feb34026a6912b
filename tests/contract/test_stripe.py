"""The emulated Stripe over HTTP, driven by Stripe's own library: what is known of the real one, and how our adapter words it."""

from datetime import timedelta
from decimal import Decimal

import pytest
import stripe
from factories import NOON, Clock

from broker.cashier.errors import (
    AlreadyKnown,
    CashierRefused,
    CashierUnavailable,
    CredentialsRefused,
    KeyUsedOtherwise,
    RateLimited,
)
from broker.cashier.stripe_api import StripeApi
from broker.sandbox.emulators.stripe_http import StripeServer, StripeTrouble, an_account, serve
from broker.sandbox.emulators.stripe_metering import bill

KEY = "sk_test_contract"
HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(clock):
    return StripeServer(account=an_account(clock), key=KEY)


@pytest.fixture
def url(server):
    address, http = serve(server)
    yield address
    http.shutdown()
    http.server_close()


@pytest.fixture
def api(url):
    return StripeApi(KEY, url)


@pytest.fixture
def usage(api):
    customer = api.make_customer("test/lab", "lab", "c1")
    meter = api.make_meter("gpu", "GPU-seconds", "m1")

    def send(value="3600", identifier="i1", at=NOON, key="k1"):
        api.send_usage("gpu", customer, value, identifier, at, key)

    send.customer, send.meter = customer, meter
    return send


def test_the_same_key_and_request_get_the_first_answer_for_a_day(api, server, clock):
    first = api.make_customer("test/lab", "lab", "key")

    assert api.make_customer("test/lab", "lab", "key") == first
    with pytest.raises(KeyUsedOtherwise):
        api.make_customer("test/lab", "another", "key")
    clock.now += 25 * HOUR
    assert api.make_customer("test/lab", "lab", "key") != first


def test_an_identifier_is_refused_for_a_day_and_counted_again_after_it(usage, api, clock):
    usage()
    with pytest.raises(AlreadyKnown):
        usage(key="k2")
    clock.now += 25 * HOUR
    usage(key="k3")

    assert api.metered(usage.meter, usage.customer, NOON, NOON + HOUR) == 7200


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"at": NOON - timedelta(days=36)}, "more than 35 days"),
        ({"at": NOON + timedelta(minutes=6)}, "more than 5 minutes in the future"),
        ({"value": "0.1234567890123"}, "more than 12 decimals"),
        ({"value": "many"}, "no number"),
    ],
)
def test_usage_that_a_meter_does_not_take_is_refused(usage, sent, said):
    with pytest.raises(CashierRefused, match=said):
        usage(**sent)


def test_or_it_is_taken_and_reported_later_by_the_requests_key(usage, api, server):
    server.account.asynchronous = True
    usage(value="0.1234567890123", key="the-key.1")

    assert api.failed_requests("evt_report_000001") == [("the-key.1", "The value has more than 12 decimals.")]


def test_twelve_decimals_and_negative_usage_add_up(usage, api):
    usage("0.123456789012")
    usage("-0.1", identifier="i2", key="k2")

    assert abs(api.metered(usage.meter, usage.customer, NOON, NOON + HOUR) - Decimal("0.023456789012")) < Decimal(
        "1e-12"
    )


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, RateLimited), (500, CashierUnavailable), (409, CashierUnavailable), (None, CashierUnavailable)],
)
def test_troubles_are_named_for_what_is_done_about_them(api, server, status, error):
    server.troubles.append(StripeTrouble("/v1/customers", "before", status))

    with pytest.raises(error):
        api.make_customer("test/lab", "lab", "c1")
    assert len(server.calls) == 1, "the library must not try again by itself"


def test_another_key_is_refused_and_not_repeated_in_the_error(url):
    with pytest.raises(CredentialsRefused) as told:
        StripeApi("sk_live_secret_of_somebody", url).active_meters()
    assert "sk_live_secret_of_somebody" not in str(told.value)


def test_lists_are_read_to_their_last_page(api, server):
    for number in range(130):
        api.make_customer(f"test/{number}", "x", f"c{number}")

    assert len({each.name for each in api.customers_since(NOON - HOUR)}) == 130


def test_items_go_on_drafts_only_and_unknown_fields_are_refused(api):
    customer = api.make_customer("test/lab", "lab", "c1")
    invoice = api.make_invoice("test/i", {"customer": customer, "currency": "usd"}, "i1")
    item = {"customer": customer, "invoice": invoice, "currency": "usd", "amount": 100}
    api.add_item("test/i/1", item, "i2")
    api.finalize(invoice, "i3")

    with pytest.raises(CashierRefused, match="draft invoice"):
        api.add_item("test/i/2", item, "i4")
    with pytest.raises(CashierRefused, match="unknown parameter: colour") as told:
        api.make_invoice("test/j", {"customer": customer, "colour": "red"}, "i5")
    assert told.value.param == "colour"


def test_a_subscription_that_is_cancelled_without_invoicing_loses_its_usage(url, api, usage, server):
    product = api.make_product("broker-h100", "H100", "p1")
    price = api.make_price("test/p", product, usage.meter, "USD", Decimal("0.083055555556"), "p2")
    subscription = api.make_subscription("test/lab", usage.customer, [price], NOON + timedelta(days=7), "s1")
    usage()
    bare = stripe.StripeClient(KEY, base_addresses={"api": url}, max_network_retries=0)
    bare.v1.subscriptions.cancel(subscription)

    assert server.account.all("invoices") == []
    assert api.subscribed(subscription) == {price: server.account.all("subscription_items")[0]["id"]}


def test_grants_pay_metered_lines_first_by_priority(api, usage, server):
    product = api.make_product("broker-h100", "H100", "p1")
    price = api.make_price("test/p", product, usage.meter, "USD", Decimal("0.1"), "p2")
    subscription = api.make_subscription("test/lab", usage.customer, [price], NOON + timedelta(days=7), "s1")
    grant = {
        "customer": usage.customer,
        "name": "welcome",
        "category": "promotional",
        "amount": {"type": "monetary", "monetary": {"value": 100, "currency": "usd"}},
        "applicability_config": {"scope": {"price_type": "metered"}},
    }
    api.make_grant("test/lab/welcome", grant, "g1")
    usage()

    assert bill(server.account, subscription, NOON - HOUR, NOON + HOUR)["total"] == 260
    assert api.grants_of(usage.customer)[0].name == "test/lab/welcome"
