"""Billing as JSON documents: money as decimal strings beside a `currency`, exact sums as decimals of twelve places."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker.api.plain import Plain
from broker.api.schemas import Time
from broker.billing.export import exact_text
from broker.billing.invoices import Invoice, Line, amount_text
from broker.billing.slices import SliceKind
from broker.billing.terms import Term, TermKind
from broker.services.billing import Closed, Preview
from broker.services.billing_desk import AtTheCashier
from broker.services.cashier import Difference, Pushed

Amount = Annotated[Decimal, Field(max_digits=24, allow_inf_nan=False)]
Account = Annotated[Plain, Field(min_length=1, max_length=64)]
Month = Annotated[Plain, Field(min_length=7, max_length=7)]


class TermBody(BaseModel):
    """A version of a term. `value` null withdraws it; `effective_from` null: now."""

    model_config = ConfigDict(extra="forbid")
    kind: TermKind
    value: Amount | None = None
    text: Annotated[Plain | None, Field(max_length=64)] = None
    account: Account | None = None
    gpu: Annotated[Plain | None, Field(min_length=1, max_length=32)] = None
    slice_kind: SliceKind | None = None
    name: Annotated[Plain | None, Field(max_length=64)] = None
    currency: Annotated[Plain | None, Field(max_length=3)] = None
    effective_from: datetime | None = None
    source: Annotated[Plain | None, Field(max_length=200)] = None


class CloseBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    period: Month
    account: Account | None = None


class CreditBody(BaseModel):
    """`amount`: net, in the invoice's currency."""

    model_config = ConfigDict(extra="forbid")
    amount: Amount
    reason: Annotated[Plain, Field(min_length=1, max_length=200)]


class PushBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    invoices: Annotated[list[Plain], Field(max_length=1000)] = []
    period: Month | None = None


class GrantBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[Plain, Field(min_length=1, max_length=60)]
    amount: Amount
    expires: datetime | None = None
    paid: bool = False


class TermDocument(BaseModel):
    id: int | None
    kind: str
    value: str | None
    text: str | None
    account: str | None
    gpu: str | None
    slice_kind: str | None
    name: str | None
    currency: str | None
    effective_from: Time
    source: str | None
    set_by: str
    set_at: Time


class TermsDocument(BaseModel):
    schema_version: Literal[1] = 1
    terms: list[TermDocument]


class LineDocument(BaseModel):
    position: int
    text: str
    user: str | None
    kind: str
    gpu: str | None
    month: str
    hours: str
    free_hours: str
    unit_price: str
    currency: str
    basis: str
    exchange: str
    exchange_source: str | None
    charged_percent: str
    exact: str
    amount: str


class TaxDocument(BaseModel):
    name: str
    percent: str
    amount: str


class InvoiceDocument(BaseModel):
    """`carried_in`, `carried_out`: what the one rounding cut off the invoice before, and this one."""

    id: str
    account: str
    period: str
    period_start: Time
    period_end: Time
    state: Literal["open", "closed"]
    currency: str
    cost_centre: str | None
    lines: list[LineDocument]
    carried_in: str
    net: str
    carried_out: str
    taxes: list[TaxDocument]
    total: str
    closed_at: Time | None
    closed_by: str | None
    refers_to: str | None
    note: str | None


class InvoicesDocument(BaseModel):
    schema_version: Literal[1] = 1
    invoices: list[InvoiceDocument]


class OneInvoiceDocument(BaseModel):
    schema_version: Literal[1] = 1
    invoice: InvoiceDocument


class PreviewDocument(BaseModel):
    """`provisional`: account → money of what still runs, in its invoice. `sites_own`: currency → money that nobody is charged."""

    schema_version: Literal[1] = 1
    period: str
    currency: str
    invoices: list[InvoiceDocument]
    provisional: dict[str, str]
    sites_own: dict[str, str]


class ClosedDocument(BaseModel):
    schema_version: Literal[1] = 1
    period: str
    made: list[InvoiceDocument]
    already: list[InvoiceDocument]


class ExportDocument(BaseModel):
    schema_version: Literal[1] = 1
    format: str
    text: str


class PushedLine(BaseModel):
    invoice: str
    status: str | None
    error: str | None


class PushedDocument(BaseModel):
    schema_version: Literal[1] = 1
    pushed: list[PushedLine]


class CollectedLine(BaseModel):
    invoice: str
    account: str
    total: str
    currency: str
    stripe_id: str | None
    status: str | None
    attempts: int
    next_attempt_at: str | None
    url: str | None


class StuckLine(BaseModel):
    account: str
    meter: str
    hour: Time
    gpu_seconds: str
    state: str
    error: str | None


class CashierDocument(BaseModel):
    schema_version: Literal[1] = 1
    mode: str
    invoices: list[CollectedLine]
    messages: dict[str, int]
    stuck: list[StuckLine]


