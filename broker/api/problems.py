"""Errors as RFC 9457 problem documents."""

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.core import errors

MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[errors.BrokerError], int], ...] = (
    (errors.NotFound, 404),
    (errors.Refused, 403),
    (errors.ConfigError, 400),
    (errors.LedgerUnavailable, 503),
    (errors.SlurmUnavailable, 503),
    (errors.LedgerUnavailable, 503),
    (errors.ProviderUnavailable, 503),
    (errors.RateLimited, 503),
    (errors.BrokerError, 409),
)

_log = logging.getLogger(__name__)


def problem(status: int, detail: str, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem document; its `type` is about:blank, so `title` is the status's own phrase."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
    }
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(errors.BrokerError, _of_broker)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_middleware(LastResort)


async def _of_broker(request: Request, exc: Exception) -> JSONResponse:
    status = next(status for kind, status in _STATUS if isinstance(exc, kind))
    return problem(status, str(exc) or type(exc).__name__, request.url.path)


async def _of_validation(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)  # noqa: S101  # the handler is registered for this type only
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in exc.errors()]
    return problem(422, "; ".join(faults), request.url.path)


async def _of_http(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101
    detail = exc.detail
    if exc.status_code == 404:
        detail = f"There is no {request.url.path} here; /api/v1/openapi.json lists what there is."
    return problem(exc.status_code, detail, request.url.path, exc.headers)


class LastResort:
    """What nobody foresaw is logged with a number, and the caller learns the number only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            number = secrets.token_hex(4)
            _log.exception("api error number=%s method=%s path=%s", number, scope["method"], scope["path"])
            if started:
                raise
            detail = f"The broker failed in a way it cannot explain; its log has the cause under {number}."
            await problem(500, detail, scope["path"])(scope, receive, send)
