"""An emulated account of Stripe: what it keeps, what it refuses, and how it bills. Time is what its owner says.

It obeys what is known of the real one (API 2026-10-28): idempotency keys and event identifiers for 24 hours, timestamps 35 days
back and 5 minutes ahead, 12 decimals, sums as floats, lines only on drafts, closed periods that late usage does not reach.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

Params = dict[str, Any]
Thing = dict[str, Any]

_KEYS_KEPT = timedelta(hours=24)
_OLDEST = timedelta(days=35)
_AHEAD = timedelta(minutes=5)


class StripeFault(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}
        self.headers = {"stripe-should-retry": "false"} if status == 400 else {}


@dataclass
class StripeAccount:
    """`asynchronous`: bad usage is taken with 200 and reported later, as the high-rate path does."""

    clock: Callable[[], datetime]
    asynchronous: bool = False
    things: dict[str, dict[str, Thing]] = field(default_factory=dict)
    usage: list[Thing] = field(default_factory=list)
    reports: list[Thing] = field(default_factory=list)
    """Thin events about usage that was refused afterwards."""
    _keys: dict[str, tuple[str, int, Thing, datetime]] = field(default_factory=dict)
    _count: int = 0

    def call(self, method: str, path: str, params: Params, idempotency_key: str | None) -> tuple[int, Thing]:
        """One request, after the key that may have been used before. StripeFault."""
        if method != "POST" or idempotency_key is None:
            return 200, self._do(method, path, params, idempotency_key)
        if len(idempotency_key) > 255:
            raise StripeFault(400, "Idempotency keys may be at most 255 characters", kind="idempotency_error")
        asked = hashlib.sha256(json.dumps([path, params], sort_keys=True).encode()).hexdigest()
        kept = self._keys.get(idempotency_key)
        if kept is not None and self.clock() - kept[3] < _KEYS_KEPT:
            if kept[0] != asked:
                raise StripeFault(
                    400,
                    f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{idempotency_key}' if you meant to execute a different request.",
                    kind="idempotency_error",
                )
            return kept[1], kept[2]
        done = self._do(method, path, params, idempotency_key)
        self._keys[idempotency_key] = (asked, 200, json.loads(json.dumps(done)), self.clock())
        return 200, done

    def all(self, kind: str) -> list[Thing]:
        """What is kept of a kind, oldest first."""
        return list(self.things.get(kind, {}).values())

    def pay(self, invoice_id: str) -> Thing:
        """The customer pays, or Stripe takes the money."""
        invoice = self._get("invoices", invoice_id)
        invoice.update(status="paid", amount_due=0, attempt_count=invoice["attempt_count"] + 1)
        return invoice

    def bill(self, subscription_id: str, low: datetime, high: datetime) -> Thing:
        """The subscription's invoice of a period: usage with a time in it that has arrived by now, less its credits."""
        subscription = self._get("subscriptions", subscription_id)
        customer = subscription["customer"]
        lines = []
        for item in subscription["items"]["data"]:
            price = self._get("prices", item["price"]["id"])
            meter = self._get("meters", price["recurring"]["meter"])
            used = max(Decimal(0), self._sum(meter, customer, low, high))
            amount = int((used * Decimal(price["unit_amount_decimal"])).to_integral_value(ROUND_HALF_UP))
            lines.append({"amount": amount, "price": price["id"], "quantity": str(used)})
        total = sum(line["amount"] for line in lines)
        credited = self._use_grants(customer, total)
        invoice = self._make(
            "invoices",
            "in",
            {
                "object": "invoice",
                "customer": customer,
                "subscription": subscription_id,
                "status": "open",
                "period_start": int(low.timestamp()),
                "period_end": int(high.timestamp()),
                "subtotal": total,
                "total": total - credited,
                "amount_due": total - credited,
                **_UNPAID,
                "metadata": {},
            },
        )
        invoice["lines"] = _list(lines)
        return invoice

    def _use_grants(self, customer: str, total: int) -> int:
        left = total
        grants = [grant for grant in self.all("credit_grants") if grant["customer"] == customer]
        for grant in sorted(grants, key=lambda each: (each["priority"], each["created"])):
            expired = grant["expires_at"] is not None and grant["expires_at"] <= self._now()
            taken = 0 if expired else min(left, grant["_left"])
            grant["_left"] -= taken
            left -= taken
        return total - left

    def _do(self, method: str, path: str, params: Params, key: str | None) -> Thing:
        for verb, pattern, deed in _ROUTES:
            found = re.fullmatch(pattern, path)
            if verb == method and found is not None:
                answer: Thing = deed(self, params, *found.groups()) if deed is not _usage else _usage(self, params, key)
                # The library asks for the next page there.
                return answer | {"url": path} if answer.get("object") == "list" else answer
        raise StripeFault(404, f"Unrecognized request URL ({method}: {path}).")

    def _now(self) -> int:
        return int(self.clock().timestamp())

    def _make(self, kind: str, prefix: str, values: Thing) -> Thing:
        self._count += 1
        made = {"id": f"{prefix}_{self._count:06d}", "created": self._now(), "livemode": False, **values}
        self.things.setdefault(kind, {})[made["id"]] = made
        return made

    def _get(self, kind: str, thing_id: str) -> Thing:
        try:
            return self.things[kind][thing_id]
        except KeyError:
            raise StripeFault(404, f"No such {kind[:-1]}: '{thing_id}'", code="resource_missing", param="id") from None

    def _sum(self, meter: Thing, customer: str, low: datetime, high: datetime) -> Decimal:
        events = [
            event["value"]
            for event in self.usage
            if event["event_name"] == meter["event_name"]
            and event["customer"] == customer
            and low.timestamp() <= event["timestamp"] < high.timestamp()
        ]
        formula = meter["default_aggregation"]["formula"]
        if formula == "count":
            return Decimal(len(events))
        return sum(events, Decimal(0)) if formula == "sum" else (events[-1] if events else Decimal(0))


