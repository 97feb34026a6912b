"""Ten thousand spoilt answers for each call of each adapter: nothing crashes, no row is invented, none is lost in silence."""

import copy
import json
import logging
import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from factories import NOON, Clock

from broker.catalog.accelerators import known
from broker.core.errors import OutcomeUnknown, ProviderError
from broker.core.offers import CapacityType, InstanceSpec, InstanceState
from broker.providers.http import Pace
from broker.providers.lambda_cloud import LambdaProvider
from broker.providers.vast import VastProvider
from broker.providers.vast_http import contract_of
from broker.providers.vast_instances import COLUMNS
from broker.providers.vast_offers import rows_of

DATA = Path(__file__).parents[1] / "data"
ANSWERS = 10_000
SPEC = InstanceSpec(
    label="broker-test-l0123456789-e1",
    instance_type="22990x1",
    zone="cn-guangxi",
    user_data="#!/bin/sh\n",
    ssh_public_key="ssh-ed25519 AAAAC3Nza broker",
    capacity_type=CapacityType.SPOT,
    price_per_hour=Decimal("0.3"),
    disk_gib=10,
)
JUNK = (
    *(None, True, False, 0, -1, 1, 0.0, -0.01, 1e308, 10**30, "", "x", "-1", "4.29", "NaN", "∞", "\x00", "Infinity"),
    *([], {}, [[]], {"x": {}}, [None], ["us-east-1"], {"id": 7}, float("inf"), float("nan")),
)
WORDS = (
    "active",
    "hibernating",
    "RUNNING",
    "stopped",
    "created",
    "exited",
    "offline",
    "H100",
    "GB999",
    "amd64",
    "riscv64",
)
STATUSES = (200,) * 14 + (201, 204, 302, 400, 401, 402, 403, 404, 409, 410, 418, 422, 429, 500, 502, 503, 504)
PAGES = (
    b"<html><body>502 Bad Gateway</body></html>",
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"7",
    b'"maintenance"',
    b"[" * 5000,
)


class Wire:
    """What an adapter speaks to: `spoil` says which calls get the spoilt answer, the others a sound one."""

    def __init__(self, sound, spoil):
        self._sound = sound
        self._spoil = spoil
        self.spoilt = None
        self.deleted = []

    def request(self, method, path, json=None, params=None):
        if method == "DELETE":
            self.deleted.append(path.strip("/").rpartition("/")[2])
        if self._spoil(method, path):
            return self.spoilt
        return httpx.Response(200, json=self._sound(method, path, json))


def mutate(rng, document):
    """A copy with some of its values replaced, dropped, doubled or grown."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        holder, key = rng.choice(list(places(document)) or [(None, None)])
        if holder is None:
            break
        match rng.randrange(7):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(rng.choice(JUNK))
            case 3:
                holder[key] = rng.choice(WORDS)
            case 4:
                del holder[key]
            case 5 if isinstance(holder, list):
                holder.extend([copy.deepcopy(holder[key]) for _ in range(rng.choice((1, 1, 2, 60)))])
            case _:
                if isinstance(holder, dict):
                    holder[f"new_field_{rng.randrange(9)}"] = copy.deepcopy(rng.choice(JUNK))
    return document


def places(value):
    """Every place in it, as (holder, key)."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inside):
        yield value, key
        yield from places(one)


def spoil(rng, document):
    """An answer and, where its text is JSON, what it says."""
    status = rng.choice(STATUSES)
    if rng.random() < 0.08:
        return httpx.Response(status, content=rng.choice(PAGES)), None
    said = mutate(rng, document)
    text = json.dumps(said)
    if rng.random() < 0.08:
        return httpx.Response(status, content=text[: rng.randrange(len(text))].encode()), None
    return httpx.Response(status, content=text.encode(), headers={"Retry-After": rng.choice(["1", "x", "-1"])}), said


def lambda_over(wire):
    return LambdaProvider("lambda-a", wire, Clock(), pace=Pace(calls=0, creates=0), sleep=lambda s: None)


def vast_over(wire):
    now = datetime(2024, 7, 30, 15, tzinfo=UTC)
    return VastProvider(
        "vast-a", wire, lambda: now, image="r.example/vastai/kvm:1", pace=Pace(calls=0, creates=0), sleep=lambda s: None,
        ticks=lambda: 0.0,
    )  # fmt: skip


def sound_lambda(method, path, body):
    return {"data": [{"id": "k", "name": "mine", "public_key": SPEC.ssh_public_key}]}


