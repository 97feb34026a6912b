"""The sandbox owner's side of an emulator."""

import asyncio

import httpx
import pytest
from contract.lambda_emulator import KEY, a_launch

from broker.sandbox.emulators.lambda_http import control_api


@pytest.fixture
def ask(cloud):
    async def request(method, path, **body):
        transport = httpx.ASGITransport(control_api(cloud))
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:
            return await http.request(method, path, **body)

    return lambda *words, **body: asyncio.run(request(*words, **body))


def test_the_owner_sees_what_lives_and_what_it_costs(cloud, ask):
    instance_id = cloud.launch(KEY, a_launch()).id
    assert ask("GET", "/living").json() == [instance_id]
    assert [row["instance_id"] for row in ask("GET", "/bill").json()] == [instance_id]
    assert ask("POST", f"/vanish/{instance_id}").json() == {"vanished": instance_id}
    assert ask("GET", "/living").json() == []


def test_an_instance_that_is_not_there_cannot_vanish(ask):
    answer = ask("POST", "/vanish/x")
    assert (answer.status_code, answer.json()) == (404, {"error": "no instance x"})


def test_faults_are_set_and_a_wrong_script_changes_nothing(cloud, ask):
    assert ask("POST", "/faults", json=[{"kind": "slow"}]).json() == {"faults": 1}
    for body in ({"json": [{"kind": "slwo"}]}, {"content": b"{"}, {"json": {}}):
        assert ask("POST", "/faults", **body).status_code == 400
    assert "known are" in ask("POST", "/faults", json=[{"kind": "slwo"}]).json()["error"]
    assert [fault.kind for fault in cloud.faults] == ["slow"]


def test_settings_are_set(cloud, ask):
    assert ask("POST", "/settings", json={"boot_seconds": 7}).json() == {"boot_seconds": 7.0, "limits": "off"}
    assert ask("POST", "/settings", json={"limits": "published"}).json()["limits"] == "published"
    assert (cloud.boot_seconds, cloud.limits) == (7.0, "published")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"boot_second": 1},
        {"boot_seconds": -1},
        {"boot_seconds": "1"},
        {"boot_seconds": True},
        {"limits": "on"},
        {"limits": []},
    ],
)
def test_wrong_settings_are_named_and_change_nothing(cloud, ask, body):
    answer = ask("POST", "/settings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert (cloud.boot_seconds, cloud.limits) == (3.0, "off")
