"""A bound on request bodies: the socket is open to every user of the host."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.problems import problem

LIMIT_BYTES = 64 * 1024


class BoundedBodies:
    """Reads the whole body before the application sees the request; more than LIMIT_BYTES is answered with 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LIMIT_BYTES:
                detail = f"The body is larger than {LIMIT_BYTES} bytes; send less."
                # Closed, because the rest of the body is still on its way.
                await problem(413, detail, scope["path"], {"connection": "close"})(scope, receive, send)
                return
        await self._app(scope, _replay(bytes(body), receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
