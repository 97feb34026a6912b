"""`/why`."""

from fastapi import APIRouter

from broker.api.auth import AnyCaller
from broker.api.routes.wiring import Operations
from broker.api.schemas import WhyDocument, why_document
from broker.core.errors import Refused

router = APIRouter(tags=["why"])


@router.get("/why/{target}")
def read(target: str, who: AnyCaller, operations: Operations) -> WhyDocument:
    """What happened to a job or node and what is awaited."""
    if not who.is_operator and not target.isdecimal():
        raise Refused(f'"{target}" is no job id, and only operators may ask about nodes; give the number of your job.')
    why = operations.why(target)
    if not who.is_operator and why.owner != who.user:
        raise Refused(f"Job {target} is not one of {who.user}'s; ask about your own jobs, or ask an operator.")
    return why_document(why)
