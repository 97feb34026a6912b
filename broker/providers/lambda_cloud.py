"""Lambda Cloud. Contract: its OpenAPI 1.10.0; quirks are named where they are handled."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeGuard

import httpx

from broker.catalog.accelerators import canonical
from broker.core.errors import (
    CredentialsRefused,
    InstanceNotFound,
    NoCapacity,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.offers import CapacityType, Hardware, Instance, InstanceSpec, InstanceState, LeftOut, Offer, Reading
from broker.providers.http import Pace, TokenBucket, retry_after, wait_for

BASE_URL = "https://cloud.lambda.ai"
_ERRORS: Mapping[str, type[ProviderError]] = {
    "instance-operations/launch/insufficient-capacity": NoCapacity,
    "global/quota-exceeded": QuotaExceeded,
    "global/invalid-api-key": CredentialsRefused,
    "global/account-inactive": CredentialsRefused,
    "global/invalid-address": CredentialsRefused,
    "global/forbidden": CredentialsRefused,
    "global/object-does-not-exist": InstanceNotFound,
    "global/not-found": InstanceNotFound,
    "global/conflict": ProviderUnavailable,
}
_STATES = {
    "booting": InstanceState.STARTING,
    "active": InstanceState.RUNNING,
    "unhealthy": InstanceState.UNHEALTHY,
    "terminating": InstanceState.STOPPING,
    "preempted": InstanceState.STOPPING,
}
_ARM = frozenset({"GH200", "GB200"})
"""Modules with a Grace CPU; the API does not tell an instance type's architecture."""
_KEY_NAME = "broker"
_PUBLISHED = Pace()
_TERMINATED = "terminated"
_FREE = Decimal(0)
_ABSURD_CENTS = 10_000_000
"""No machine costs 100 000 USD an hour: a price in another unit, or a joke."""


