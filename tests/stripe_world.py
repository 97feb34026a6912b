"""The real Stripe library before the emulated Stripe, in one process: no socket, and death wherever a test wants it."""

from collections.abc import Callable
from datetime import timedelta

import stripe

from broker.cashier.stripe_api import StripeApi
from broker.sandbox.emulators.stripe_http import Dropped, StripeServer, an_account
from broker.services.cashier import make_cashier

KEY = "sk_test_of_the_tests_0123456789"


class Wire(stripe.HTTPClient):
    """Carries the library's requests to the emulator. `step` is told before and after each."""

    name = "wire"

    def __init__(self, server: StripeServer, step: Callable[[str], None] = lambda what: None):
        super().__init__()
        self._server = server
        self._step = step

    def request(self, method, url, headers, post_data=None):
        self._step("before a call")
        target = url.removeprefix("http://stripe.test")
        body = (post_data or "").encode() if isinstance(post_data, str | None) else post_data
        try:
            reply = self._server.handle(method.upper(), target, headers, body)
        except Dropped:
            raise stripe.APIConnectionError("the connection was dropped", should_retry=False) from None
        self._step("after a call")
        return reply.body, reply.status, reply.headers

    def close(self):
        """Nothing is open."""


def a_server(clock, **changes):
    return StripeServer(account=an_account(clock, **changes), key=KEY)


def a_cashier(engine, clock, server, *, meters=False, step=lambda what: None, key=KEY, cluster="test", due=None):
    """As `app.py` wires it."""
    return make_cashier(
        engine=engine,
        clock=clock,
        api=StripeApi(key, "http://stripe.test", Wire(server, step)),
        cluster=cluster,
        days_until_due=due,
        return_url="https://portal.example.org/",
        currency="USD",
        meters=meters,
    )


DAY = timedelta(days=1)
