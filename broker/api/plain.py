"""Texts that both databases can hold: SQLite keeps a NUL, PostgreSQL refuses it."""

from typing import Annotated

from pydantic import AfterValidator
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.api.problems import problem


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL, which no text may")
    return text


Plain = Annotated[str, AfterValidator(_plain)]


class PlainAddresses:
    """A NUL in a request's path or query is answered with 400."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            await problem(400, "The address holds a NUL (%00), which no text may.", scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)
