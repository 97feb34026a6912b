"""The application: routes, roles, problem documents."""

from collections.abc import Callable, Mapping

from fastapi import FastAPI

from broker import __version__
from broker.api import problems
from broker.api.bodies import BoundedBodies
from broker.api.idempotency import Answers
from broker.api.operations import Operations
from broker.api.plain import PlainAddresses
from broker.api.routes import billing, leases, metrics, nodes, offers, providers, status, webhooks, why
from broker.services.billing_desk import Desk
from broker.services.stripe_webhook import StripeWebhook

PREFIX = "/api/v1"


def create_app(
    operations: Operations,
    operators: frozenset[int],
    exposition: Callable[[], tuple[str, bytes]] | None = None,
    receivers: Mapping[str, Callable[[Mapping[str, str], bytes], None]] | None = None,
    desk: Desk | None = None,
    stripe_webhook: StripeWebhook | None = None,
) -> FastAPI:
    """The API over `operations`. `operators`: uids that may do everything (`auth.operator_uids`); root may anyway.

    `exposition`: the metrics' media type and text, for `/metrics`. `receivers`: credential → what takes its webhooks.
    """
    # No documentation pages: FastAPI's load their scripts from the internet.
    app = FastAPI(
        title="broker", version=__version__, openapi_url=f"{PREFIX}/openapi.json", docs_url=None, redoc_url=None
    )
    app.state.operations = operations
    app.state.operators = operators
    app.state.answers = Answers()
    app.state.exposition = exposition
    app.state.webhooks = dict(receivers or {})
    app.state.billing = desk
    app.state.stripe_webhook = stripe_webhook
    for module in (status, offers, leases, why, nodes, providers, billing, webhooks):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(metrics.router)
    app.add_middleware(BoundedBodies)
    app.add_middleware(PlainAddresses)
    problems.install(app)  # last, so that it stands around them
    return app
