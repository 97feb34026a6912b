"""HTTP around the emulated Lambda: its public API, and a control socket that only the sandbox's owner may open."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from broker.sandbox.emulators.lambda_cloud import ApiError, LambdaCloud, faults_from


def public_api(cloud: LambdaCloud) -> FastAPI:
    """Lambda's API as far as a broker uses it: paths, envelope and errors of its OpenAPI 1.10.0."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route("/api/v1/{path:path}", methods=["GET", "POST"])
    async def call(path: str, request: Request) -> Response:
        try:
            key = cloud.enter(_key(request), path)
            misbehaviour = cloud.fault(key, f"/{path}")
            if misbehaviour is not None:
                return _misbehave(misbehaviour)
            cloud.tick()
            return _answer(cloud, key, request.method, path, await _body(request))
        except ApiError as exc:
            return JSONResponse(exc.body, status_code=exc.status)

    return app


def control_api(cloud: LambdaCloud) -> FastAPI:
    """The owner's side: the bill, the faults, the settings."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/bill")
    def bill() -> list[dict[str, Any]]:
        return cloud.bill()

    @app.get("/living")
    def living() -> list[str]:
        return cloud.living()

    @app.post("/faults")
    async def faults(request: Request) -> dict[str, int]:
        cloud.faults = faults_from(await request.json())
        return {"faults": len(cloud.faults)}

    @app.post("/settings")
    async def settings(request: Request) -> dict[str, Any]:
        wanted = await request.json()
        cloud.boot_seconds = float(wanted.get("boot_seconds", cloud.boot_seconds))
        cloud.limits = str(wanted.get("limits", cloud.limits))
        return {"boot_seconds": cloud.boot_seconds, "limits": cloud.limits}

    @app.post("/vanish/{instance_id}")
    def vanish(instance_id: str) -> dict[str, str]:
        cloud.vanish(instance_id)
        return {"vanished": instance_id}

    return app


def _answer(cloud: LambdaCloud, key: str, method: str, path: str, body: dict[str, Any]) -> Response:
    routes: dict[tuple[str, str], Callable[[], Any]] = {
        ("GET", "instance-types"): cloud.instance_types,
        ("GET", "instances"): lambda: cloud.instances(key),
        ("POST", "instance-operations/terminate"): lambda: {
            "terminated_instances": cloud.terminate(key, body.get("instance_ids"))
        },
        ("GET", "ssh-keys"): lambda: cloud.keys(key),
        ("POST", "ssh-keys"): lambda: cloud.add_key(key, body.get("name"), body.get("public_key")),
        ("GET", "regions"): lambda: [
            {"name": name, "description": description}
            for name, description in (("us-east-1", "Virginia, USA"), ("us-west-1", "California, USA"))
        ],
    }
    if (method, path) in routes:
        return JSONResponse({"data": routes[method, path]()})
    if (method, path) == ("POST", "instance-operations/launch"):
        instance_id, lost = cloud.launch(key, body)
        if lost:
            return StreamingResponse(_cut_off(), media_type="application/json")
        return JSONResponse({"data": {"instance_ids": [instance_id]}})
    if method == "GET" and path.startswith("instances/"):
        return JSONResponse({"data": cloud.instance(key, path.removeprefix("instances/"))})
    raise ApiError(404, "global/not-found", "The requested resource was not found.")


async def _cut_off() -> AsyncIterator[bytes]:
    yield b'{"data": {"instance_'
    raise ConnectionResetError("fault answer_lost: the connection is cut here")


def _misbehave(kind: str) -> Response:
    match kind:
        case "html_200":
            return Response("<html><body>We'll be back soon.</body></html>", media_type="text/html")
        case "half_json":
            return Response('{"data": [{"id": "0920582c7ff0', media_type="application/json")
        case "unauthorized":
            message = "API key was invalid, expired, or deleted."
            return JSONResponse({"error": {"code": "global/invalid-api-key", "message": message}}, status_code=401)
        case _:
            message = "An internal server error occurred."
            return JSONResponse({"error": {"code": "global/internal-error", "message": message}}, status_code=500)


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as exc:
        raise ApiError(400, "global/invalid-parameters", "Invalid request data.") from exc
    if not isinstance(body, dict):
        raise ApiError(400, "global/invalid-parameters", "Invalid request data.")
    return body


def _key(request: Request) -> str | None:
    """Bearer, or Basic with the key as user name and an empty password."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer":
        return value
    if scheme == "Basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except ValueError:
            return None
    return None
