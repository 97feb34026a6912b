"""Billing over the real socket, on a real ledger, with the real Stripe library before the emulated Stripe."""

import json
from datetime import timedelta

import pytest
import stripe as stripe_library
from billing_world import NOVEMBER, OCTOBER, Machine, a_billing
from factories import Clock
from stripe_world import a_cashier, a_server

from broker.db import stripe
from broker.db.engine import open_ledger, reading
from broker.services.billing_desk import Desk
from broker.services.stripe_webhook import StripeWebhook

HOUR = timedelta(hours=1)
SECRET = "whsec_of_the_tests"
INVOICES = "/api/v1/invoices"


class World:
    def __init__(self, engine):
        self.engine = engine
        self.clock = Clock(NOVEMBER + HOUR)
        self.server = a_server(self.clock)
        self.desk = Desk(
            engine=engine,
            billing=a_billing(engine, self.clock),
            cashier=a_cashier(engine, self.clock, self.server),
            mode="invoices",
        )
        self.hook = StripeWebhook(engine, SECRET, self.clock)
        machine = Machine(engine, OCTOBER).ready(OCTOBER).job(7, OCTOBER, OCTOBER + 2 * HOUR)
        machine.given_back(OCTOBER + 2 * HOUR)

    def signed(self, event, *, secret=SECRET, at=None):
        body = event if isinstance(event, str) else json.dumps(event)
        at = int((at or self.clock.now).timestamp())
        header = stripe_library.WebhookSignature.generate_signature_header(body, secret, at)
        return body, {"Stripe-Signature": header}

    def rows(self):
        with reading(self.engine) as db:
            return stripe.all_said(db, "invoice"), stripe.has_event(db, "evt_1")


@pytest.fixture
def world(served, tmp_path):
    engine = open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    world = World(engine)
    app, _ = served
    app.state.billing, app.state.stripe_webhook = world.desk, world.hook
    yield world
    app.state.billing = app.state.stripe_webhook = None
    engine.dispose()


@pytest.fixture
def pushed(api, world):
    api.ask("POST", "/api/v1/billing/close", {"period": "2026-10"})
    done = api.ask("POST", "/api/v1/billing/push", {"period": "2026-10"})
    assert done.json["pushed"] == [{"invoice": "2026-10-lab", "status": "open", "error": None}]
    return world


def an_event(world, kind="invoice.paid", status="paid", at=None, event_id="evt_1", **changed):
    (invoice,) = world.server.account.all("invoices")
    thing = {
        "object": "invoice",
        "id": invoice["id"],
        "status": status,
        "attempt_count": 1,
        "next_payment_attempt": None,
    }
    created = int((at or world.clock.now).timestamp())
    return {"id": event_id, "type": kind, "created": created, "data": {"object": thing | changed}}


def test_a_month_is_closed_shown_exported_and_credited(api, world):
    closed = api.ask("POST", "/api/v1/billing/close", {"period": "2026-10"}).json
    shown = api.ask("GET", f"{INVOICES}/2026-10-lab").json["invoice"]
    listed = api.ask("GET", f"{INVOICES}?account=lab&period=2026-10").json["invoices"]
    text = api.ask("GET", f"{INVOICES}/export?period=2026-10&format=csv").json["text"]
    page = api.ask("GET", f"{INVOICES}/export?period=2026-10&format=html").json["text"]
    note = api.ask("POST", f"{INVOICES}/2026-10-lab/credit", {"amount": "1.20", "reason": "broken"}).json["invoice"]

    assert closed["made"] == [shown] == listed
    assert (shown["total"], shown["currency"], shown["state"]) == ("7.20", "USD", "closed")
    assert shown["closed_at"] == "2026-11-01T01:00:00.000Z"
    assert text.splitlines()[1].endswith('jobs, alice",alice,job,H100,2026-10,2,0,3.6,USD,cost,1,,100,7.20,USD')
    assert "7.20" in page
    assert "<script" not in page
    assert (note["id"], note["total"]) == ("2026-10-lab-credit-1", "-1.20")


def test_only_operators_see_what_others_pay(api, world):
    for method, path in (("GET", INVOICES), ("GET", "/api/v1/billing/terms"), ("POST", "/api/v1/billing/push")):
        assert api.ask_as_user(method, path, None if method == "GET" else {"period": "2026-10"}).status == 403


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"kind": "price", "value": "NaN"}, "value"),
        ({"kind": "price", "value": "1e30"}, "value"),
        ({"kind": "price"}, None),
        ({"kind": "bribe", "value": "1"}, "kind"),
        ({"kind": "price", "value": "1", "for": "lab"}, "for"),
    ],
)
def test_a_term_that_makes_no_sense_is_refused(api, world, body, said):
    answer = api.ask("POST", "/api/v1/billing/terms", body)

    assert answer.status == (200 if said is None else 422)
    assert said is None or said in answer.json["detail"]


