"""`/webhooks`: what providers send us. Whoever calls is known by a signature, not by a uid: a proxy stands between."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from broker.core.errors import NotFound

router = APIRouter(tags=["webhooks"])


@router.post("/webhooks/{provider}", status_code=204, response_class=Response)
async def receive(provider: str, request: Request) -> Response:
    """A signed delivery of the credential's provider; only where the configuration has a secret for it."""
    hooks = request.app.state.webhooks
    if provider not in hooks:
        raise NotFound(f"no credential {provider} takes webhooks; give it webhook_secret_file in broker.toml")
    body = await request.body()
    await run_in_threadpool(hooks[provider], dict(request.headers), body)
    return Response(status_code=204)
