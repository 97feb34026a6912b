"""`/nodes`."""

from fastapi import APIRouter

from broker.api.auth import Operator
from broker.api.routes.wiring import Operations
from broker.api.schemas import NodeAccessDocument, node_access_document

router = APIRouter(prefix="/nodes", tags=["nodes"])


@router.get("/{name}/access")
def read_access(name: str, _who: Operator, operations: Operations) -> NodeAccessDocument:
    """How to open a shell on the machine behind a node, with its pinned host key."""
    return node_access_document(operations.node_access(name))