_UNPAID = {"attempt_count": 0, "next_payment_attempt": None, "hosted_invoice_url": None}


def _list(found: list[Thing]) -> Thing:
    return {"object": "list", "data": found, "has_more": False, "url": "/v1"}


def _only(params: Mapping[str, Any], *known: str) -> None:
    for name in params:
        if name not in known and name not in {"metadata", "expand"}:
            raise StripeFault(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def _need(params: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not params.get(name):
            raise StripeFault(400, f"Missing required param: {name}.", code="parameter_missing", param=name)


def _page(found: list[Thing], params: Params) -> Thing:
    """Newest first, by cursor."""
    listed = sorted(found, key=lambda each: each["id"], reverse=True)
    after = params.get("starting_after")
    if after is not None:
        at = next((i for i, each in enumerate(listed) if each["id"] == after), None)
        if at is None:
            raise StripeFault(400, f"No such object: '{after}'", param="starting_after")
        listed = listed[at + 1 :]
    limit = int(params.get("limit", 10))
    return {"object": "list", "data": listed[:limit], "has_more": len(listed) > limit, "url": "/v1"}


def _customer(account: StripeAccount, params: Params) -> Thing:
    _only(params, "name", "email", "description")
    values = {"object": "customer", "name": params.get("name"), "metadata": params.get("metadata", {})}
    return account._make("customers", "cus", values)


def _customers(account: StripeAccount, params: Params) -> Thing:
    _only(params, "created", "limit", "starting_after", "email")
    since = int(params.get("created", {}).get("gte", 0))
    return _page([each for each in account.all("customers") if each["created"] >= since], params)


def _invoice(account: StripeAccount, params: Params) -> Thing:
    _only(
        params, "customer", "currency", "auto_advance", "pending_invoice_items_behavior", "description",
        "collection_method", "days_until_due",
    )  # fmt: skip
    _need(params, "customer")
    account._get("customers", params["customer"])
    if params.get("collection_method") == "send_invoice" and not params.get("days_until_due"):
        raise StripeFault(400, "Missing required param: days_until_due.", param="days_until_due")
    return _totalled(
        account,
        account._make(
            "invoices",
            "in",
            {
                "object": "invoice",
                "customer": params["customer"],
                "currency": params.get("currency", "usd"),
                "status": "draft",
                "description": params.get("description"),
                "collection_method": params.get("collection_method", "charge_automatically"),
                **_UNPAID,
                "metadata": params.get("metadata", {}),
            },
        ),
    )


def _totalled(account: StripeAccount, invoice: Thing) -> Thing:
    items = [each for each in account.all("invoiceitems") if each["invoice"] == invoice["id"]]
    if "subscription" not in invoice:
        total = sum(each["amount"] for each in items)
        invoice.update(subtotal=total, total=total, lines=_list(items[:10]))
        if invoice["status"] in {"draft", "open"}:
            invoice["amount_due"] = max(0, total)
    return invoice


def _invoices(account: StripeAccount, params: Params) -> Thing:
    _only(params, "customer", "limit", "starting_after", "status", "subscription")
    found = [each for each in account.all("invoices") if params.get("customer") in (None, each["customer"])]
    return _page(found, params)


def _read_invoice(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    return _totalled(account, account._get("invoices", invoice_id))


def _finalize(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    _only(params, "auto_advance")
    invoice = account._get("invoices", invoice_id)
    if invoice["status"] != "draft":
        raise StripeFault(400, "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    _totalled(account, invoice)
    # A credit goes to the customer's balance at once, and nought is nothing to pay.
    invoice["status"] = "open" if invoice["total"] > 0 else "paid"
    invoice["hosted_invoice_url"] = f"https://invoice.stripe.test/{invoice_id}"
    return invoice


def _void(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    invoice = account._get("invoices", invoice_id)
    if invoice["status"] not in {"open", "uncollectible"}:
        raise StripeFault(400, f"You can't void a {invoice['status']} invoice.")
    invoice.update(status="void", amount_due=0)
    return invoice


def _pay(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    if account._get("invoices", invoice_id)["status"] != "open":
        raise StripeFault(400, "Invoice is not open.")
    return account.pay(invoice_id)


def _item(account: StripeAccount, params: Params) -> Thing:
    _only(params, "customer", "invoice", "currency", "amount", "description")
    _need(params, "customer", "currency")
    invoice = account._get("invoices", params["invoice"])
    if invoice["status"] != "draft":
        raise StripeFault(400, "You can only add invoice items to a draft invoice.", param="invoice")
    if not re.fullmatch(r"-?\d{1,12}", str(params.get("amount", ""))):
        raise StripeFault(400, f"Invalid integer: {params.get('amount')}", param="amount")
    if invoice["customer"] != params["customer"]:
        raise StripeFault(400, "The invoice belongs to another customer.", param="customer")
    made = account._make(
        "invoiceitems",
        "ii",
        {
            "object": "invoiceitem",
            "customer": params["customer"],
            "invoice": params["invoice"],
            "currency": params["currency"],
            "amount": int(params["amount"]),
            "description": params.get("description"),
            "metadata": params.get("metadata", {}),
        },
    )
    if len([each for each in account.all("invoiceitems") if each["invoice"] == params["invoice"]]) > 250:
        del account.things["invoiceitems"][made["id"]]
        raise StripeFault(400, "You can only have 250 invoice items on an invoice.")
    return made


def _items(account: StripeAccount, params: Params) -> Thing:
    _only(params, "invoice", "customer", "limit", "starting_after")
    found = [each for each in account.all("invoiceitems") if params.get("invoice") in (None, each["invoice"])]
    return _page(found, params)


def _note(account: StripeAccount, params: Params) -> Thing:
    _only(params, "invoice", "amount", "memo", "credit_amount", "refund_amount", "out_of_band_amount")
    _need(params, "invoice", "amount")
    invoice = account._get("invoices", params["invoice"])
    amount = int(params["amount"])
    if invoice["status"] not in {"open", "paid"}:
        raise StripeFault(400, f"You can't credit a {invoice['status']} invoice.")
    before = sum(each["amount"] for each in account.all("credit_notes") if each["invoice"] == invoice["id"])
    if before + amount > invoice["total"]:
        raise StripeFault(400, "The sum of credit notes may not be more than the invoice.", param="amount")
    if invoice["status"] == "paid" and int(params.get("credit_amount", 0)) != amount:
        raise StripeFault(400, "Credits, refunds and out-of-band amounts must add up to the amount.", param="amount")
    if invoice["status"] == "open":
        invoice["amount_due"] -= amount
        if invoice["amount_due"] == 0:
            invoice["status"] = "paid"
    values = {
        "object": "credit_note",
        "invoice": invoice["id"],
        "amount": amount,
        "memo": params.get("memo"),
        "status": "issued",
        "metadata": params.get("metadata", {}),
    }
    return account._make("credit_notes", "cn", values)


def _notes(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("credit_notes") if params.get("invoice") in (None, each["invoice"])]
    return _page(found, params)


def _meter(account: StripeAccount, params: Params) -> Thing:
    _only(params, "display_name", "event_name", "default_aggregation", "customer_mapping", "value_settings",
          "event_time_window")  # fmt: skip
    _need(params, "display_name", "event_name", "default_aggregation")
    name = params["event_name"]
    if any(each["event_name"] == name and each["status"] == "active" for each in account.all("meters")):
        raise StripeFault(400, f"An active meter with event name {name} already exists.", param="event_name")
    return account._make("meters", "mtr", {"object": "billing.meter", "status": "active", **params})


def _meters(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("meters") if params.get("status") in (None, each["status"])]
    return _page(found, params)


def _deactivate(account: StripeAccount, params: Params, meter_id: str) -> Thing:
    meter = account._get("meters", meter_id)
    meter["status"] = "inactive"
    return meter


def _usage(account: StripeAccount, params: Params, key: str | None) -> Thing:
    _only(params, "event_name", "identifier", "payload", "timestamp")
    _need(params, "event_name", "payload")
    now = account.clock()
    identifier = params.get("identifier") or f"auto-{account._count}"
    known = [each for each in account.usage if each["identifier"] == identifier]
    if any(now - each["arrived"] < _KEYS_KEPT for each in known):
        raise StripeFault(400, f"An event already exists with identifier {identifier}.")
    at = int(params.get("timestamp", now.timestamp()))
    event = {
        "object": "billing.meter_event",
        "created": int(now.timestamp()),
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": params["payload"],
        "timestamp": at,
    }
    code, said = _wrong(account, params, at, now)
    if code is not None:
        if not account.asynchronous:
            raise StripeFault(400, said, code=code)
        account.reports.append(_report(len(account.reports) + 1, code, said, key or ""))
        return event
    counted = {"value": Decimal(params["payload"]["value"]), "customer": params["payload"]["stripe_customer_id"]}
    account.usage.append({**event, **counted, "arrived": now})
    return event


def _wrong(account: StripeAccount, params: Params, at: int, now: datetime) -> tuple[str | None, str]:
    payload = params["payload"]
    meter = next((each for each in account.all("meters") if each["event_name"] == params["event_name"]), None)
    if meter is None:
        return "no_meter", f"No meter exists with event_name {params['event_name']}."
    if meter["status"] != "active":
        return "archived_meter", "The meter is archived."
    if now - datetime.fromtimestamp(at, UTC) > _OLDEST:
        return "timestamp_too_far_in_past", "The timestamp is more than 35 days in the past."
    if datetime.fromtimestamp(at, UTC) - now > _AHEAD:
        return "timestamp_in_future", "The timestamp is more than 5 minutes in the future."
    if payload.get("stripe_customer_id") not in account.things.get("customers", {}):
        return "meter_event_customer_not_found", f"No customer {payload.get('stripe_customer_id')}."
    try:
        value = Decimal(payload.get("value", ""))
    except InvalidOperation:
        return "meter_event_invalid_value", "The value is no number."
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        return "meter_event_invalid_value", "The value is no number."
    if exponent < -12:
        return "meter_event_value_too_many_digits", "The value has more than 12 decimals."
    return None, ""


def _report(number: int, code: str, said: str, key: str) -> Thing:
    sample = {"error_message": said, "request": {"identifier": key}}
    return {
        "id": f"evt_report_{number:06d}",
        "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered",
        "data": {
            "reason": {"error_count": 1, "error_types": [{"code": code, "error_count": 1, "sample_errors": [sample]}]}
        },
    }


def _read_report(account: StripeAccount, params: Params, event_id: str) -> Thing:
    found = next((each for each in account.reports if each["id"] == event_id), None)
    if found is None:
        raise StripeFault(404, f"No such event: '{event_id}'")
    return found


def _summaries(account: StripeAccount, params: Params, meter_id: str) -> Thing:
    _need(params, "customer", "start_time", "end_time")
    low, high = (datetime.fromtimestamp(int(params[name]), UTC) for name in ("start_time", "end_time"))
    if low.second or high.second:
        raise StripeFault(400, "start_time and end_time must be aligned with minute boundaries.", param="start_time")
    total = account._sum(account._get("meters", meter_id), params["customer"], low, high)
    summary = {
        "id": f"mtrusg_{meter_id}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(total),
        "start_time": int(low.timestamp()),
        "end_time": int(high.timestamp()),
        "livemode": False,
        "meter": meter_id,
    }
    return _list([summary])


def _product(account: StripeAccount, params: Params) -> Thing:
    _only(params, "id", "name", "unit_label")
    _need(params, "name")
    if params.get("id") in account.things.get("products", {}):
        raise StripeFault(400, "Product already exists.", code="resource_already_exists", param="id")
    made = account._make("products", "prod", {"object": "product", "name": params["name"], "metadata": {}})
    if "id" in params:
        del account.things["products"][made["id"]]
        made["id"] = params["id"]
        account.things["products"][made["id"]] = made
    return made


def _price(account: StripeAccount, params: Params) -> Thing:
    _only(params, "product", "currency", "unit_amount_decimal", "recurring", "lookup_key", "unit_amount")
    _need(params, "product", "currency")
    account._get("products", params["product"])
    if any(each["lookup_key"] == params.get("lookup_key") for each in account.all("prices")):
        raise StripeFault(400, "A price already uses that lookup key.", param="lookup_key")
    amount = Decimal(params["unit_amount_decimal"])
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        raise StripeFault(400, "unit_amount_decimal has at most 12 decimals.", param="unit_amount_decimal")
    account._get("meters", params["recurring"]["meter"])
    return account._make(
        "prices",
        "price",
        {
            "object": "price",
            "product": params["product"],
            "currency": params["currency"],
            "unit_amount_decimal": params["unit_amount_decimal"],
            "recurring": params["recurring"],
            "lookup_key": params.get("lookup_key"),
            "metadata": {},
        },
    )


def _prices(account: StripeAccount, params: Params) -> Thing:
    keys = params.get("lookup_keys")
    wanted = list(keys.values()) if isinstance(keys, dict) else keys
    return _page([each for each in account.all("prices") if wanted is None or each["lookup_key"] in wanted], params)


def _subscription(account: StripeAccount, params: Params) -> Thing:
    _only(params, "customer", "items", "billing_cycle_anchor", "proration_behavior")
    _need(params, "customer", "items")
    account._get("customers", params["customer"])
    made = account._make(
        "subscriptions",
        "sub",
        {
            "object": "subscription",
            "customer": params["customer"],
            "status": "active",
            "billing_cycle_anchor": int(params.get("billing_cycle_anchor", account._now())),
            "metadata": params.get("metadata", {}),
            "items": _list([]),
        },
    )
    listed = params["items"].values() if isinstance(params["items"], dict) else params["items"]
    for each in listed:
        _subscribe(account, {"subscription": made["id"], "price": each["price"]})
    return made


def _subscriptions(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("subscriptions") if params.get("customer") in (None, each["customer"])]
    return _page(found, params)


def _subscribe(account: StripeAccount, params: Params) -> Thing:
    _only(params, "subscription", "price", "proration_behavior", "quantity")
    subscription = account._get("subscriptions", params["subscription"])
    price = account._get("prices", params["price"])
    if any(each["price"]["id"] == price["id"] for each in subscription["items"]["data"]):
        raise StripeFault(400, "The subscription has an item with that price already.", param="price")
    made = account._make(
        "subscription_items",
        "si",
        {"object": "subscription_item", "subscription": subscription["id"], "price": dict(price), "metadata": {}},
    )
    subscription["items"]["data"].append(made)
    return made


def _subscribed(account: StripeAccount, params: Params) -> Thing:
    _need(params, "subscription")
    return _page(list(account._get("subscriptions", params["subscription"])["items"]["data"]), params)


def _cancel(account: StripeAccount, params: Params, subscription_id: str) -> Thing:
    """Without `invoice_now` what was not invoiced yet is never."""
    _only(params, "invoice_now", "prorate")
    subscription = account._get("subscriptions", subscription_id)
    subscription["status"] = "canceled"
    if params.get("invoice_now") in (True, "true"):
        low = datetime.fromtimestamp(subscription["created"], UTC)
        account.bill(subscription_id, low, account.clock())
    return subscription


def _grant(account: StripeAccount, params: Params) -> Thing:
    _only(params, "customer", "name", "category", "amount", "applicability_config", "expires_at", "priority",
          "effective_at")  # fmt: skip
    _need(params, "customer", "amount", "applicability_config")
    account._get("customers", params["customer"])
    if params["applicability_config"].get("scope", {}).get("price_type") != "metered":
        raise StripeFault(400, "Credit grants apply to metered prices only.", param="applicability_config")
    value = int(params["amount"]["monetary"]["value"])
    if value <= 0:
        raise StripeFault(400, "Invalid positive integer", param="amount[monetary][value]")
    return account._make(
        "credit_grants",
        "credgr",
        {
            "object": "billing.credit_grant",
            "customer": params["customer"],
            "name": params.get("name"),
            "category": params.get("category", "paid"),
            "amount": params["amount"],
            "expires_at": int(params["expires_at"]) if "expires_at" in params else None,
            "priority": int(params.get("priority", 50)),
            "metadata": params.get("metadata", {}),
            "_left": value,
        },
    )


def _grants(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("credit_grants") if params.get("customer") in (None, each["customer"])]
    return _page(found, params)


def _checkout(account: StripeAccount, params: Params) -> Thing:
    _only(params, "mode", "customer", "currency", "success_url", "cancel_url")
    _need(params, "mode", "success_url")
    account._get("customers", params["customer"])
    made = account._make("sessions", "cs", {"object": "checkout.session", "customer": params["customer"]})
    made["url"] = f"https://checkout.stripe.test/{made['id']}"
    return made


def _read(kind: str) -> Callable[[StripeAccount, Params, str], Thing]:
    return lambda account, params, thing_id: account._get(kind, thing_id)


_ROUTES: tuple[tuple[str, str, Callable[..., Thing]], ...] = (
    ("POST", "/v1/customers", _customer),
    ("GET", "/v1/customers", _customers),
    ("GET", "/v1/customers/([^/]+)", _read("customers")),
    ("POST", "/v1/invoices", _invoice),
    ("GET", "/v1/invoices", _invoices),
    ("GET", "/v1/invoices/([^/]+)", _read_invoice),
    ("POST", "/v1/invoices/([^/]+)/finalize", _finalize),
    ("POST", "/v1/invoices/([^/]+)/void", _void),
    ("POST", "/v1/invoices/([^/]+)/pay", _pay),
    ("POST", "/v1/invoiceitems", _item),
    ("GET", "/v1/invoiceitems", _items),
    ("POST", "/v1/credit_notes", _note),
    ("GET", "/v1/credit_notes", _notes),
    ("POST", "/v1/billing/meters", _meter),
    ("GET", "/v1/billing/meters", _meters),
    ("POST", "/v1/billing/meters/([^/]+)/deactivate", _deactivate),
    ("GET", "/v1/billing/meters/([^/]+)/event_summaries", _summaries),
    ("POST", "/v1/billing/meter_events", _usage),
    ("POST", "/v1/products", _product),
    ("GET", "/v1/products/([^/]+)", _read("products")),
    ("POST", "/v1/prices", _price),
    ("GET", "/v1/prices", _prices),
    ("POST", "/v1/subscriptions", _subscription),
    ("GET", "/v1/subscriptions", _subscriptions),
    ("DELETE", "/v1/subscriptions/([^/]+)", _cancel),
    ("POST", "/v1/subscription_items", _subscribe),
    ("GET", "/v1/subscription_items", _subscribed),
    ("POST", "/v1/billing/credit_grants", _grant),
    ("GET", "/v1/billing/credit_grants", _grants),
    ("POST", "/v1/checkout/sessions", _checkout),
    ("GET", "/v2/core/events/([^/]+)", _read_report),
)
