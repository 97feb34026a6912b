"""`/leases`."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from broker.api.auth import Operator
from broker.api.operations import LogName
from broker.api.pages import BadCursor, page
from broker.api.routes.wiring import IdempotencyKey, KeptAnswers, Operations
from broker.api.schemas import (
    LeaseDocument,
    LeasesDocument,
    LogDocument,
    ReasonBody,
    lease_document,
    lease_summary,
)

router = APIRouter(prefix="/leases", tags=["leases"])


@router.get("")
def read_list(
    _who: Operator,
    operations: Operations,
    include_released: Annotated[bool, Query(alias="all", description="Released leases too.")] = False,
    node: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> LeasesDocument:
    """Leases, newest first."""
    try:
        shown, next_cursor = page(operations.leases(include_released, node), cursor, limit)
    except BadCursor:
        raise HTTPException(422, "query.cursor: not a cursor of this API; start again without one") from None
    return LeasesDocument(leases=[lease_summary(view) for view in shown], next_cursor=next_cursor)


@router.get("/{lease_id}")
def read(lease_id: str, _who: Operator, operations: Operations) -> LeaseDocument:
    """One lease with its history."""
    return lease_document(operations.lease(lease_id))


@router.get("/{lease_id}/logs/{which}")
def read_log(lease_id: str, which: LogName, _who: Operator, operations: Operations) -> LogDocument:
    """What the instance said while it booted."""
    return LogDocument(lease_id=lease_id, which=which, text=operations.log(lease_id, which))


@router.post("/{lease_id}/release")
def release(
    *,
    lease_id: str,
    body: ReasonBody,
    who: Operator,
    operations: Operations,
    answers: KeptAnswers,
    key: IdempotencyKey = None,
) -> LeaseDocument:
    """Give the instance back. Returns at once: the lease is `released` only when the provider has confirmed."""
    return answers.once(
        who.uid,
        key,
        ("release", lease_id, body.reason),
        lambda: lease_document(operations.release(lease_id, body.reason, who.user)),
    )
