"""HTTP around the emulated Lambda: its public API. The owner's side is `control.py`."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from broker.sandbox.emulators.control import control_api
from broker.sandbox.emulators.faults import LAUNCH_PATH
from broker.sandbox.emulators.lambda_catalogue import REGIONS, images, public_region
from broker.sandbox.emulators.lambda_cloud import LambdaCloud
from broker.sandbox.emulators.lambda_errors import (
    ApiError,
    TooManyRequests,
    inactive,
    internal,
    invalid,
    no_page,
    wrong_key,
)

__all__ = ["control_api", "public_api"]

_ROOT = "/api/v1"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
Sleep = Callable[[float], Awaitable[object]]


def public_api(cloud: LambdaCloud, sleep: Sleep = asyncio.sleep) -> FastAPI:
    """Lambda's API as far as a broker uses it: paths, envelope and errors of its OpenAPI 1.10.0."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route("/{path:path}", methods=_METHODS)
    async def call(request: Request) -> Response:
        try:
            return await _call(cloud, request, sleep)
        except ApiError as exc:
            return _no(exc)

    return app


async def _call(cloud: LambdaCloud, request: Request, sleep: Sleep) -> Response:
    root, slash, rest = request.url.path.partition(f"{_ROOT}/")
    if root or not slash:
        raise no_page()
    path = f"/{rest}"
    key = cloud.enter(_key(request))
    body = await _body(request)
    fault = cloud.fault(key, path, body, request.method)
    if fault is not None and fault.kind not in {"slow", "doubled"}:
        return _misbehave(fault.kind)
    cloud.tick()
    if (request.method, path) == ("POST", LAUNCH_PATH):
        response = await _launch(cloud, key, body, sleep)
    else:
        data = _data(cloud, key, request, path, body)
        doubled = fault is not None and fault.kind == "doubled" and isinstance(data, list)
        response = JSONResponse({"data": [*data, *data] if doubled else data})
    if fault is not None:
        await sleep(fault.seconds or 0.0)
    return response


async def _launch(cloud: LambdaCloud, key: str, body: Mapping[str, Any], sleep: Sleep) -> Response:
    instance = cloud.launch(key, body)
    await sleep(instance.faults.get("answer_late", 0.0))
    if "answer_lost" in instance.faults:
        return StreamingResponse(_cut_off(), media_type="application/json")
    if "answer_500" in instance.faults:
        raise internal()
    return JSONResponse({"data": {"instance_ids": [instance.id]}})


def _data(cloud: LambdaCloud, key: str, request: Request, path: str, body: Mapping[str, Any]) -> Any:
    fixed: dict[tuple[str, str], Callable[[], Any]] = {
        ("GET", "/instance-types"): cloud.instance_types,
        ("GET", "/regions"): lambda: [public_region(name) for name in REGIONS],
        ("GET", "/images"): images,
        # The emulated instances are singles: none of them is of any cluster.
        ("GET", "/instances"): lambda: [] if "cluster_id" in request.query_params else cloud.instances(key),
        ("POST", "/instance-operations/restart"): lambda: {"restarted_instances": cloud.restart(key, body)},
        ("POST", "/instance-operations/terminate"): lambda: {"terminated_instances": cloud.terminate(key, body)},
        ("GET", "/ssh-keys"): lambda: cloud.keys(key),
        ("POST", "/ssh-keys"): lambda: cloud.add_key(key, body),
        # None of either: `lambda_launch.py` refuses a launch that names one.
        ("GET", "/file-systems"): list,
        ("GET", "/firewall-rulesets"): list,
    }
    if (request.method, path) in fixed:
        return fixed[request.method, path]()
    match (request.method, *path[1:].split("/")):
        case ("GET", "instances", instance_id):
            return cloud.instance(key, instance_id)
        case ("POST", "instances", instance_id):
            return cloud.rename(key, instance_id, body)
        case ("DELETE", "ssh-keys", key_id):
            return cloud.delete_key(key, key_id)
        case _:
            raise no_page()


async def _cut_off() -> AsyncIterator[bytes]:
    yield b'{"data": {"instance_'
    raise ConnectionResetError("fault answer_lost: the connection is cut here")


def _misbehave(kind: str) -> Response:
    refusals = {"unauthorized": wrong_key, "inactive": inactive, "error_500": internal}
    match kind:
        case "html_200":
            return Response("<html><body>We'll be back soon.</body></html>", media_type="text/html")
        case "half_json":
            return Response('{"data": [{"id": "0920582c7ff0', media_type="application/json")
        case "wrong_type":
            return JSONResponse({"data": "maintenance"})
        case "rate_limited":
            return _no(TooManyRequests("Too many requests."))
        case _:
            return _no(refusals[kind]())


def _no(error: ApiError) -> Response:
    if isinstance(error.body, str):
        return PlainTextResponse(error.body, status_code=error.status)
    return JSONResponse(error.body, status_code=error.status)


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
        raise invalid("Invalid request data.") from exc
    if not isinstance(body, dict):
        raise invalid("Invalid request data.")
    return body


def _key(request: Request) -> str | None:
    """Bearer, or Basic with the key as user name and an empty password."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value
        case "basic":
            try:
                return base64.b64decode(value).decode().partition(":")[0]
            except ValueError:
                return None
    return None
