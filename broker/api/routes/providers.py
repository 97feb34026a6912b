"""`/providers`."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from broker.api.auth import Operator
from broker.api.credentials import (
    ProviderDocument,
    ProvidersDocument,
    QuoteDocument,
    TestDocument,
    TrialDocument,
    provider_document,
    providers_document,
    quote_document,
    test_document,
)
from broker.api.routes.wiring import IdempotencyKey, KeptAnswers, Operations
from broker.api.schemas import ReasonBody

router = APIRouter(prefix="/providers", tags=["providers"])

Price = Annotated[Decimal, Field(gt=0, max_digits=12, allow_inf_nan=False)]


class TrialBody(BaseModel):
    """Which offer, at what price an hour at most."""

    model_config = ConfigDict(extra="forbid")
    offer_id: Annotated[str, Field(min_length=1, max_length=255)]
    max_price: Price


@router.get("")
def read_list(_who: Operator, operations: Operations) -> ProvidersDocument:
    """Every credential and how it stands."""
    return providers_document(operations.credentials.lines())


@router.get("/{name}")
def read(name: str, _who: Operator, operations: Operations) -> ProviderDocument:
    """One credential: its blocks and their history, limits, boot times, residue."""
    return provider_document(operations.credentials.view(name))


@router.post("/{name}/test")
def test(name: str, _who: Operator, operations: Operations) -> TestDocument:
    """Ask the provider what it sells and what lives there, now. Buys nothing."""
    return test_document(operations.credentials.test(name))


@router.get("/{name}/quote")
def read_quote(
    name: str,
    _who: Operator,
    operations: Operations,
    max_price: Annotated[Decimal, Query(gt=0, allow_inf_nan=False)],
    gpu: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
) -> QuoteDocument:
    """What a test purchase would buy."""
    return quote_document(*operations.credentials.quote(name, max_price, gpu))


@router.post("/{name}/trial")
def trial(
    *,
    name: str,
    body: TrialBody,
    who: Operator,
    operations: Operations,
    answers: KeptAnswers,
    key: IdempotencyKey = None,
) -> TrialDocument:
    """Buy it, look whether it is what was sold, give it back. Returns at once with the lease that tells how it goes."""

    def buy() -> TrialDocument:
        return TrialDocument(
            lease_id=operations.credentials.buy_for_test(name, body.offer_id, body.max_price, who.user)
        )

    return answers.once(who.uid, key, ("trial", name, body.offer_id, body.max_price), buy)


@router.post("/{name}/pause")
def pause(
    *,
    name: str,
    body: ReasonBody,
    who: Operator,
    operations: Operations,
    answers: KeptAnswers,
    key: IdempotencyKey = None,
) -> ProvidersDocument:
    """Buy nothing with the credential from now on; its machines are kept."""

    def act() -> ProvidersDocument:
        return providers_document([operations.credentials.pause(name, body.reason, who.user)])

    return answers.once(who.uid, key, ("pause", name, body.reason), act)


@router.post("/{name}/resume")
def resume(
    *, name: str, who: Operator, operations: Operations, answers: KeptAnswers, key: IdempotencyKey = None
) -> ProvidersDocument:
    """Buy with it again at once: all that is left alone there is tried again, but for machines that lied."""
    return answers.once(
        who.uid, key, ("resume", name), lambda: providers_document([operations.credentials.resume(name, who.user)])
    )
