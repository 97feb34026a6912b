"""Whatever is sent to billing and to Stripe's webhook: an answer that says what is wrong, and a ledger as it was."""

import hashlib
import hmac
import json
import os
from datetime import timedelta

import httpx
import pytest
from billing_world import NOVEMBER, OCTOBER, Machine, a_billing
from dump import whole
from factories import Clock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stripe_world import a_cashier, a_server
from unit.api.memory import MemoryOperations

from broker.api.app import create_app
from broker.api.server import run
from broker.db.engine import open_ledger
from broker.services.billing_desk import Desk
from broker.services.stripe_webhook import StripeWebhook

HOUR = timedelta(hours=1)
SECRET = "whsec_of_the_tests"
_HOOK = "/api/v1/webhooks/stripe"
# One ledger for all examples of a test: each must leave it as it was.
SETTINGS = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class World:
    """A closed and pushed month, behind the real server on a real socket."""

    def __init__(self, engine, http):
        self.engine, self.http = engine, http
        self.clock = Clock(NOVEMBER + HOUR)
        server = a_server(self.clock)
        cashier = a_cashier(engine, self.clock, server)
        self.desk = Desk(engine=engine, billing=a_billing(engine, self.clock), cashier=cashier, mode="invoices")
        self.hook = StripeWebhook(engine, SECRET, self.clock)
        Machine(engine, OCTOBER).ready(OCTOBER).job(7, OCTOBER, OCTOBER + 2 * HOUR).given_back(OCTOBER + 2 * HOUR)
        Machine(engine, NOVEMBER, node="h100-2").ready(NOVEMBER)

    def fill(self):
        assert self.ask("POST", "/api/v1/billing/close", {"period": "2026-10"}).status_code == 200
        assert self.ask("POST", "/api/v1/billing/push", {"period": "2026-10"}).status_code == 200
        (invoice,) = self.desk.at_the_cashier(None).invoices
        self.stripe_id, self.kept = invoice.stripe_id, whole(self.engine)

    def ask(self, method, target, body=None, headers=None):
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.request(
            method,
            f"http://broker{target}",
            content=content,
            headers={"Content-Type": "application/json"} | (headers or {}),
        )

    def signed(self, body):
        # By hand: Stripe's library signs text only, and a forger's body need be none.
        at = int(self.clock.now.timestamp())
        made = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={at},v1={made}"}


@pytest.fixture(scope="module")
def server(module_folder):
    app = create_app(MemoryOperations(), frozenset({os.getuid()}))
    server = run(app, module_folder / "api.sock")
    transport = httpx.HTTPTransport(uds=str(module_folder / "api.sock"))
    with httpx.Client(transport=transport, timeout=20) as http:
        yield app, http
    server.stop()


@pytest.fixture
def world(server, ledger_url):
    app, http = server
    engine = open_ledger(ledger_url)
    world = World(engine, http)
    app.state.billing, app.state.stripe_webhook = world.desk, world.hook
    world.fill()
    yield world
    app.state.billing = app.state.stripe_webhook = None
    engine.dispose()


texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["\0", "a\0b", "\ud800", "x" * 300, "2026-10", "2026-13", "lab", "-1", "1e400", "NaN", "٣", "'; --", "\n"]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def spoilt(draw, whole_one):
    """A document with anything at one or two places of it."""
    made = json.loads(json.dumps(whole_one))
    for _ in range(draw(st.integers(1, 2))):
        inside = made
        while isinstance(inside, dict) and inside:
            key = draw(st.sampled_from(sorted(inside)))
            if not isinstance(inside[key], dict) or draw(st.booleans()):
                how = draw(st.sampled_from(["put", "drop", "add"]))
                if how == "drop":
                    del inside[key]
                else:
                    inside[key if how == "put" else draw(texts)] = draw(values)
                break
            inside = inside[key]
    return json.dumps(made).encode()


bodies = st.one_of(st.binary(max_size=60), values.map(lambda value: json.dumps(value).encode()))


