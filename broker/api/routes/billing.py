"""`/billing`, `/invoices`, `/stripe`."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from broker.api.auth import Operator
from broker.api.billing import (
    CashierDocument,
    CloseBody,
    ClosedDocument,
    CreditBody,
    ExportDocument,
    GrantBody,
    HeardDocument,
    InvoicesDocument,
    LinkDocument,
    MadeDocument,
    OneInvoiceDocument,
    PreviewDocument,
    PushBody,
    PushedDocument,
    ReconciledDocument,
    TermBody,
    TermsDocument,
    cashier_document,
    closed_document,
    invoice_document,
    preview_document,
    pushed_document,
    reconciled_document,
    term_document,
)
from broker.api.routes.wiring import IdempotencyKey, KeptAnswers
from broker.billing.export import to_csv, to_html
from broker.billing.invoices import period_of
from broker.billing.terms import Scope
from broker.core.errors import NotFound
from broker.services.billing import Wanted
from broker.services.billing_desk import Desk as DeskOf
from broker.services.stripe_webhook import StripeWebhook

router = APIRouter(tags=["billing"])


def _desk(request: Request) -> DeskOf:
    desk: DeskOf | None = request.app.state.billing
    if desk is None:
        raise NotFound("this daemon has no billing")
    return desk


Desk = Annotated[DeskOf, Depends(_desk)]
Month = Annotated[str, Query(min_length=7, max_length=7, description="A month, such as 2026-11.")]
Account = Annotated[str | None, Query(min_length=1, max_length=64)]
AccountInPath = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("/billing/terms")
def read_terms(_who: Operator, desk: Desk) -> TermsDocument:
    """Every version of every term, oldest first."""
    return TermsDocument(terms=[term_document(each) for each in desk.billing.terms()])


@router.post("/billing/terms")
def set_term(
    *, body: TermBody, who: Operator, desk: Desk, answers: KeptAnswers, key: IdempotencyKey = None
) -> TermsDocument:
    """Add a version of a term; what was charged before stays."""
    since = body.effective_from
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    wanted = Wanted(
        scope=Scope(
            kind=body.kind, account=body.account, accelerator=body.gpu, slice_kind=body.slice_kind, name=body.name
        ),
        value=body.value,
        text=body.text,
        currency=body.currency,
        effective_from=since,
        source=body.source,
    )
    return answers.once(
        who.uid,
        key,
        ("term", body.model_dump_json()),
        lambda: TermsDocument(terms=[term_document(desk.billing.set_term(wanted, who.user))]),
    )


@router.get("/billing/preview")
def preview(_who: Operator, desk: Desk, period: Month, account: Account = None) -> PreviewDocument:
    """A month's invoices as they are, or would be now, with what still runs."""
    return preview_document(desk.billing.preview(period_of(period), account))


@router.post("/billing/close")
def close(
    *, body: CloseBody, who: Operator, desk: Desk, answers: KeptAnswers, key: IdempotencyKey = None
) -> ClosedDocument:
    """Make a month's invoices; again: only those that are missing."""
    return answers.once(
        who.uid,
        key,
        ("close", body.period, body.account),
        lambda: closed_document(desk.billing.close(period_of(body.period), body.account, who.user)),
    )


@router.post("/billing/push")
def push(*, body: PushBody, who: Operator, desk: Desk) -> PushedDocument:
    """Bring closed invoices to Stripe; again: goes on where it stopped."""
    period = period_of(body.period) if body.period is not None else None
    return pushed_document(desk.push(body.invoices, period))


@router.get("/invoices")
def read_invoices(
    _who: Operator, desk: Desk, period: Annotated[str | None, Query()] = None, account: Account = None
) -> InvoicesDocument:
    """Closed invoices and credit notes."""
    month = period_of(period) if period is not None else None
    return InvoicesDocument(invoices=[invoice_document(each) for each in desk.billing.invoices(account, month)])


@router.get("/invoices/export")
def export(
    _who: Operator,
    desk: Desk,
    period: Month,
    form: Annotated[Literal["csv", "html"], Query(alias="format")],
    account: Account = None,
) -> ExportDocument:
    """A month's invoices for the site's books: closed ones where they are, else as they would be now."""
    invoices = desk.billing.preview(period_of(period), account).invoices
    text = to_csv(invoices) if form == "csv" else to_html(invoices, datetime.now(UTC))
    return ExportDocument(format=form, text=text)


@router.get("/invoices/{invoice_id}")
def read_invoice(invoice_id: str, _who: Operator, desk: Desk) -> OneInvoiceDocument:
    """One closed invoice or credit note."""
    return OneInvoiceDocument(invoice=invoice_document(desk.billing.invoice(invoice_id)))


@router.post("/invoices/{invoice_id}/credit")
def credit(
    *, invoice_id: str, body: CreditBody, who: Operator, desk: Desk, answers: KeptAnswers, key: IdempotencyKey = None
) -> OneInvoiceDocument:
    """A credit note; the same reason again is the same note."""
    return answers.once(
        who.uid,
        key,
        ("credit", invoice_id, body.amount, body.reason),
        lambda: OneInvoiceDocument(
            invoice=invoice_document(desk.billing.credit(invoice_id, body.amount, body.reason, who.user))
        ),
    )


@router.get("/stripe")
def read_stripe(_who: Operator, desk: Desk, account: Account = None) -> CashierDocument:
    """How invoices stand at Stripe, and what of the usage could not be told."""
    return cashier_document(desk.at_the_cashier(account))


@router.post("/stripe/reconcile")
def reconcile(*, body: CloseBody, _who: Operator, desk: Desk) -> ReconciledDocument:
    """Ledger, outbox and Stripe, figure by figure."""
    return reconciled_document(body.period, desk.reconcile(period_of(body.period)))


@router.post("/stripe/{account}/setup-link")
def setup_link(account: AccountInPath, _who: Operator, desk: Desk) -> LinkDocument:
    """A page of Stripe's where the account's payer leaves a way to pay."""
    return LinkDocument(account=account, url=desk.setup_link(account))


@router.post("/stripe/{account}/grants")
def grant(*, account: AccountInPath, body: GrantBody, _who: Operator, desk: Desk) -> MadeDocument:
    """Prepaid or given money; the same name again is the same grant."""
    made = desk.grant(account, body.name, body.amount, body.expires, body.paid)
    return MadeDocument(account=account, stripe_id=made)


@router.post("/stripe/{account}/subscription")
def subscribe(account: AccountInPath, _who: Operator, desk: Desk) -> MadeDocument:
    """A subscription to the metered prices; again: what is new is added."""
    return MadeDocument(account=account, stripe_id=desk.subscribe(account))


@router.post("/webhooks/stripe")
async def receive(request: Request) -> HeardDocument:
    """A signed delivery of Stripe's; what is a repetition or older than what is known is answered, and not written."""
    hook: StripeWebhook | None = request.app.state.stripe_webhook
    if hook is None:
        raise NotFound("no webhooks of Stripe are taken here; give [billing] stripe_webhook_secret_file in broker.toml")
    body = await request.body()
    heard = await run_in_threadpool(hook.receive, dict(request.headers), body)
    return HeardDocument(written=heard.written, why=heard.why)
