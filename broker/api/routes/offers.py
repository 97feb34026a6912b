"""`/offers`."""

from typing import Annotated

from fastapi import APIRouter, Query

from broker.api.auth import AnyCaller
from broker.api.routes.wiring import Operations
from broker.api.schemas import OffersDocument, offers_document

router = APIRouter(tags=["offers"])


@router.get("/offers")
def read(
    _who: AnyCaller, operations: Operations, gpu: Annotated[str | None, Query(min_length=1, max_length=100)] = None
) -> OffersDocument:
    """What could be bought, sold-out types included, as each credential saw it last."""
    return offers_document(operations.offers(gpu))