def is_refused(world, answer, written=True):
    """Whether it is; else it is done, and no garbage then. `written`: what is done may have changed the ledger."""
    assert answer.status_code < 500, (answer.status_code, answer.text)
    refused = answer.status_code >= 400
    if refused or not written:
        assert whole(world.engine) == world.kept
    else:
        world.kept = whole(world.engine)
    assert not refused or len(answer.json()["detail"]) > 10, answer.text
    return refused


def an_event(world):
    thing = {
        "object": "invoice",
        "id": world.stripe_id,
        "status": "paid",
        "attempt_count": 1,
        "next_payment_attempt": None,
    }
    created = int(world.clock.now.timestamp())
    return {"id": "evt_1", "type": "invoice.paid", "created": created, "data": {"object": thing}}


@given(data=st.data())
@SETTINGS
def test_a_signed_event_with_anything_anywhere_is_kept_or_refused(world, data):
    report = an_event(world) | {"type": "v1.billing.meter.error_report_triggered", "created": "2026-11-01T00:59:00Z"}
    body = data.draw(st.one_of(bodies, spoilt(an_event(world)), spoilt(report)))

    answer = world.ask("POST", _HOOK, body, world.signed(body))

    is_refused(world, answer, written=answer.status_code == 200 and answer.json()["written"])


@given(
    body=bodies,
    header=st.one_of(
        st.none(),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"])).map(str.strip),
        st.just("t=1790000000,v1=00"),
    ),
)
@SETTINGS
def test_what_stripe_has_not_signed_is_refused(world, body, header):

    answer = world.ask("POST", _HOOK, body, {} if header is None else {"Stripe-Signature": header})

    assert answer.status_code == 403 and is_refused(world, answer)


_TERM = {
    "kind": "price", "value": "2.99", "text": None, "account": "lab", "gpu": "H100", "slice_kind": None, "name": None,
    "currency": None, "effective_from": "2026-12-01T00:00:00Z", "source": "memo 7",
}  # fmt: skip
_BODIES = {
    "/api/v1/billing/terms": _TERM,
    "/api/v1/billing/close": {"period": "2026-11", "account": "lab"},
    "/api/v1/billing/push": {"invoices": ["2026-10-lab"], "period": None},
    "/api/v1/invoices/2026-10-lab/credit": {"amount": "0.01", "reason": "slow"},
    "/api/v1/stripe/reconcile": {"period": "2026-10", "account": None},
    "/api/v1/stripe/lab/grants": {"name": "start", "amount": "5", "expires": None, "paid": False},
}


@pytest.mark.parametrize("path", _BODIES)
@given(data=st.data())
@SETTINGS
def test_a_body_with_anything_anywhere_is_done_or_refused(world, path, data):
    body = data.draw(st.one_of(bodies, spoilt(_BODIES[path])))

    is_refused(world, world.ask("POST", path, body))


_PLACES = (
    ("GET", "/api/v1/billing/preview?period={}&account={}"),
    ("GET", "/api/v1/invoices?period={}&account={}"),
    ("GET", "/api/v1/invoices/export?period={}&format=csv&account={}"),
    ("GET", "/api/v1/invoices/{}?x={}"),
    ("GET", "/api/v1/stripe?account={}&x={}"),
    ("POST", "/api/v1/stripe/{}/setup-link?x={}"),
    ("POST", "/api/v1/stripe/{}/subscription?x={}"),
)


@pytest.mark.parametrize(("method", "path"), _PLACES)
@given(first=st.one_of(st.just("2026-10"), texts), second=texts)
@SETTINGS
def test_an_address_with_anything_in_it_is_answered_or_refused(world, method, path, first, second):
    quoted = [
        httpx.QueryParams({"q": each.encode("utf-8", "replace").decode()}).__str__()[2:] for each in (first, second)
    ]

    is_refused(world, world.ask(method, path.format(*quoted)))
