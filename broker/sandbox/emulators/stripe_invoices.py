"""The emulated Stripe's customers, invoices and credit notes: lines only on drafts, never more credit than the invoice."""

import re

from broker.sandbox.emulators.stripe_account import (
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


def _customer(account: StripeAccount, params: Params) -> Thing:
    only(params, "name", "email", "description")
    values = {"object": "customer", "name": params.get("name"), "metadata": params.get("metadata", {})}
    return account.make("customers", "cus", values)


def _customers(account: StripeAccount, params: Params) -> Thing:
    only(params, "created", "limit", "starting_after", "email")
    since = int(params.get("created", {}).get("gte", 0))
    return page([each for each in account.all("customers") if each["created"] >= since], params)


def _invoice(account: StripeAccount, params: Params) -> Thing:
    only(
        params, "customer", "currency", "auto_advance", "pending_invoice_items_behavior", "description",
        "collection_method", "days_until_due",
    )  # fmt: skip
    need(params, "customer")
    account.get("customers", params["customer"])
    if params.get("collection_method") == "send_invoice" and not params.get("days_until_due"):
        raise StripeFault(400, "Missing required param: days_until_due.", param="days_until_due")
    return _totalled(
        account,
        account.make(
            "invoices",
            "in",
            {
                "object": "invoice",
                "customer": params["customer"],
                "currency": params.get("currency", "usd"),
                "status": "draft",
                "description": params.get("description"),
                "collection_method": params.get("collection_method", "charge_automatically"),
                **UNPAID,
                "metadata": params.get("metadata", {}),
            },
        ),
    )


def _totalled(account: StripeAccount, invoice: Thing) -> Thing:
    items = [each for each in account.all("invoiceitems") if each["invoice"] == invoice["id"]]
    if "subscription" not in invoice:
        total = sum(each["amount"] for each in items)
        invoice.update(subtotal=total, total=total, lines=a_list(items[:10]))
        if invoice["status"] in {"draft", "open"}:
            invoice["amount_due"] = max(0, total)
    return invoice


def _invoices(account: StripeAccount, params: Params) -> Thing:
    only(params, "customer", "limit", "starting_after", "status", "subscription")
    found = [each for each in account.all("invoices") if params.get("customer") in (None, each["customer"])]
    return page(found, params)


def _read_invoice(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    return _totalled(account, account.get("invoices", invoice_id))


def _finalize(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    only(params, "auto_advance")
    invoice = account.get("invoices", invoice_id)
    if invoice["status"] != "draft":
        raise StripeFault(400, "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    _totalled(account, invoice)
    # A credit goes to the customer's balance at once, and nought is nothing to pay.
    invoice["status"] = "open" if invoice["total"] > 0 else "paid"
    invoice["hosted_invoice_url"] = f"https://invoice.stripe.test/{invoice_id}"
    return invoice


def _void(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    invoice = account.get("invoices", invoice_id)
    if invoice["status"] not in {"open", "uncollectible"}:
        raise StripeFault(400, f"You can't void a {invoice['status']} invoice.")
    invoice.update(status="void", amount_due=0)
    return invoice


def pay(account: StripeAccount, invoice_id: str) -> Thing:
    """The customer pays, or Stripe takes the money."""
    invoice = account.get("invoices", invoice_id)
    invoice.update(status="paid", amount_due=0, attempt_count=invoice["attempt_count"] + 1)
    return invoice


def _pay(account: StripeAccount, params: Params, invoice_id: str) -> Thing:
    if account.get("invoices", invoice_id)["status"] != "open":
        raise StripeFault(400, "Invoice is not open.")
    return pay(account, invoice_id)


def _item(account: StripeAccount, params: Params) -> Thing:
    only(params, "customer", "invoice", "currency", "amount", "description")
    need(params, "customer", "currency")
    invoice = account.get("invoices", params["invoice"])
    if invoice["status"] != "draft":
        raise StripeFault(400, "You can only add invoice items to a draft invoice.", param="invoice")
    if not re.fullmatch(r"-?\d{1,12}", str(params.get("amount", ""))):
        raise StripeFault(400, f"Invalid integer: {params.get('amount')}", param="amount")
    if invoice["customer"] != params["customer"]:
        raise StripeFault(400, "The invoice belongs to another customer.", param="customer")
    made = account.make(
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
    only(params, "invoice", "customer", "limit", "starting_after")
    found = [each for each in account.all("invoiceitems") if params.get("invoice") in (None, each["invoice"])]
    return page(found, params)


def _note(account: StripeAccount, params: Params) -> Thing:
    only(params, "invoice", "amount", "memo", "credit_amount", "refund_amount", "out_of_band_amount")
    need(params, "invoice", "amount")
    invoice = account.get("invoices", params["invoice"])
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
    return account.make("credit_notes", "cn", values)


def _notes(account: StripeAccount, params: Params) -> Thing:
    found = [each for each in account.all("credit_notes") if params.get("invoice") in (None, each["invoice"])]
    return page(found, params)


def _checkout(account: StripeAccount, params: Params) -> Thing:
    only(params, "mode", "customer", "currency", "success_url", "cancel_url")
    need(params, "mode", "success_url")
    account.get("customers", params["customer"])
    made = account.make("sessions", "cs", {"object": "checkout.session", "customer": params["customer"]})
    made["url"] = f"https://checkout.stripe.test/{made['id']}"
    return made


ROUTES: Routes = (
    ("POST", "/v1/customers", _customer),
    ("GET", "/v1/customers", _customers),
    ("GET", "/v1/customers/([^/]+)", read("customers")),
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
    ("POST", "/v1/checkout/sessions", _checkout),
)
