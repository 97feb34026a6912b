"""Closed invoices to Stripe, each once; what it says of them; credit, a way to pay. Money is counted by the ledger only."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import Engine

from broker.billing.invoices import Invoice, Period, amount_text, money_text, to_minor
from broker.cashier.errors import CashierRefused
from broker.cashier.stripe_api import Made, StripeApi, StripeInvoice
from broker.core.errors import BrokerError, Refused
from broker.db import invoices, outbox, stripe
from broker.db.engine import reading
from broker.db.stripe import Said
from broker.services.at_stripe import AtStripe
from broker.services.metered_usage import MeteredUsage

_CLOCKS_DIFFER = timedelta(minutes=10)
_MOST_ITEMS = 200
"""Stripe takes 250 on an invoice; what is more is put together, and the export has each line."""
ORDER = {"draft": 0, "open": 1, "uncollectible": 2, "paid": 3, "void": 3}
"""Of two words of the same second the later in life holds."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """How an invoice stands at Stripe. `status` None: it is not there. `attempts`: how often Stripe tried to take the money."""

    invoice_id: str
    account: str
    total: str
    currency: str
    stripe_id: str | None
    status: str | None
    attempts: int
    next_attempt_at: str | None
    url: str | None


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """One invoice's push: how it stands now, or why not."""

    invoice_id: str
    status: str | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure, three times. Equal figures agree; None: that one does not exist."""

    what: str
    account: str
    unit: str
    ledger: str | None
    outbox: str | None
    stripe: str | None
    agrees: bool


@dataclass(frozen=True, kw_only=True)
class Payers:
    """Who pays for an account, at Stripe."""

    api: StripeApi
    at: AtStripe

    def customer(self, account: str) -> str:
        """Stripe's id of the account's customer, made if need be."""
        return self.at.once(
            "customer",
            account,
            lambda since: _named(self.api.customers_since(since - _CLOCKS_DIFFER), self.at.named(account)),
            lambda key: self.api.make_customer(self.at.named(account), account, key),
        )


class Cashier:
    """`days_until_due` None: Stripe charges the customer's way to pay by itself. `metered`: only in the mode `meters`."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Callable[[], datetime],
        api: StripeApi,
        at: AtStripe,
        payers: Payers,
        days_until_due: int | None,
        return_url: str,
        currency: str,
        metered: MeteredUsage | None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._api = api
        self._at = at
        self._payers = payers
        self._days_until_due = days_until_due
        self._return_url = return_url
        self._currency = currency
        self.metered = metered

    def push(self, wanted: list[Invoice]) -> list[Pushed]:
        """Bring invoices and credit notes to Stripe. Again and after a crash: goes on where it stopped, doubles nothing.

        Refused: in the mode `meters` Stripe itself makes the invoices.
        """
        if self.metered is not None:
            raise Refused(
                'stripe = "meters": Stripe makes the invoices from the usage it is told; `broker invoice export` has ours'
            )
        done = []
        for invoice in wanted:
            try:
                status = self._push_note(invoice) if invoice.refers_to is not None else self._push(invoice)
                done.append(Pushed(invoice_id=invoice.id, status=status, error=None))
            except BrokerError as exc:
                done.append(Pushed(invoice_id=invoice.id, status=None, error=str(exc)))
        return done

    def standing(self, account: str | None) -> list[Collected]:
        """How each closed invoice stands at Stripe, as it last said."""
        with reading(self._engine) as db:
            listed = [each for each in invoices.every(db, account) if each.refers_to is None]
            ids, words = stripe.ids(db, "invoice"), stripe.all_said(db, "invoice")
        return [_collected(each, ids.get(each.id), words.get(ids.get(each.id, ""))) for each in listed]

    def setup_link(self, account: str) -> str:
        """A page of Stripe's where the account's payer leaves a way to pay."""
        return self._api.setup_link(self._payers.customer(account), self._currency, self._return_url)

    def grant(self, account: str, name: str, amount: Decimal, expires: datetime | None, paid: bool) -> str:
        """Prepaid or given money, taken before a card is charged; once a name. Stripe's id of it.

        Refused: only metered prices use it up.
        """
        if self.metered is None:
            raise Refused(
                'stripe = "invoices": grants are for metered prices only; `broker invoice credit` gives money back'
            )
        customer = self._payers.customer(account)
        value = {"value": to_minor(amount, self._currency), "currency": self._currency.lower()}
        params: dict[str, Any] = {
            "customer": customer,
            "name": name,
            "category": "paid" if paid else "promotional",
            "amount": {"type": "monetary", "monetary": value},
            "applicability_config": {"scope": {"price_type": "metered"}},
        }
        if expires is not None:
            params["expires_at"] = int(expires.astimezone(UTC).timestamp())
        full = f"{account}/{name}"
        return self._at.once(
            "credit_grant",
            full,
            lambda since: _named(self._api.grants_of(customer), self._at.named(full)),
            lambda key: self._api.make_grant(self._at.named(full), params, key),
        )

    def reconcile(self, period: Period) -> list[Difference]:
        """Ledger = outbox = meter, or ledger = Stripe's invoice: each figure beside the others."""
        if self.metered is not None:
            return [
                Difference(
                    what=f"{each.meter} GPU-seconds",
                    account=each.account,
                    unit="s",
                    ledger=str(each.ledger),
                    outbox=str(each.outbox),
                    stripe=None if each.stripe is None else str(each.stripe),
                    agrees=each.agrees,
                )
                for each in self.metered.reconcile(period)
            ]
        with reading(self._engine) as db:
            listed = invoices.every(db, None, period)
            ids = stripe.ids(db, "invoice")
        found = []
        for invoice in (each for each in listed if each.refers_to is None):
            there = self._api.invoice(ids[invoice.id]) if invoice.id in ids else None
            if there is not None:
                self._hear(there)
            ours = amount_text(invoice.total_minor, invoice.currency)
            theirs = amount_text(there.total, invoice.currency) if there is not None else None
            found.append(
                Difference(
                    what=f"invoice {invoice.id}",
                    account=invoice.account,
                    unit=invoice.currency,
                    ledger=ours,
                    outbox=None,
                    stripe=theirs,
                    agrees=ours == theirs,
                )
            )
        return found

    def _push(self, invoice: Invoice) -> str:
        with reading(self._engine) as db:
            told = outbox.sums(db, invoice.period.start, invoice.period.end)
        if any(account == invoice.account for account, _ in told):
            raise Refused(
                f"invoice {invoice.id}: Stripe's meters were told of that month's usage; pushed too, it would be charged twice"
            )
        items = _items(invoice)
        if not items:
            return "nothing to collect"
        customer = self._payers.customer(invoice.account)
        params: dict[str, Any] = {
            "customer": customer,
            "currency": invoice.currency.lower(),
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "description": f"{invoice.id}" + (f", cost centre {invoice.cost_centre}" if invoice.cost_centre else ""),
            "collection_method": "charge_automatically" if self._days_until_due is None else "send_invoice",
        }
        if self._days_until_due is not None:
            params["days_until_due"] = self._days_until_due
        stripe_id = self._at.once(
            "invoice",
            invoice.id,
            lambda since: _named(self._api.invoices_of(customer), self._at.named(invoice.id)),
            lambda key: self._api.make_invoice(self._at.named(invoice.id), params, key),
        )
        draft = self._api.invoice(stripe_id)
        if draft.status == "draft":
            for position, (text, minor) in enumerate(items, start=1):
                self._add_item(invoice, stripe_id, customer, position, text, minor)
            draft = self._api.invoice(stripe_id)
        return self._finalize(invoice, draft, len(items))

    def _add_item(self, invoice: Invoice, stripe_id: str, customer: str, position: int, text: str, minor: int) -> None:
        name = f"{invoice.id}/{position}"
        params = {
            "customer": customer,
            "invoice": stripe_id,
            "currency": invoice.currency.lower(),
            "amount": minor,
            "description": text,
        }
        self._at.once(
            "invoice_item",
            name,
            lambda since: _named(self._api.items_of(stripe_id), self._at.named(name)),
            lambda key: self._api.add_item(self._at.named(name), params, key),
        )

    def _finalize(self, invoice: Invoice, draft: StripeInvoice, items: int) -> str:
        if draft.total != invoice.total_minor:
            raise CashierRefused(
                f"invoice {invoice.id} is {money_text(invoice.total_minor, invoice.currency)} and Stripe's {draft.id} is "
                f"{money_text(draft.total, invoice.currency)} with {len(self._api.items_of(draft.id))} of {items} items: "
                "it is not finalized; somebody has changed it there, or Stripe's own tax is on"
            )
        if draft.status == "draft":
            draft = self._api.finalize(draft.id, self._at.key("finalize", invoice.id, 1))
        self._hear(draft)
        return draft.status

    def _push_note(self, note: Invoice) -> str:
        with reading(self._engine) as db:
            about = stripe.ids(db, "invoice").get(note.refers_to or "")
        if about is None:
            raise Refused(f"credit note {note.id}: push its invoice {note.refers_to} first")
        there = self._api.invoice(about)
        if there.status not in {"open", "paid"}:
            raise Refused(
                f"credit note {note.id}: Stripe's invoice {about} is {there.status}; only an open or paid one takes it"
            )
        self._at.once(
            "credit_note",
            note.id,
            lambda since: _named(self._api.credit_notes_of(about), self._at.named(note.id)),
            partial(
                self._api.make_credit_note,
                self._at.named(note.id),
                about,
                -note.total_minor,
                note.note or "",
                there.status == "paid",
            ),
        )
        return "issued"

    def _hear(self, there: StripeInvoice) -> None:
        """Keep what an answer said; by our clock, which may be ahead of Stripe's, so a webhook's word is not beaten by it."""
        now = self._clock()
        word = Said(
            stripe_id=there.id,
            kind="invoice",
            status=there.status,
            detail={
                "attempts": there.attempts,
                "next_attempt_at": there.next_attempt_at.isoformat() if there.next_attempt_at else None,
                "url": there.url,
            },
            said_at=now - _CLOCKS_DIFFER,
        )
        with self._engine.begin() as db:
            before = stripe.said(db, there.id)
            if before is None or ORDER.get(before.status, 0) <= ORDER.get(word.status, 0):
                stripe.say(db, word, now)