VAST = json.loads((DATA / "vast" / "examples.json").read_text())
READ = (
    *("id", "ask_contract_id", "machine_id", "host_id", "gpu_name", "num_gpus", "gpu_ram", "cpu_arch", "cpu_cores"),
    *("cpu_cores_effective", "cpu_ram", "disk_space", "dph_base", "dph_total", "min_bid", "storage_cost", "duration"),
    *("end_date", "inet_up_cost", "inet_down_cost", "direct_port_count", "geolocation", "rentable", "rented"),
)
"""Of a record's 74 fields those that matter, or nearly: most of the spoiling shall hit them."""
ASK = {name: VAST["real_search"]["offers"][0][name] for name in READ} | {"vms_enabled": True}
RECORD = VAST["instances"]["GET /api/v1/instances/"]["instances"][0]
CONTRACT = {name: RECORD[name] for name in COLUMNS}


def sound_vast(method, path, body):
    match (method, path.split("/")[3]):
        case ("POST", "bundles"):
            return {"offers": [ASK]}
        case ("GET", "ssh"):
            return [{"public_key": SPEC.ssh_public_key}]
        case ("PUT", "asks"):
            return {"success": True, "new_contract": 7001}
        case ("DELETE", _):
            return {"success": True}
        case _ if path.endswith("pending-price-increases/"):
            return {"pending_price_increases": []}
        case _:
            return {"instances": {**CONTRACT, "id": 7001, "is_bid": True, "dph_total": 0.2}}


def a_type(number):
    return {
        "instance_type": {
            "name": f"gpu_{number}x_h100",
            "gpu_description": "H100 (80 GB SXM5)",
            "price_cents_per_hour": 429 * number,
            "specs": {"vcpus": 26, "memory_gib": 225, "storage_gib": 2816, "gpus": number},
        },
        "regions_with_capacity_available": [{"name": "us-east-1"}, {"name": "us-west-1"}],
    }


LAMBDA_OFFERS = {"data": {f"t{number}": a_type(number) for number in (1, 2, 8)}}
LAMBDA_INSTANCES = {
    "data": [
        {"id": f"i{number}", "name": f"n{number}", "status": status, "ip": "198.51.100.2/32", "region": {"name": "us-west-1"},
         "instance_type": {"name": "gpu_1x_h100", "price_cents_per_hour": 429}}
        for number, status in enumerate(("active", "booting", "terminated"))
    ]
}  # fmt: skip
VAST_OFFERS = {
    "offers": [
        {**ASK, "machine_id": 22990 + each, "id": each + 1, "ask_contract_id": each + 1, "num_gpus": 1}
        for each in range(3)
    ]
}
VAST_INSTANCES = {"success": True, "next_token": None, "instances": [{**CONTRACT, "id": each} for each in (1, 2, 3)]}
TOLD = {"success": False, "error": "invalid_price", "msg": "too low", "new_contract": 7002, "ask_id": 1}


def check_offers(reading, now):
    for offer in reading.offers:
        assert 0 < offer.price_per_hour < 200_000 and offer.price_per_hour.is_finite()
        assert offer.hardware.accelerator in known() or offer.hardware.accelerator_count == 0
        assert min(offer.hardware.cpus, offer.hardware.memory_gib, offer.hardware.disk_gib) > 0
        assert offer.with_disk(10).price_per_hour >= offer.price_per_hour
    assert max(Counter(offer.id for offer in reading.offers).values(), default=1) == 1
    assert all(row.what and row.reason for row in reading.left_out)


def check_instances(seen):
    for instance in seen:
        assert isinstance(instance.state, InstanceState)
        assert instance.price_per_hour is None or 0 < instance.price_per_hour < 200_000
        assert instance.address is None or instance.address.strip()
        assert instance.ssh_port is None or 0 < instance.ssh_port < 65536


@pytest.fixture
def rng(request, monkeypatch):
    monkeypatch.setattr(logging.getLogger("broker.vast"), "disabled", True)
    return random.Random(request.node.name)


def test_spoilt_lambda_offers(rng):
    wire = Wire(sound_lambda, lambda method, path: True)
    provider = lambda_over(wire)
    read = 0
    for _ in range(ANSWERS):
        wire.spoilt, said = spoil(rng, LAMBDA_OFFERS)
        try:
            reading = provider.offers()
        except ProviderError:
            continue
        read += 1
        check_offers(reading, NOON)
        types = said["data"]
        names = {str(row["instance_type"]["name"]) for row in types.values() if is_type(row)}
        assert {offer.instance_type for offer in reading.offers} <= names
        left = {row.what for row in reading.left_out}
        for key, row in types.items():
            offered = is_type(row) and str(row["instance_type"]["name"]) in {x.instance_type for x in reading.offers}
            assert offered or key[:100] in left, (key, row)
    assert read > ANSWERS / 4


