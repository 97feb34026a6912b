"""The owner's side of an emulated provider, on a socket that only the sandbox's owner may open: bill, faults, settings."""

import json
import math
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from broker.sandbox.emulators.faults import Fault, faults_from


class Cloud(Protocol):
    """An emulated provider, as its owner sees it."""

    faults: list[Fault]
    boot_seconds: float
    limits: str

    def tick(self) -> None: ...

    def bill(self) -> list[dict[str, Any]]: ...

    def living(self) -> list[str]: ...

    def vanish(self, instance_id: str) -> None: ...

    def preempt(self, instance_id: str) -> None: ...


_LIMITS = ("off", "published")


def control_api(cloud: Cloud) -> FastAPI:
    """The control API. What it cannot do is answered with 400 or 404 and the reason in `error`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/bill")
    def bill() -> list[dict[str, Any]]:
        return cloud.bill()

    @app.get("/living")
    def living() -> list[str]:
        return cloud.living()

    @app.post("/faults")
    async def faults(request: Request) -> Response:
        return _tried(lambda body: _set_faults(cloud, body), await request.body())

    @app.post("/settings")
    async def settings(request: Request) -> Response:
        return _tried(lambda body: _set(cloud, body), await request.body())

    @app.post("/vanish/{instance_id}")
    def vanish(instance_id: str) -> Response:
        try:
            cloud.vanish(instance_id)
        except KeyError:
            return JSONResponse({"error": f"no instance {instance_id}"}, status_code=404)
        return JSONResponse({"vanished": instance_id})

    @app.post("/preempt/{instance_id}")
    def preempt(instance_id: str) -> Response:
        try:
            cloud.preempt(instance_id)
        except KeyError:
            return JSONResponse({"error": f"no instance {instance_id}"}, status_code=404)
        return JSONResponse({"preempted": instance_id})

    return app


def _tried(deed: Callable[[Any], dict[str, Any]], raw: bytes) -> Response:
    try:
        return JSONResponse(deed(json.loads(raw)))
    except (ValueError, RecursionError) as exc:
        return JSONResponse({"error": str(exc)}, status_code=400)


def _set_faults(cloud: Cloud, body: Any) -> dict[str, Any]:
    cloud.faults = faults_from(body)
    return {"faults": len(cloud.faults)}


def _set(cloud: Cloud, body: object) -> dict[str, Any]:
    if not isinstance(body, dict) or not set(body) <= {"boot_seconds", "limits"}:
        raise ValueError(f"settings {body!r}: an object with boot_seconds, limits, or both is needed")
    boot_seconds, limits = body.get("boot_seconds", cloud.boot_seconds), body.get("limits", cloud.limits)
    if type(boot_seconds) not in {int, float} or not 0 <= boot_seconds < math.inf:
        raise ValueError(f"boot_seconds {boot_seconds!r}: a number of seconds from 0 on is needed")
    if limits not in _LIMITS:
        raise ValueError(f"limits {limits!r}: known are {', '.join(_LIMITS)}")
    cloud.boot_seconds, cloud.limits = float(boot_seconds), limits
    return {"boot_seconds": cloud.boot_seconds, "limits": cloud.limits}