def make_cashier(
    *,
    engine: Engine,
    clock: Callable[[], datetime],
    api: StripeApi,
    cluster: str,
    days_until_due: int | None,
    return_url: str,
    currency: str,
    meters: bool,
) -> Cashier:
    """A cashier in one of its two modes."""
    at = AtStripe(engine=engine, cluster=cluster, clock=clock)
    payers = Payers(api=api, at=at)
    metered = MeteredUsage(engine=engine, clock=clock, api=api, at=at, customer=payers.customer, currency=currency)
    return Cashier(
        engine=engine,
        clock=clock,
        api=api,
        at=at,
        payers=payers,
        days_until_due=days_until_due,
        return_url=return_url,
        currency=currency,
        metered=metered if meters else None,
    )


def _named(found: list[Made], name: str) -> str | None:
    return next((each.id for each in found if each.name == name), None)


def _items(invoice: Invoice) -> list[tuple[str, int]]:
    """Text and amount of each item; they add up to the invoice's total."""
    items = [(line.text, line.minor) for line in invoice.lines]
    if len(items) > _MOST_ITEMS:
        rest = items[_MOST_ITEMS - 1 :]
        items = [*items[: _MOST_ITEMS - 1], (f"{len(rest)} further lines, see the export", sum(m for _, m in rest))]
    return [*items, *((f"{tax.name} ({tax.percent.normalize():f} %)", tax.minor) for tax in invoice.taxes)]


def _collected(invoice: Invoice, stripe_id: str | None, word: Said | None) -> Collected:
    detail = word.detail if word is not None else {}
    return Collected(
        invoice_id=invoice.id,
        account=invoice.account,
        total=amount_text(invoice.total_minor, invoice.currency),
        currency=invoice.currency,
        stripe_id=stripe_id,
        status=word.status if word is not None else None,
        attempts=int(detail.get("attempts") or 0),
        next_attempt_at=detail.get("next_attempt_at"),
        url=detail.get("url"),
    )
