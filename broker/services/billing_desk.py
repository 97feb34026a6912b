"""What the API asks of billing: the ledger's side and, where the site has one, the cashier's."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Engine

from broker.billing.invoices import Invoice, Period
from broker.core.errors import BrokerError, Refused
from broker.db import outbox
from broker.db.engine import reading
from broker.db.outbox import Queued
from broker.services.billing import Billing
from broker.services.cashier import Cashier, Collected, Difference, Pushed
from broker.services.metered_usage import MeteredUsage


@dataclass(frozen=True, kw_only=True)
class AtTheCashier:
    """`messages`: state → how many of the outbox; `stuck`: those that wait for a person."""

    mode: str
    invoices: tuple[Collected, ...]
    messages: dict[str, int]
    stuck: tuple[Queued, ...]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """`mode`: as `[billing] stripe` says."""

    engine: Engine
    billing: Billing
    cashier: Cashier | None
    mode: str

    def push(self, invoice_ids: list[str], period: Period | None) -> list[Pushed]:
        """Invoices by their ids, or all of a month with its credit notes. Refused: there is no cashier. NotFound."""
        cashier = self._cashier()
        wanted: list[Invoice] = [self.billing.invoice(each) for each in invoice_ids]
        if period is not None:
            wanted.extend(self.billing.invoices(None, period))
        if not wanted:
            raise BrokerError("nothing to push: name invoices, or a closed month with --period")
        return cashier.push(wanted)

    def at_the_cashier(self, account: str | None) -> AtTheCashier:
        """How invoices and messages stand."""
        with reading(self.engine) as db:
            messages, stuck = outbox.counts(db), outbox.stuck(db)
        invoices = self.cashier.standing(account) if self.cashier is not None else []
        return AtTheCashier(mode=self.mode, invoices=tuple(invoices), messages=messages, stuck=tuple(stuck))

    def reconcile(self, period: Period) -> list[Difference]:
        """Each figure here and at Stripe."""
        return self._cashier().reconcile(period)

    def setup_link(self, account: str) -> str:
        """A page where the account's payer leaves a way to pay."""
        return self._cashier().setup_link(account)

    def grant(self, account: str, name: str, amount: Decimal, expires: datetime | None, paid: bool) -> str:
        """Stripe's id of the grant; the same name again is the same grant."""
        return self._cashier().grant(account, name, amount, expires, paid)

    def subscribe(self, account: str) -> str:
        """Stripe's id of the account's subscription."""
        return self._metered().subscribe(account)

    def _cashier(self) -> Cashier:
        if self.cashier is None:
            raise Refused(
                'Stripe is not configured: write stripe = "invoices" and stripe_key_file into [billing]; '
                "`broker invoice export` needs neither"
            )
        return self.cashier

    def _metered(self) -> MeteredUsage:
        metered = self._cashier().metered
        if metered is None:
            raise Refused('subscriptions belong to stripe = "meters" in [billing]; here we make the invoices ourselves')
        return metered
