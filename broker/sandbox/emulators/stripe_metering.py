"""The emulated Stripe's meters, prices, subscriptions and credit grants: how usage becomes an invoice there.

Event identifiers hold for 24 hours, timestamps 35 days back and 5 minutes ahead, values have 12 decimals, sums come as floats,
and late usage does not reach a closed period.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from broker.sandbox.emulators.stripe_account import (
    KEYS_KEPT,
    UNPAID,
    Params,
    Routes,
    StripeAccount,
    StripeFault,
    Thing,
    a_list,
    need,
    only,
    page,
    read,
)

_OLDEST = timedelta(days=35)
_AHEAD = timedelta(minutes=5)


def bill(account: StripeAccount, subscription_id: str, low: datetime, high: datetime) -> Thing:
    """The subscription's invoice of a period: usage with a time in it that has arrived by now, less its credits."""
    subscription = account.get("subscriptions", subscription_id)
    customer = subscription["customer"]
    lines = []
    for item in subscription["items"]["data"]:
        price = account.get("prices", item["price"]["id"])
        meter = account.get("meters", price["recurring"]["meter"])
        used = max(Decimal(0), _sum(account, meter, customer, low, high))
        amount = int((used * Decimal(price["unit_amount_decimal"])).to_integral_value(ROUND_HALF_UP))
        lines.append({"amount": amount, "price": price["id"], "quantity": str(used)})
    total = sum(line["amount"] for line in lines)
    credited = _use_grants(account, customer, total)
    invoice = account.make(
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
            **UNPAID,
            "metadata": {},
        },
    )
    invoice["lines"] = a_list(lines)
    return invoice


def _use_grants(account: StripeAccount, customer: str, total: int) -> int:
    left = total
    grants = [grant for grant in account.all("credit_grants") if grant["customer"] == customer]
    for grant in sorted(grants, key=lambda each: (each["priority"], each["created"])):
        expired = grant["expires_at"] is not None and grant["expires_at"] <= account.now()
        taken = 0 if expired else min(left, grant["_left"])
        grant["_left"] -= taken
        left -= taken
    return total - left


def _sum(account: StripeAccount, meter: Thing, customer: str, low: datetime, high: datetime) -> Decimal:
    events = [
        event["value"]
        for event in account.usage
        if event["event_name"] == meter["event_name"]
        and event["customer"] == customer
        and low.timestamp() <= event["timestamp"] < high.timestamp()
    ]
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return Decimal(len(events))
    return sum(events, Decimal(0)) if formula == "sum" else (events[-1] if events else Decimal(0))


def _meter(account: StripeAccount, params: Params) -> Thing:
    only(params, "display_name", "event_name", "default_aggregation", "customer_mapping", "value_settings",
          "event_time_window")  # fmt: skip
    need(params, "display_name", "event_name", "default_aggregation")
    name = params["event_name"]
    if any(each["event_name"] == name and each["status"] == "active" for each in account.all("meters")):
        raise StripeFault(400, f"An active meter with event name {name} already exists.", param="event_name")
    return account.make("meters", "mtr", {"object": "billing.meter", "status": "active", **params})


def _meters(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("meters") if params.get("status") in (None, each["status"])]
    return page(found, params)


def _deactivate(account: StripeAccount, params: Params, meter_id: str) -> Thing:
    meter = account.get("meters", meter_id)
    meter["status"] = "inactive"
    return meter


def _usage(account: StripeAccount, params: Params) -> Thing:
    only(params, "event_name", "identifier", "payload", "timestamp")
    need(params, "event_name", "payload")
    now = account.clock()
    identifier = params.get("identifier") or f"auto-{account.count}"
    known = [each for each in account.usage if each["identifier"] == identifier]
    if any(now - each["arrived"] < KEYS_KEPT for each in known):
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
        account.reports.append(_report(len(account.reports) + 1, code, said, account.key or ""))
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
    need(params, "customer", "start_time", "end_time")
    low, high = (datetime.fromtimestamp(int(params[name]), UTC) for name in ("start_time", "end_time"))
    if low.second or high.second:
        raise StripeFault(400, "start_time and end_time must be aligned with minute boundaries.", param="start_time")
    total = _sum(account, account.get("meters", meter_id), params["customer"], low, high)
    summary = {
        "id": f"mtrusg_{meter_id}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(total),
        "start_time": int(low.timestamp()),
        "end_time": int(high.timestamp()),
        "livemode": False,
        "meter": meter_id,
    }
    return a_list([summary])


def _product(account: StripeAccount, params: Params) -> Thing:
    only(params, "id", "name", "unit_label")
    need(params, "name")
    if params.get("id") in account.things.get("products", {}):
        raise StripeFault(400, "Product already exists.", code="resource_already_exists", param="id")
    made = account.make("products", "prod", {"object": "product", "name": params["name"], "metadata": {}})
    if "id" in params:
        del account.things["products"][made["id"]]
        made["id"] = params["id"]
        account.things["products"][made["id"]] = made
    return made


