"""The emulated Vast inside the test's own process: no socket, and time that passes only when told to."""

import asyncio
import json
from typing import Any

import httpx
from contract.lambda_emulator import Seconds

from broker.sandbox.emulators.machines import NoMachines
from broker.sandbox.emulators.vast_cloud import VastCloud
from broker.sandbox.emulators.vast_http import vast_api
from broker.sandbox.emulators.vast_market import VastMachine, ask_id, shipped_machines

KEY = "key-v"
PUBLIC_KEY = "ssh-ed25519 AAAAC3Nza broker"
IMAGE = "registry.example/vastai/kvm:cli-22.04"


def a_market(clock: Seconds, **changes: Any) -> VastCloud:
    values: dict[str, Any] = {"boot_seconds": 3.0, "limits": "off"}
    return VastCloud({KEY: "vast-a", "key-w": "vast-b"}, NoMachines(), clock, **(values | changes))


def a_machine(**changes: Any) -> VastMachine:
    return VastMachine(**{**vars(shipped_machines()[0]), **changes})


def a_rent(**changes: Any) -> dict[str, Any]:
    return {"image": IMAGE, "label": "mine", "disk": 50, "runtype": "ssh_direct", "vm": True} | changes


def an_ask(clock: Seconds, gpus: int = 1, machine: VastMachine | None = None) -> int:
    """The id by which the shipped market's first machine can be rented now."""
    return ask_id(machine or shipped_machines()[0], gpus, clock())


class Api:
    """Calls the emulator's ASGI app; an exception inside it is raised here. `slept`: the seconds its answers were late."""

    def __init__(self, cloud: VastCloud) -> None:
        self.slept: list[float] = []
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(vast_api(cloud, sleep=self._sleep))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://vast.test")

    def call(self, method: str, path: str, body: object = None, key: str | None = KEY, **more: Any) -> httpx.Response:
        headers = {"Authorization": key if " " in key else f"Bearer {key}"} if key is not None else {}
        if body is not None:
            more["content"] = body if isinstance(body, bytes) else json.dumps(body)
        return self._loop.run_until_complete(self._http.request(method, f"/api{path}", headers=headers, **more))

    def close(self) -> None:
        self._loop.run_until_complete(self._http.aclose())
        self._loop.close()

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)
