"""`/metrics`, as Prometheus reads it. Counts without names of jobs, users or nodes, so everyone may."""

from fastapi import APIRouter, Request, Response

from broker.api.auth import AnyCaller
from broker.core.errors import NotFound

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response)
def read(_who: AnyCaller, request: Request) -> Response:
    """Every metric of the daemon in Prometheus' text format."""
    exposition = request.app.state.exposition
    if exposition is None:
        raise NotFound("this daemon counts nothing")
    media_type, text = exposition()
    return Response(text, media_type=media_type)
