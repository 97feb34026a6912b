"""`/offers`."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query

from broker.api.auth import AnyCaller
from broker.api.routes.wiring import Operations
from broker.api.schemas import OffersDocument, offers_document
from broker.services.market import Order, Question

router = APIRouter(tags=["offers"])

_Word = Annotated[str | None, Query(min_length=1, max_length=100)]


@router.get("/offers")
def read(
    _who: AnyCaller,
    operations: Operations,
    gpu: _Word = None,
    provider: _Word = None,
    zone: _Word = None,
    max_price: Annotated[Decimal | None, Query(gt=0, allow_inf_nan=False)] = None,
    available: bool = False,
    shape: _Word = None,
    sort: Order | None = None,
) -> OffersDocument:
    """What could be bought, sold-out types included unless `available`, as each credential saw it last."""
    question = Question(
        gpu=gpu, provider=provider, zone=zone, max_price=max_price, available=available, shape=shape, order=sort
    )
    return offers_document(operations.offers(question))