def is_type(row):
    return isinstance(row, dict) and isinstance(row.get("instance_type"), dict) and "name" in row["instance_type"]


def test_spoilt_lambda_instances(rng):
    wire = Wire(sound_lambda, lambda method, path: True)
    provider = lambda_over(wire)
    read = 0
    for _ in range(ANSWERS):
        wire.spoilt, said = spoil(rng, LAMBDA_INSTANCES)
        try:
            seen = provider.instances()
        except ProviderError:
            continue
        read += 1
        assert len(seen) == len([row for row in said["data"] if row.get("status") != "terminated"])
        assert all(instance.id in [row.get("id") for row in said["data"]] for instance in seen)
        check_instances(seen)
    assert read > ANSWERS / 4


def test_spoilt_lambda_creates(rng):
    wire = Wire(sound_lambda, lambda method, path: path.endswith("/launch"))
    provider = lambda_over(wire)
    for _ in range(ANSWERS):
        wire.spoilt, said = spoil(rng, {"data": {"instance_ids": ["0920582c"]}})
        try:
            made = provider.create(SPEC)
        except OutcomeUnknown:
            continue
        except ProviderError as exc:
            assert 300 <= wire.spoilt.status_code < 500, f"bought perhaps, and told as {exc!r}"
            continue
        assert made.id in said["data"]["instance_ids"]


def test_spoilt_vast_offers(rng):
    wire = Wire(sound_vast, lambda method, path: "bundles" in path)
    provider = vast_over(wire)
    read = 0
    for _ in range(ANSWERS // 2):  # each reading asks twice
        wire.spoilt, said = spoil(rng, VAST_OFFERS)
        try:
            reading = provider.offers()
        except ProviderError:
            continue
        read += 1
        check_offers(reading, NOON)
        rows = rows_of(said)
        assert len(reading.offers) + len(reading.left_out) == 2 * len(rows)
        ids = {f"{row.get('machine_id')}x" for row in rows if isinstance(row, dict)}
        assert all(f"{offer.machine}x" in ids for offer in reading.offers)
    assert read > ANSWERS / 8


def test_spoilt_vast_instances(rng):
    wire = Wire(sound_vast, lambda method, path: "/v1/instances" in path)
    provider = vast_over(wire)
    read = 0
    for _ in range(ANSWERS):
        wire.spoilt, said = spoil(rng, VAST_INSTANCES)
        try:
            seen = provider.instances()
        except ProviderError:
            continue
        read += 1
        assert {instance.id for instance in seen} == {str(row["id"]) for row in said["instances"]}
        check_instances(seen)
    assert read > ANSWERS / 4


@pytest.mark.parametrize("sound", [{"success": True, "new_contract": 7002}, TOLD], ids=["yes", "no"])
def test_spoilt_vast_creates(rng, sound):
    wire = Wire(sound_vast, lambda method, path: "/asks/" in path)
    provider = vast_over(wire)
    for _ in range(ANSWERS // 2):
        wire.spoilt, said = spoil(rng, sound)
        wire.deleted.clear()
        try:
            made = provider.create(SPEC)
        except OutcomeUnknown:
            continue
        except ProviderError as exc:
            told_no = isinstance(said, dict) and said.get("success") is False
            assert told_no or 300 <= wire.spoilt.status_code < 500, f"bought perhaps, and told as {exc!r}"
            contract = said.get("new_contract") if isinstance(said, dict) else None
            if contract == 7002 and wire.spoilt.status_code != 429:
                assert wire.deleted == ["7002"]
            continue
        assert (made.id, wire.deleted) == (str(contract_of(said)), [])


def test_what_was_bought_is_never_lost_to_a_spoilt_look_at_it(rng):
    wire = Wire(sound_vast, lambda method, path: path.endswith("/instances/7001/") and method == "GET")
    provider = vast_over(wire)
    for _ in range(ANSWERS):
        wire.spoilt, _ = spoil(rng, {"instances": {**CONTRACT, "id": 7001, "is_bid": True, "dph_total": 0.2}})
        wire.deleted.clear()
        try:
            made = provider.create(SPEC)
        except ProviderError:
            assert wire.deleted == ["7001"]  # it was not what was ordered
        else:
            assert made.id == "7001"
            assert wire.deleted == []