def _price(account: StripeAccount, params: Params) -> Thing:
    only(params, "product", "currency", "unit_amount_decimal", "recurring", "lookup_key", "unit_amount")
    need(params, "product", "currency")
    account.get("products", params["product"])
    if any(each["lookup_key"] == params.get("lookup_key") for each in account.all("prices")):
        raise StripeFault(400, "A price already uses that lookup key.", param="lookup_key")
    amount = Decimal(params["unit_amount_decimal"])
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        raise StripeFault(400, "unit_amount_decimal has at most 12 decimals.", param="unit_amount_decimal")
    account.get("meters", params["recurring"]["meter"])
    return account.make(
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
    return page([each for each in account.all("prices") if wanted is None or each["lookup_key"] in wanted], params)


def _subscription(account: StripeAccount, params: Params) -> Thing:
    only(params, "customer", "items", "billing_cycle_anchor", "proration_behavior")
    need(params, "customer", "items")
    account.get("customers", params["customer"])
    made = account.make(
        "subscriptions",
        "sub",
        {
            "object": "subscription",
            "customer": params["customer"],
            "status": "active",
            "billing_cycle_anchor": int(params.get("billing_cycle_anchor", account.now())),
            "metadata": params.get("metadata", {}),
            "items": a_list([]),
        },
    )
    listed = params["items"].values() if isinstance(params["items"], dict) else params["items"]
    for each in listed:
        _subscribe(account, {"subscription": made["id"], "price": each["price"]})
    return made


def _subscriptions(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("subscriptions") if params.get("customer") in (None, each["customer"])]
    return page(found, params)


def _subscribe(account: StripeAccount, params: Params) -> Thing:
    only(params, "subscription", "price", "proration_behavior", "quantity")
    subscription = account.get("subscriptions", params["subscription"])
    price = account.get("prices", params["price"])
    if any(each["price"]["id"] == price["id"] for each in subscription["items"]["data"]):
        raise StripeFault(400, "The subscription has an item with that price already.", param="price")
    made = account.make(
        "subscription_items",
        "si",
        {"object": "subscription_item", "subscription": subscription["id"], "price": dict(price), "metadata": {}},
    )
    subscription["items"]["data"].append(made)
    return made


def _subscribed(account: StripeAccount, params: Params) -> Thing:
    need(params, "subscription")
    return page(list(account.get("subscriptions", params["subscription"])["items"]["data"]), params)


def _cancel(account: StripeAccount, params: Params, subscription_id: str) -> Thing:
    """Without `invoice_now` what was not invoiced yet is never."""
    only(params, "invoice_now", "prorate")
    subscription = account.get("subscriptions", subscription_id)
    subscription["status"] = "canceled"
    if params.get("invoice_now") in (True, "true"):
        low = datetime.fromtimestamp(subscription["created"], UTC)
        bill(account, subscription_id, low, account.clock())
    return subscription


def _grant(account: StripeAccount, params: Params) -> Thing:
    only(params, "customer", "name", "category", "amount", "applicability_config", "expires_at", "priority",
          "effective_at")  # fmt: skip
    need(params, "customer", "amount", "applicability_config")
    account.get("customers", params["customer"])
    if params["applicability_config"].get("scope", {}).get("price_type") != "metered":
        raise StripeFault(400, "Credit grants apply to metered prices only.", param="applicability_config")
    value = int(params["amount"]["monetary"]["value"])
    if value <= 0:
        raise StripeFault(400, "Invalid positive integer", param="amount[monetary][value]")
    return account.make(
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
    return page(found, params)


ROUTES: Routes = (
    ("POST", "/v1/billing/meters", _meter),
    ("GET", "/v1/billing/meters", _meters),
    ("POST", "/v1/billing/meters/([^/]+)/deactivate", _deactivate),
    ("GET", "/v1/billing/meters/([^/]+)/event_summaries", _summaries),
    ("POST", "/v1/billing/meter_events", _usage),
    ("POST", "/v1/products", _product),
    ("GET", "/v1/products/([^/]+)", read("products")),
    ("POST", "/v1/prices", _price),
    ("GET", "/v1/prices", _prices),
    ("POST", "/v1/subscriptions", _subscription),
    ("GET", "/v1/subscriptions", _subscriptions),
    ("DELETE", "/v1/subscriptions/([^/]+)", _cancel),
    ("POST", "/v1/subscription_items", _subscribe),
    ("GET", "/v1/subscription_items", _subscribed),
    ("POST", "/v1/billing/credit_grants", _grant),
    ("GET", "/v1/billing/credit_grants", _grants),
    ("GET", "/v2/core/events/([^/]+)", _read_report),
)
