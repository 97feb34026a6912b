"""The emulated Lambda inside the test's own process: no socket, and time that passes only when told to."""

import asyncio
import json
from typing import Any

import httpx

from broker.sandbox.emulators.lambda_cloud import LambdaCloud, NoMachines
from broker.sandbox.emulators.lambda_http import public_api

KEY = "key-a"
PUBLIC_KEY = "ssh-ed25519 AAAAC3Nza broker"


class Seconds:
    """A clock of seconds."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def a_cloud(clock: Seconds, **changes: Any) -> LambdaCloud:
    values: dict[str, Any] = {"boot_seconds": 3.0, "limits": "off"}
    return LambdaCloud({KEY: "lambda-a", "key-b": "lambda-b"}, NoMachines(), clock, **(values | changes))


class Api:
    """Calls an emulator's ASGI app; an exception inside it is raised here. `slept`: the seconds its answers were late.

    `key`: an API key, or a whole Authorization header; None: no such header.
    """

    def __init__(self, cloud: LambdaCloud) -> None:
        self.slept: list[float] = []
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(public_api(cloud, sleep=self._sleep))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://lambda.test")

    def call(self, method: str, path: str, body: object = None, key: str | None = KEY, **more: Any) -> httpx.Response:
        headers = {"Authorization": key if " " in key else f"Bearer {key}"} if key is not None else {}
        if body is not None:
            more["content"] = body if isinstance(body, bytes) else json.dumps(body)
        return self._loop.run_until_complete(self._http.request(method, f"/api/v1{path}", headers=headers, **more))

    def close(self) -> None:
        self._loop.run_until_complete(self._http.aclose())
        self._loop.close()

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)


def a_launch(**changes: Any) -> dict[str, Any]:
    body = {"region_name": "us-east-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["mine"]}
    return body | changes
