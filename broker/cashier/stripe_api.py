"""Stripe by its own library: words and errors are translated here, and nothing is decided."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe

from broker.cashier.errors import (
    AlreadyKnown,
    CashierRefused,
    CashierUnavailable,
    CredentialsRefused,
    KeyUsedOtherwise,
    RateLimited,
)

TIMEOUT_S = 30
"""Stripe's own longest answers take some ten seconds; the library's 80 would hold an operator's command."""
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Made:
    """Something at Stripe: its id, and our own name of it (`metadata.broker_name`)."""

    id: str
    name: str | None


@dataclass(frozen=True, kw_only=True)
class StripeInvoice:
    """Amounts in the currency's smallest coin. `url`: where its customer can pay it."""

    id: str
    status: str
    total: int
    amount_due: int
    attempts: int
    next_attempt_at: datetime | None
    url: str | None


class StripeApi:
    """One account of Stripe. Every method raises the errors of `cashier/errors.py`.

    Retries are the caller's: the library does none, so that each try is written down before it is made.
    """

    def __init__(self, key: str, base_url: str | None = None, http: stripe.HTTPClient | None = None) -> None:
        self._key = key
        self._stripe = stripe.StripeClient(
            key,
            base_addresses={"api": base_url, "meter_events": base_url} if base_url else {},
            max_network_retries=0,
            http_client=http or stripe.RequestsClient(timeout=TIMEOUT_S),
        )

    def make_customer(self, name: str, described: str, key: str) -> str:
        with self._translated():
            return self._stripe.v1.customers.create(
                {"name": described, "metadata": {"broker_name": name}}, {"idempotency_key": key}
            ).id

    def customers_since(self, since: datetime) -> list[Made]:
        """Those made since then."""
        with self._translated():
            params: Any = {"created": {"gte": int(since.timestamp())}, "limit": 100}
            return [_made(each) for each in self._stripe.v1.customers.list(params).auto_paging_iter()]

    def make_invoice(self, name: str, params: Mapping[str, Any], key: str) -> str:
        with self._translated():
            body: Any = {**params, "metadata": {"broker_name": name}}
            return self._stripe.v1.invoices.create(body, {"idempotency_key": key}).id or ""

    def invoices_of(self, customer: str) -> list[Made]:
        with self._translated():
            params: Any = {"customer": customer, "limit": 100}
            return [_made(each) for each in self._stripe.v1.invoices.list(params).auto_paging_iter()]

    def add_item(self, name: str, params: Mapping[str, Any], key: str) -> str:
        with self._translated():
            body: Any = {**params, "metadata": {"broker_name": name}}
            return self._stripe.v1.invoice_items.create(body, {"idempotency_key": key}).id

    def items_of(self, invoice: str) -> list[Made]:
        with self._translated():
            params: Any = {"invoice": invoice, "limit": 100}
            return [_made(each) for each in self._stripe.v1.invoice_items.list(params).auto_paging_iter()]

    def invoice(self, invoice: str) -> StripeInvoice:
        with self._translated():
            found = self._stripe.v1.invoices.retrieve(invoice)
            return _invoice(found)

    def finalize(self, invoice: str, key: str) -> StripeInvoice:
        """Close the draft; from then on Stripe collects it."""
        with self._translated():
            done = self._stripe.v1.invoices.finalize_invoice(invoice, {"auto_advance": True}, {"idempotency_key": key})
            return _invoice(done)

    def make_credit_note(self, name: str, invoice: str, minor: int, memo: str, paid: bool, key: str) -> str:
        """`paid`: what is credited goes to the customer's balance there."""
        with self._translated():
            body: Any = {
                "invoice": invoice,
                "amount": minor,
                "memo": memo,
                "metadata": {"broker_name": name},
            }
            if paid:
                body["credit_amount"] = minor
            return self._stripe.v1.credit_notes.create(body, {"idempotency_key": key}).id

    def credit_notes_of(self, invoice: str) -> list[Made]:
        with self._translated():
            params: Any = {"invoice": invoice, "limit": 100}
            return [_made(each) for each in self._stripe.v1.credit_notes.list(params).auto_paging_iter()]

    def make_meter(self, event_name: str, described: str, key: str) -> str:
        with self._translated():
            return self._stripe.v1.billing.meters.create(
                {
                    "display_name": described,
                    "event_name": event_name,
                    "default_aggregation": {"formula": "sum"},
                    "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                    "value_settings": {"event_payload_key": "value"},
                },
                {"idempotency_key": key},
            ).id

    def active_meters(self) -> list[Made]:
        """By the name of their events; one active meter has a name."""
        with self._translated():
            found = self._stripe.v1.billing.meters.list({"status": "active", "limit": 100})
            return [Made(id=each.id, name=each.event_name) for each in found.auto_paging_iter()]

    def send_usage(self, event_name: str, customer: str, value: str, identifier: str, at: datetime, key: str) -> None:
        """AlreadyKnown: Stripe has the identifier from the last 24 hours."""
        with self._translated():
            self._stripe.v1.billing.meter_events.create(
                {
                    "event_name": event_name,
                    "identifier": identifier,
                    "timestamp": int(at.timestamp()),
                    "payload": {"stripe_customer_id": customer, "value": value},
                },
                {"idempotency_key": key},
            )

    def metered(self, meter: str, customer: str, low: datetime, high: datetime) -> Decimal:
        """The meter's sum in [low, high), whole minutes; Stripe counts it a while later, and gives a float."""
        with self._translated():
            params: Any = {
                "customer": customer,
                "start_time": int(low.timestamp()),
                "end_time": int(high.timestamp()),
                "limit": 100,
            }
            found = self._stripe.v1.billing.meters.event_summaries.list(meter, params)
            return sum((Decimal(repr(each.aggregated_value)) for each in found.auto_paging_iter()), Decimal(0))

    def make_product(self, name: str, described: str, key: str) -> str:
        with self._translated():
            return self._stripe.v1.products.create(
                {"id": name, "name": described, "unit_label": "GPU-second"}, {"idempotency_key": key}
            ).id

    def has_product(self, name: str) -> bool:
        try:
            with self._translated():
                self._stripe.v1.products.retrieve(name)
        except CashierRefused:
            return False
        return True

    def make_price(self, name: str, product: str, meter: str, currency: str, unit_amount: Decimal, key: str) -> str:
        """`unit_amount`: smallest coins a unit, at most 12 decimals."""
        with self._translated():
            return self._stripe.v1.prices.create(
                {
                    "product": product,
                    "currency": currency.lower(),
                    "unit_amount_decimal": unit_amount,
                    "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
                    "lookup_key": name,
                },
                {"idempotency_key": key},
            ).id

    def price_named(self, name: str) -> str | None:
        with self._translated():
            found = self._stripe.v1.prices.list({"lookup_keys": [name], "limit": 1})
            return next((each.id for each in found.data), None)

    def make_subscription(self, name: str, customer: str, prices: list[str], anchor: datetime, key: str) -> str:
        """Periods begin with the month, UTC."""
        with self._translated():
            return self._stripe.v1.subscriptions.create(
                {
                    "customer": customer,
                    "items": [{"price": price} for price in prices],
                    "billing_cycle_anchor": int(anchor.timestamp()),
                    "proration_behavior": "none",
                    "metadata": {"broker_name": name},
                },
                {"idempotency_key": key},
            ).id

    def subscriptions_of(self, customer: str) -> list[Made]:
        with self._translated():
            found = self._stripe.v1.subscriptions.list({"customer": customer, "status": "all", "limit": 100})
            return [_made(each) for each in found.auto_paging_iter()]

    def subscribed(self, subscription: str) -> dict[str, str]:
        """Price → item of the subscription."""
        with self._translated():
            found = self._stripe.v1.subscription_items.list({"subscription": subscription, "limit": 100})
            return {each.price.id: each.id for each in found.auto_paging_iter()}

    def subscribe_to(self, subscription: str, price: str, key: str) -> None:
        with self._translated():
            self._stripe.v1.subscription_items.create(
                {"subscription": subscription, "price": price, "proration_behavior": "none"}, {"idempotency_key": key}
            )

    def make_grant(self, name: str, params: Mapping[str, Any], key: str) -> str:
        with self._translated():
            body: Any = {**params, "metadata": {"broker_name": name}}
            return self._stripe.v1.billing.credit_grants.create(body, {"idempotency_key": key}).id

    def grants_of(self, customer: str) -> list[Made]:
        with self._translated():
            found = self._stripe.v1.billing.credit_grants.list({"customer": customer, "limit": 100})
            return [_made(each) for each in found.auto_paging_iter()]

    def setup_link(self, customer: str, currency: str, return_url: str) -> str:
        """A page of Stripe's where the customer leaves a way to pay; it is good for a day."""
        with self._translated():
            made = self._stripe.v1.checkout.sessions.create(
                {"mode": "setup", "customer": customer, "currency": currency.lower(), "success_url": return_url}
            )
            return made.url or ""

    def failed_requests(self, event: str) -> list[tuple[str, str]]:
        """Of an error report of the meters: idempotency key and message of each failed request that it names."""
        with self._translated():
            found = self._stripe.raw_request("get", f"/v2/core/events/{event}")
            said = self._stripe.deserialize(found, api_mode="V2").to_dict()
        return list(_samples(said))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except stripe.RateLimitError as exc:
            raise RateLimited(self._told(exc), retry_after=_RETRY_AFTER_S) from None
        except (stripe.AuthenticationError, stripe.PermissionError) as exc:
            raise CredentialsRefused(
                f"{self._told(exc)}; put a key that may do it into [billing] stripe_key_file"
            ) from None
        except stripe.IdempotencyError as exc:
            raise KeyUsedOtherwise(self._told(exc)) from None
        except stripe.APIConnectionError as exc:
            raise CashierUnavailable(self._told(exc)) from None
        except stripe.StripeError as exc:
            status = exc.http_status or 500
            if status >= 500 or status == 409:
                raise CashierUnavailable(self._told(exc)) from None
            said = exc.user_message or ""
            kind = AlreadyKnown if said.startswith("An event already exists with identifier") else CashierRefused
            raise kind(self._told(exc), param=getattr(exc, "param", None)) from None

    def _told(self, exc: stripe.StripeError) -> str:
        said = " ".join((exc.user_message or str(exc) or type(exc).__name__).split())
        # Without the cause: its traceback may hold the request with its header.
        return f"Stripe: {said.replace(self._key, '***')[:500]}"


def _made(found: Any) -> Made:
    metadata = found.metadata
    name = metadata["broker_name"] if metadata is not None and "broker_name" in metadata else None
    return Made(id=found.id, name=name)


def _invoice(found: stripe.Invoice) -> StripeInvoice:
    next_attempt = found.next_payment_attempt
    return StripeInvoice(
        id=found.id or "",
        status=found.status or "draft",
        total=found.total,
        amount_due=found.amount_due,
        attempts=found.attempt_count,
        next_attempt_at=datetime.fromtimestamp(next_attempt, UTC) if next_attempt else None,
        url=found.hosted_invoice_url,
    )


def _samples(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind in said.get("data", {}).get("reason", {}).get("error_types", ()):
        for sample in kind.get("sample_errors", ()):
            yield (
                str(sample.get("request", {}).get("identifier", "")),
                str(sample.get("error_message", kind.get("code"))),
            )