class LambdaProvider:
    """One Lambda credential.

    Lambda allows about one call a second, and one launch in 12 s; `pace` says otherwise where Lambda agreed to more.
    """

    visibility_lag_seconds = 20.0
    bill_granularity_seconds = 60
    bills_loading = True
    power_off_stops_billing = False

    def __init__(
        self,
        name: str,
        http: httpx.Client,
        clock: Callable[[], datetime],
        *,
        regions: frozenset[str] = frozenset(),
        pace: Pace = _PUBLISHED,
        sleep: Callable[[float], None] = time.sleep,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._http = http
        self._clock = clock
        self._regions = regions
        self._calls = TokenBucket(1.0 if pace.calls is None else pace.calls, ticks)
        self._launch_interval = 12.0 if pace.creates is None else pace.creates
        self._launches = TokenBucket(self._launch_interval, ticks)
        self._sleep = sleep
        self._registered_key: str | None = None

    def offers(self) -> Reading:
        """Every type in every region with capacity; a type sold out everywhere comes once, in zone `-`."""
        types = self._call("GET", "/instance-types")
        if not isinstance(types, dict):
            raise ProviderUnavailable(f"{self.name}: instance-types is {type(types).__name__}, not an object of types")
        now = self._clock()
        offers: dict[str, Offer] = {}
        left_out = []
        for name, row in types.items():
            try:
                read = self._offers_of(row, now)
            except _Unusable as exc:
                left_out.append(LeftOut(what=str(name)[:100], reason=str(exc)))
                continue
            for offer in read:
                if offer.id in offers:
                    left_out.append(LeftOut(what=offer.instance_type, reason="listed twice"))
                offers.setdefault(offer.id, offer)
        return Reading(offers=tuple(offers.values()), left_out=tuple(left_out))

    def create(self, spec: InstanceSpec) -> Instance:
        key = self._key_name(spec.ssh_public_key)
        body = {
            "region_name": spec.zone,
            "instance_type_name": spec.instance_type,
            "ssh_key_names": [key],
            # Tags cannot be edited later and a lost answer leaves only the name: the label is both.
            "name": spec.label,
            "hostname": spec.label,
            "user_data": spec.user_data,
            "tags": [{"key": "broker-label", "value": spec.label}],
        }
        try:
            data = self._call("POST", "/instance-operations/launch", json=body, lost=OutcomeUnknown)
        except InstanceNotFound as exc:
            # At a launch this speaks of what the launch names: somebody removed our key from the account.
            self._registered_key = None
            raise ProviderError(str(exc)) from exc
        finally:
            # The turn was reserved a moment ago; Lambda counts its 12 s from when the launch reached it.
            self._launches.pause(self._launch_interval)
        ids = data.get("instance_ids") if isinstance(data, dict) else None
        if not isinstance(ids, list) or len(ids) != 1 or not isinstance(ids[0], str):
            raise OutcomeUnknown(f"{self.name}: launch answered without exactly one instance id")
        return Instance(
            id=ids[0],
            label=spec.label,
            state=InstanceState.STARTING,
            raw_state="booting",
            address=None,
            instance_type=spec.instance_type,
            zone=spec.zone,
            price_per_hour=None,
        )

    def delete(self, instance_id: str) -> None:
        data = self._call("POST", "/instance-operations/terminate", json={"instance_ids": [instance_id]})
        rows = data.get("terminated_instances") if isinstance(data, dict) else None
        if not isinstance(rows, list) or not any(
            isinstance(row, dict) and row.get("id") == instance_id for row in rows
        ):
            # A page of a proxy is no word of the provider's: whoever believes it believes the machine's end, too.
            raise ProviderUnavailable(f"{self.name}: terminate answered without naming instance {instance_id}")

    def instance(self, instance_id: str) -> Instance:
        row = self._call("GET", f"/instances/{instance_id}")
        if isinstance(row, dict) and row.get("status") == _TERMINATED:
            raise InstanceNotFound(f"{self.name}: instance {instance_id} is terminated")
        return self._instance(row)

    def instances(self) -> list[Instance]:
        rows = self._call("GET", "/instances")
        if not isinstance(rows, list):
            raise ProviderUnavailable(f"{self.name}: instances is {type(rows).__name__}, not a list")
        return [self._instance(row) for row in rows if not (isinstance(row, dict) and row.get("status") == _TERMINATED)]

    def create_wait_seconds(self, queued: int = 0) -> float:
        return self._launches.wait_seconds(queued)

    def reserve_create(self) -> bool:
        return self._launches.try_take()

    def _key_name(self, public_key: str) -> str:
        """The account's name for our key. Keys are account-level objects: match on the key itself, not its name."""
        if self._registered_key:
            return self._registered_key
        wanted = public_key.split()[1]
        self._registered_key = self._listed_key(wanted)
        if self._registered_key is not None:
            return self._registered_key
        # The name carries the key's beginning, so that two clusters of one account do not collide.
        name = f"{_KEY_NAME}-{re.sub('[^A-Za-z0-9]', '', wanted)[-12:]}"
        try:
            self._call("POST", "/ssh-keys", json={"name": name, "public_key": public_key})
        except ProviderError:
            # Another of our launches may have added it in the same moment; else the refusal stands.
            self._registered_key = self._listed_key(wanted)
            if self._registered_key is None:
                raise
            return self._registered_key
        self._registered_key = name
        return name

    def _listed_key(self, wanted: str) -> str | None:
        rows = self._call("GET", "/ssh-keys")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and str(row.get("public_key", "")).split()[1:2] == [wanted]:
                return str(row["name"]) if "name" in row else None
        return None

    def _offers_of(self, row: object, now: datetime) -> list[Offer]:
        try:
            kind = row["instance_type"]  # type: ignore[index]
            regions = [str(region["name"]) for region in row["regions_with_capacity_available"]]  # type: ignore[index]
            cents = kind["price_cents_per_hour"]
            name = str(kind["name"])
            hardware = _hardware(kind)
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise _Unusable("a field is missing or has another type") from exc
        if not _is_price(cents):
            raise _Unusable("its price is no amount of cents")
        zones = [zone for zone in regions if not self._regions or zone in self._regions]
        return [
            Offer(
                provider=self.name,
                kind="lambda",
                instance_type=name,
                zone=zone,
                capacity_type=CapacityType.ON_DEMAND,
                hardware=hardware,
                price_per_hour=Decimal(cents) / 100,
                currency="USD",
                available=zone != "-",
                observed_at=now,
                egress_per_gb=_FREE,
                ingress_per_gb=_FREE,
            )
            for zone in zones or ["-"]
        ]

    def _instance(self, row: object) -> Instance:
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise ProviderUnavailable(f"{self.name}: an instance without id: {str(row)[:120]}")
        status = row["status"] if isinstance(row.get("status"), str) else str(row.get("status"))[:40]
        kind, region = row.get("instance_type"), row.get("region")
        cents = kind.get("price_cents_per_hour") if isinstance(kind, dict) else None
        address, private = row.get("ip"), row.get("private_ip")
        return Instance(
            id=row["id"],
            label=row["name"] if isinstance(row.get("name"), str) else None,
            state=_STATES.get(status, InstanceState.UNKNOWN),
            raw_state=status,
            address=str(address).split("/")[0] if address else None,
            private_address=str(private).split("/")[0] if private else None,
            instance_type=str(kind["name"]) if isinstance(kind, dict) and "name" in kind else None,
            zone=str(region["name"]) if isinstance(region, dict) and "name" in region else None,
            price_per_hour=Decimal(cents) / 100 if _is_price(cents) else None,
        )

    def _call(
        self, method: str, path: str, json: object = None, lost: type[ProviderError] = ProviderUnavailable
    ) -> Any:
        wait_for(self._calls, max_wait_seconds=30.0, sleep=self._sleep)
        what = f"{self.name} {method} {path}"
        try:
            response = self._http.request(method, f"/api/v1{path}", json=json)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:  # nothing was sent
            raise ProviderUnavailable(f"{what}: {exc}") from exc
        except httpx.HTTPError as exc:
            raise lost(f"{what}: {exc or type(exc).__name__}") from exc
        if response.status_code == 429:
            pause = retry_after(response)
            self._calls.pause(pause)
            raise RateLimited(f"{what}: too many requests", retry_after=pause)
        if response.status_code >= 500:
            raise lost(f"{what}: HTTP {response.status_code}")
        try:
            answer = response.json()
        except (ValueError, RecursionError) as exc:
            if response.is_error:
                raise ProviderError(f"{what}: HTTP {response.status_code} with a body that is not JSON") from exc
            raise lost(f"{what}: HTTP {response.status_code} with a body that is not JSON") from exc
        if response.is_error:
            raise _error(what, response.status_code, answer)
        if not isinstance(answer, dict) or "data" not in answer:
            raise lost(f"{what}: answered without `data`")
        return answer["data"]


def _error(what: str, status: int, answer: object) -> ProviderError:
    error = answer.get("error") if isinstance(answer, dict) else None
    code = str(error.get("code", "")) if isinstance(error, dict) else ""
    message = str(error.get("message") or "") if isinstance(error, dict) else ""
    kind = _ERRORS.get(code) or (CredentialsRefused if status in {401, 403} else ProviderError)
    if code == "global/invalid-parameters" and re.search(r"[Rr]egion .* does not exist", message):
        kind = NoCapacity  # Lambda's way of saying that a region was withdrawn
    return kind(f"{what}: {message or f'HTTP {status}'} ({code or 'no code'})")


def _is_price(cents: object) -> TypeGuard[int]:
    return isinstance(cents, int) and not isinstance(cents, bool) and 0 < cents < _ABSURD_CENTS


class _Unusable(Exception):
    """Why a row becomes no offer."""


def _hardware(kind: Mapping[str, Any]) -> Hardware:
    specs = kind["specs"]
    gpus = int(specs["gpus"])
    described = str(kind.get("gpu_description") or "")
    model = canonical(described) if gpus else None
    if gpus and model is None:
        raise _Unusable("a GPU that the catalogue does not know")
    memory = re.search(r"(\d+)\s*GB", described)
    hardware = Hardware(
        accelerator=model,
        accelerator_count=gpus,
        accelerator_memory_gib=int(memory[1]) if gpus and memory else None,
        cpus=int(specs["vcpus"]),
        memory_gib=int(specs["memory_gib"]),
        disk_gib=int(specs["storage_gib"]),
        cpu_arch="aarch64" if model in _ARM else "x86_64",
    )
    if gpus < 0 or min(hardware.cpus, hardware.memory_gib, hardware.disk_gib) <= 0:
        raise _Unusable("a machine without CPU, memory or disk")
    return hardware
