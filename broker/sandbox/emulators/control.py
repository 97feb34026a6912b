"""The owner's side of the emulated providers, on a socket that only the sandbox's owner may open: bill, faults, settings."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from broker.sandbox.emulators.faults import Fault, faults_from


class Cloud(Protocol):
    """An emulated provider, as its owner sees it."""

    credentials: frozenset[str]
    faults: list[Fault]
    boot_seconds: float
    limits: str

    def tick(self) -> None: ...

    def bill(self) -> list[dict[str, Any]]: ...

    def living(self) -> list[str]: ...

    def vanish(self, instance_id: str) -> None: ...

    def preempt(self, instance_id: str) -> None: ...


_LIMITS = ("off", "published")


def control_api(*clouds: Cloud) -> FastAPI:
    """The control API of all of them. What it cannot do is answered with 400 or 404 and the reason in `error`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/bill")
    def bill() -> list[dict[str, Any]]:
        return [row for cloud in clouds for row in cloud.bill()]

    @app.get("/living")
    def living() -> list[str]:
        return [instance for cloud in clouds for instance in cloud.living()]

    @app.post("/faults")
    async def faults(request: Request) -> Response:
        return _tried(lambda body: set_faults(clouds, body), await request.body())

    @app.post("/settings")
    async def settings(request: Request) -> Response:
        return _tried(lambda body: _set(clouds, body), await request.body())

    @app.post("/vanish/{instance_id}")
    def vanish(instance_id: str) -> Response:
        return _done("vanished", instance_id, [cloud.vanish for cloud in clouds])

    @app.post("/preempt/{instance_id}")
    def preempt(instance_id: str) -> Response:
        return _done("preempted", instance_id, [cloud.preempt for cloud in clouds])

    return app


def set_faults(clouds: Sequence[Cloud], rows: Any) -> dict[str, Any]:
    """Give each cloud those that name one of its credentials, or none: each counts its own. ValueError: see `faults_from`."""
    script = faults_from(rows)
    for cloud in clouds:
        cloud.faults = [replace(fault) for fault in script if fault.credential in {None, *cloud.credentials}]
    return {"faults": len(script)}


def _done(what: str, instance_id: str, deeds: Sequence[Callable[[str], None]]) -> Response:
    for deed in deeds:
        try:
            deed(instance_id)
        except KeyError:
            continue
        return JSONResponse({what: instance_id})
    return JSONResponse({"error": f"no instance {instance_id}"}, status_code=404)


def _tried(deed: Callable[[Any], dict[str, Any]], raw: bytes) -> Response:
    try:
        return JSONResponse(deed(json.loads(raw)))
    except (ValueError, RecursionError) as exc:
        return JSONResponse({"error": str(exc)}, status_code=400)


def _set(clouds: Sequence[Cloud], body: object) -> dict[str, Any]:
    if not isinstance(body, dict) or not set(body) <= {"boot_seconds", "limits"}:
        raise ValueError(f"settings {body!r}: an object with boot_seconds, limits, or both is needed")
    boot_seconds, limits = body.get("boot_seconds", clouds[0].boot_seconds), body.get("limits", clouds[0].limits)
    if type(boot_seconds) not in {int, float} or not 0 <= boot_seconds < math.inf:
        raise ValueError(f"boot_seconds {boot_seconds!r}: a number of seconds from 0 on is needed")
    if limits not in _LIMITS:
        raise ValueError(f"limits {limits!r}: known are {', '.join(_LIMITS)}")
    for cloud in clouds:
        cloud.boot_seconds, cloud.limits = float(boot_seconds), limits
    return {"boot_seconds": float(boot_seconds), "limits": limits}
