"""HTTP around the emulated Vast.ai: its public API. The owner's side is `control.py`."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from broker.sandbox.emulators.faults import RENT_PATH as ASKS_PATH
from broker.sandbox.emulators.vast_cloud import VastCloud
from broker.sandbox.emulators.vast_errors import (
    VastError,
    inactive,
    internal,
    no_json,
    no_page,
    refused,
    too_frequent,
    wrong_key,
)

_ROOT = "/api"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_PAGE = 25
_LONGEST_ID = 18
Sleep = Callable[[float], Awaitable[object]]


def vast_api(cloud: VastCloud, sleep: Sleep = asyncio.sleep) -> FastAPI:
    """Vast's API as far as a broker uses it: paths, answers and errors of its OpenAPI."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route("/{path:path}", methods=_METHODS)
    async def call(request: Request) -> Response:
        try:
            return await _call(cloud, request, sleep)
        except VastError as exc:
            return _no(exc)

    return app


async def _call(cloud: VastCloud, request: Request, sleep: Sleep) -> Response:
    root, slash, rest = request.url.path.partition(f"{_ROOT}/")
    if root or not slash:
        raise no_page()
    path = f"/{rest}"
    key = cloud.enter(_key(request), request.method, path)
    body = await _body(request)
    fault = cloud.fault(key, request.method, path)
    if fault is not None and fault.kind not in {"slow", "doubled"}:
        return _misbehave(fault.kind, request.method, path)
    cloud.tick()
    if request.method == "PUT" and path.startswith(ASKS_PATH):
        response = await _rent(cloud, key, path, body, sleep)
    else:
        answer = _answer(cloud, key, request, path, body)
        if fault is not None and fault.kind == "doubled":
            answer = {name: [*rows, *rows] if isinstance(rows, list) else rows for name, rows in answer.items()}
        response = JSONResponse(answer)
    if fault is not None:
        await sleep(fault.seconds or 0.0)
    return response


async def _rent(cloud: VastCloud, key: str, path: str, body: Mapping[str, Any], sleep: Sleep) -> Response:
    contract = cloud.rent(key, _id(path.removeprefix(ASKS_PATH)), body)
    await sleep(contract.faults.get("answer_late", 0.0))
    if "answer_lost" in contract.faults:
        return StreamingResponse(_cut_off(), media_type="application/json")
    if "answer_500" in contract.faults:
        raise internal()
    return JSONResponse({"success": True, "new_contract": contract.id})


def _answer(cloud: VastCloud, key: str, request: Request, path: str, body: Mapping[str, Any]) -> Any:
    match (request.method, *path.strip("/").split("/")):
        case ("POST", "v0", "bundles"):
            return {"offers": cloud.search(key, body)}
        case ("GET", "v1", "instances"):
            return _listing(cloud, key, request)
        case ("GET", "v0", "instances", "pending-price-increases"):
            rows = cloud.rises(key)
            return {"success": True, "count": len(rows), "pending_price_increases": rows, "truncated": False}
        case ("GET", "v0", "instances", number):
            return {"instances": cloud.shown(key, _id(number))}
        case ("DELETE", "v0", "instances", number):
            cloud.destroy(key, _id(number))
            return {"success": True, "msg": "Instance destroyed successfully"}
        case ("GET", "v0", "ssh"):
            return cloud.keys(key)
        case ("POST", "v0", "ssh"):
            return {"success": True, "key": cloud.add_key(key, body.get("ssh_key"))}
        case _:
            raise no_page()


def _listing(cloud: VastCloud, key: str, request: Request) -> dict[str, Any]:
    wanted = request.query_params
    try:
        columns, filters = (
            json.loads(wanted.get("select_cols", '["*"]')),
            json.loads(wanted.get("select_filters", "{}")),
        )
        limit, after = int(wanted.get("limit", str(_PAGE))), wanted.get("after_token")
        start = int(after.removeprefix("after-")) if after else None
    except (ValueError, RecursionError) as exc:
        raise VastError(400, {"error": "invalid_request", "msg": "Error in query parameters"}) from exc
    if not isinstance(columns, list) or not isinstance(filters, dict) or not 1 <= limit <= _PAGE:
        raise VastError(
            400, {"error": "invalid_request", "msg": f"Error in query parameters: limit is at most {_PAGE}"}
        )
    rows, found, last = cloud.listed(key, {"limit": limit, "after": start, "filters": filters})
    if columns != ["*"]:
        rows = [{name: row.get(name) for name in columns if isinstance(name, str) and name in row} for row in rows]
    return {
        "success": True,
        "instances_found": len(rows),
        "total_instances": found,
        "next_token": None if last is None else f"after-{last}",
        "instances": rows,
    }


async def _cut_off() -> AsyncIterator[bytes]:
    yield b'{"success": true, "new_con'
    raise ConnectionResetError("fault answer_lost: the connection is cut here")


def _misbehave(kind: str, method: str, path: str) -> Response:
    match kind:
        case "html_200":
            return Response("<html><body>We'll be back soon.</body></html>", media_type="text/html")
        case "half_json":
            return Response('{"offers": [{"id": 11684', media_type="application/json")
        case "wrong_type":
            return JSONResponse("maintenance")
        case "rate_limited":
            return _no(too_frequent(path, method, 4.5))
        case "unauthorized":
            return _no(wrong_key(path))
        case "inactive":
            return _no(inactive(path))
        case _:
            return _no(internal())


def _no(error: VastError) -> Response:
    if isinstance(error.body, str):
        return PlainTextResponse(error.body, status_code=error.status)
    return JSONResponse(error.body, status_code=error.status)


def _id(text: str) -> int:
    text = text.strip("/")
    if not text.isdecimal() or not text.isascii() or len(text) > _LONGEST_ID:
        raise refused(400, "invalid_args", "invalid instance_id")
    return int(text)


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if not raw or request.method == "GET":
        return {}
    try:
        body = json.loads(raw)
        json.dumps(
            body, allow_nan=False, ensure_ascii=False
        ).encode()  # NaN and half characters are no JSON to answer with
    except (ValueError, RecursionError) as exc:
        raise no_json(request.url.path) from exc
    if not isinstance(body, dict):
        raise no_json(request.url.path)
    return body


def _key(request: Request) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value if scheme.lower() == "bearer" else None