class DifferenceLine(BaseModel):
    what: str
    account: str
    unit: str
    ledger: str | None
    outbox: str | None
    stripe: str | None
    agrees: bool


class ReconciledDocument(BaseModel):
    schema_version: Literal[1] = 1
    period: str
    agrees: bool
    lines: list[DifferenceLine]


class LinkDocument(BaseModel):
    schema_version: Literal[1] = 1
    account: str
    url: str


class MadeDocument(BaseModel):
    schema_version: Literal[1] = 1
    account: str
    stripe_id: str


class HeardDocument(BaseModel):
    written: bool
    why: str


def term_document(term: Term) -> TermDocument:
    scope = term.scope
    return TermDocument(
        id=term.id,
        kind=scope.kind.value,
        value=None if term.value is None else f"{term.value:f}",
        text=term.text,
        account=scope.account,
        gpu=scope.accelerator,
        slice_kind=scope.slice_kind.value if scope.slice_kind is not None else None,
        name=scope.name,
        currency=term.currency,
        effective_from=term.effective_from,
        source=term.source,
        set_by=term.set_by,
        set_at=term.set_at,
    )


def invoice_document(invoice: Invoice) -> InvoiceDocument:
    currency = invoice.currency
    return InvoiceDocument(
        id=invoice.id,
        account=invoice.account,
        period=invoice.period.name,
        period_start=invoice.period.start,
        period_end=invoice.period.end,
        state="open" if invoice.closed_at is None else "closed",
        currency=currency,
        cost_centre=invoice.cost_centre,
        lines=[_line(line, currency) for line in invoice.lines],
        carried_in=exact_text(invoice.carried_in),
        net=amount_text(invoice.net_minor, currency),
        carried_out=exact_text(invoice.carried_out),
        taxes=[
            TaxDocument(name=tax.name, percent=f"{tax.percent:f}", amount=amount_text(tax.minor, currency))
            for tax in invoice.taxes
        ],
        total=amount_text(invoice.total_minor, currency),
        closed_at=invoice.closed_at,
        closed_by=invoice.closed_by,
        refers_to=invoice.refers_to,
        note=invoice.note,
    )


def _line(line: Line, currency: str) -> LineDocument:
    return LineDocument(
        position=line.position,
        text=line.text,
        user=line.user,
        kind=line.kind.value,
        gpu=line.accelerator,
        month=f"{line.month:%Y-%m}",
        hours=exact_text(line.hours),
        free_hours=exact_text(line.free_hours),
        unit_price=exact_text(line.unit_price),
        currency=line.currency,
        basis=line.basis,
        exchange=f"{line.exchange:f}",
        exchange_source=line.exchange_source,
        charged_percent=f"{line.percent:f}",
        exact=exact_text(line.exact),
        amount=amount_text(line.minor, currency),
    )


def preview_document(preview: Preview) -> PreviewDocument:
    return PreviewDocument(
        period=preview.period.name,
        currency=preview.currency,
        invoices=[invoice_document(each) for each in preview.invoices],
        provisional={account: exact_text(amount) for account, amount in preview.provisional.items()},
        sites_own={currency: exact_text(amount) for currency, amount in preview.sites_own.items()},
    )


def closed_document(closed: Closed) -> ClosedDocument:
    return ClosedDocument(
        period=closed.period.name,
        made=[invoice_document(each) for each in closed.made],
        already=[invoice_document(each) for each in closed.already],
    )


def pushed_document(pushed: list[Pushed]) -> PushedDocument:
    return PushedDocument(
        pushed=[PushedLine(invoice=each.invoice_id, status=each.status, error=each.error) for each in pushed]
    )


def cashier_document(there: AtTheCashier) -> CashierDocument:
    return CashierDocument(
        mode=there.mode,
        invoices=[
            CollectedLine(
                invoice=each.invoice_id,
                account=each.account,
                total=each.total,
                currency=each.currency,
                stripe_id=each.stripe_id,
                status=each.status,
                attempts=each.attempts,
                next_attempt_at=each.next_attempt_at,
                url=each.url,
            )
            for each in there.invoices
        ],
        messages=there.messages,
        stuck=[
            StuckLine(
                account=each.message.key.account,
                meter=each.message.key.meter,
                hour=each.message.key.hour,
                gpu_seconds=f"{each.message.value.normalize():f}",
                state=each.state.value,
                error=each.error,
            )
            for each in there.stuck
        ],
    )


def reconciled_document(period: str, lines: list[Difference]) -> ReconciledDocument:
    return ReconciledDocument(
        period=period,
        agrees=all(each.agrees for each in lines),
        lines=[
            DifferenceLine(
                what=each.what,
                account=each.account,
                unit=each.unit,
                ledger=each.ledger,
                outbox=each.outbox,
                stripe=each.stripe,
                agrees=each.agrees,
            )
            for each in lines
        ],
    )