def test_a_signed_word_of_stripes_is_kept_and_shown(api, pushed):
    pushed.clock.now += HOUR
    failed = an_event(
        pushed,
        "invoice.payment_failed",
        "open",
        attempt_count=2,
        next_payment_attempt=int(pushed.clock.now.timestamp()),
    )

    answer = api.ask_as_user("POST", "/api/v1/webhooks/stripe", *pushed.signed(failed))

    assert (answer.status, answer.json) == (200, {"written": True, "why": "kept"})
    (line,) = api.ask("GET", "/api/v1/stripe").json["invoices"]
    assert (line["status"], line["attempts"], line["next_attempt_at"][:10]) == ("open", 2, "2026-11-01")


def test_a_forged_recorded_or_future_delivery_is_refused_and_nothing_is_written(api, pushed):
    before = pushed.rows()
    event = an_event(pushed)
    body, headers = pushed.signed(event)
    deliveries = [
        (body, {}),
        (body, {"Stripe-Signature": "t=1,v1=00"}),
        (body, {"Stripe-Signature": "nonsense"}),
        (body + " ", headers),
        pushed.signed(event, secret="whsec_another"),
        pushed.signed(event, at=pushed.clock.now - timedelta(seconds=301)),
        pushed.signed(event, at=pushed.clock.now + timedelta(seconds=301)),
    ]

    answers = [api.ask("POST", "/api/v1/webhooks/stripe", *delivery) for delivery in deliveries]

    assert {answer.status for answer in answers} == {403}
    assert all("secret" in a.json["detail"] or "clocks" in a.json["detail"] for a in answers)
    assert pushed.rows() == before


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", '{"id": 1}', '{"id": "", "type": "x", "created": 1}', '{"id": "e", "type": "x", "created": "soon"}',
     '{"id": "e", "type": "x", "created": 1e400}', '{"id": "e", "type": "x", "created": 99999999999999}',
     '{"id": "e", "type": "invoice.paid", "created": 1, "data": {"object": 7}}', "[" * 30000],
)  # fmt: skip
def test_signed_garbage_is_refused_and_nothing_is_written(api, pushed, body):
    before = pushed.rows()

    answer = api.ask("POST", "/api/v1/webhooks/stripe", *pushed.signed(body))

    assert answer.status == 409
    assert "no event of Stripe's" in answer.json["detail"]
    assert pushed.rows() == before


def test_a_repetition_and_an_older_word_are_answered_and_not_written(api, pushed):
    paid_at = pushed.clock.now = pushed.clock.now + HOUR
    paid = pushed.signed(an_event(pushed, at=paid_at))
    older = pushed.signed(an_event(pushed, "invoice.payment_failed", "open", paid_at - HOUR / 60, "evt_2"))
    same_second = pushed.signed(an_event(pushed, "invoice.finalized", "open", paid_at, "evt_3"))

    said = [api.ask("POST", "/api/v1/webhooks/stripe", *each).json for each in (paid, paid, older, same_second)]

    assert [each["written"] for each in said] == [True, False, False, False]
    assert [each["why"] for each in said[1:]] == [
        "taken before",
        "older than what is known",
        "older than what is known",
    ]
    assert api.ask("GET", "/api/v1/stripe").json["invoices"][0]["status"] == "paid"


def test_words_about_what_is_not_ours_are_not_kept(api, pushed):
    strange = an_event(pushed, id="in_of_somebody_else")
    other = {"id": "evt_9", "type": "charge.refunded", "created": 1, "data": {"object": {"object": "charge"}}}

    said = [api.ask("POST", "/api/v1/webhooks/stripe", *pushed.signed(each)).json for each in (strange, other)]

    assert [each["why"] for each in said] == ["not about something of ours", "not about something we keep"]


def test_without_a_secret_no_webhook_is_taken(api, world, served):
    served[0].state.stripe_webhook = None

    answer = api.ask("POST", "/api/v1/webhooks/stripe", "{}")

    assert answer.status == 404
    assert "stripe_webhook_secret_file" in answer.json["detail"]
