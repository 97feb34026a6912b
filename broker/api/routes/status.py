"""`/status`, `/pause`, `/resume`."""

from fastapi import APIRouter

from broker.api.auth import AnyCaller, Operator
from broker.api.routes.wiring import IdempotencyKey, KeptAnswers, Operations
from broker.api.schemas import ReasonBody, StatusDocument, status_document

router = APIRouter(tags=["status"])


@router.get("/status")
def read(_who: AnyCaller, operations: Operations) -> StatusDocument:
    """The daemon at a glance."""
    return status_document(operations.status())


@router.post("/pause")
def pause(
    body: ReasonBody, who: Operator, operations: Operations, answers: KeptAnswers, key: IdempotencyKey = None
) -> StatusDocument:
    """Buy nothing from now on; machines that run already are kept."""
    return answers.once(
        who.uid, key, ("pause", body.reason), lambda: status_document(operations.pause(body.reason, who.user))
    )


@router.post("/resume")
def resume(who: Operator, operations: Operations, answers: KeptAnswers, key: IdempotencyKey = None) -> StatusDocument:
    """Buy again."""
    return answers.once(who.uid, key, ("resume",), lambda: status_document(operations.resume(who.user)))
