"""An emulated Lambda Cloud: its state and its rules. `lambda_http.py` puts HTTP around it, `hosts.py` gives it machines."""

import re
import threading
import tomllib
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, Protocol

REGIONS = {"us-east-1": "Virginia, USA", "us-west-1": "California, USA"}
_HOSTNAME = re.compile(r"[a-z0-9][0-9a-z-]{0,62}")
_IP_LAG_SECONDS = 0.5
_ENDING_SECONDS = 2.0
_LAUNCH_FIELDS = frozenset(
    [
        "region_name",
        "instance_type_name",
        "ssh_key_names",
        "name",
        "hostname",
        "image",
        "user_data",
        "tags",
        "file_system_names",
        "file_system_mounts",
        "firewall_rulesets",
    ]
)


class ApiError(Exception):
    """An answer that says no, in Lambda's words."""

    def __init__(self, status: int, code: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message, "suggestion": suggestion}}


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """What an instance's host is made of. `gpu` is the name its nvidia-smi prints."""

    id: str
    hostname: str
    public_key: str
    user_data: str
    gpu: str
    gpu_mib: int
    gpus: int
    ssh: bool


class Machines(Protocol):
    """Where instances get their hosts: real ones in the sandbox, none in tests of the API and in benches."""

    def address(self, instance_id: str) -> str:
        """Reserve a public address."""

    def start(self, spec: MachineSpec) -> None:
        """Power on; returns at once."""

    def stop(self, instance_id: str) -> None:
        """Power off and forget."""


class NoMachines:
    """Instances that are only rows."""

    def __init__(self) -> None:
        self._count = 0

    def address(self, instance_id: str) -> str:
        self._count += 1
        return f"192.0.2.{self._count % 254 + 1}"

    def start(self, spec: MachineSpec) -> None: ...

    def stop(self, instance_id: str) -> None: ...


@dataclass
class Fault:
    """A misbehaviour: `kind` on launches (or, for `error_500`, `html_200`, `half_json`, `unauthorized`: any call) that match.

    `times` None: always.
    """

    kind: str
    credential: str | None = None
    instance_type: str | None = None
    region: str | None = None
    path: str | None = None
    times: int | None = None

    def fits(self, credential: str, instance_type: str | None, region: str | None, path: str) -> bool:
        return (
            self.times != 0
            and self.credential in {None, credential}
            and (self.instance_type is None or self.instance_type == instance_type)
            and (self.region is None or self.region == region)
            and (self.path is None or path.startswith(self.path))
        )


LAUNCH_FAULTS = frozenset(
    [
        "sold_out",
        "quota",
        "answer_lost",
        "lies_gpu",
        "never_active",
        "no_address",
        "ssh_never",
        "unhealthy",
        "terminate_refused",
    ]
)
CALL_FAULTS = frozenset(["error_500", "html_200", "half_json", "unauthorized"])


@dataclass
class _Instance:
    id: str
    credential: str
    kind: Mapping[str, Any]
    region: str
    request: Mapping[str, Any]
    address: str
    launched_at: float
    faults: frozenset[str]
    powered: bool = False
    ending_at: float | None = None


@dataclass
class _Account:
    name: str
    keys: list[dict[str, str]] = field(default_factory=list)
    calls: float = 0.0
    """When the bucket of calls is empty again."""
    next_launch: float = 0.0


class LambdaCloud:
    """`accounts`: API key → credential name. `clock`: seconds. `limits`: `published` (1 call/s, 1 launch/12 s) or `off`."""

    def __init__(
        self,
        accounts: Mapping[str, str],
        machines: Machines,
        clock: Callable[[], float],
        *,
        boot_seconds: float = 3.0,
        limits: str = "published",
    ) -> None:
        self._accounts = {key: _Account(name) for key, name in accounts.items()}
        self._machines = machines
        self._clock = clock
        self.boot_seconds = boot_seconds
        self.limits = limits
        self.faults: list[Fault] = []
        self._types = {row["name"]: row for row in _types()}
        self._instances: dict[str, _Instance] = {}
        self._bill: list[_Instance] = []
        self._lock = threading.RLock()

    def enter(self, key: str | None, path: str) -> str:
        """Who calls; ApiError when the key is unknown or the account calls too often. Returns the API key."""
        with self._lock:
            account = self._accounts.get(key or "")
            if account is None:
                raise ApiError(
                    401,
                    "global/invalid-api-key",
                    "API key was invalid, expired, or deleted.",
                    "Check your API key or create a new one, then try again.",
                )
            now = self._clock()
            if self.limits == "published":
                # A bucket of two: the real one forgives the jitter of a client that keeps to one a second.
                account.calls = max(account.calls, now) + 1.0
                if account.calls > now + 2.5:
                    account.calls -= 1.0
                    raise ApiError(429, "global/rate-limited", "Too many requests.")
            return key or ""

    def fault(self, key: str, path: str) -> str | None:
        """The misbehaviour of this call, if it is due one of those that any call may show."""
        return self._take(CALL_FAULTS, self._accounts[key].name, None, None, path)

    def instance_types(self) -> dict[str, Any]:
        with self._lock:
            return {
                name: {
                    "instance_type": _public_type(row),
                    "regions_with_capacity_available": [
                        {"name": region, "description": REGIONS[region]}
                        for region, free in sorted(row["regions"].items())
                        if free > self._used(name, region)
                    ],
                }
                for name, row in self._types.items()
            }

    def launch(self, key: str, request: Mapping[str, Any]) -> tuple[str, bool]:
        """A new instance's id, and whether the answer gets lost on its way."""
        with self._lock:
            account = self._accounts[key]
            row, public_key = self._checked(account, request)
            region = str(request["region_name"])
            now = self._clock()
            if self.limits == "published":
                if now < account.next_launch:
                    raise ApiError(429, "global/rate-limited", "Too many launch requests.")
                account.next_launch = now + 11.5
            faults = {
                kind
                for kind in sorted(LAUNCH_FAULTS)
                if self._take(frozenset({kind}), account.name, row["name"], region, "/instance-operations/launch")
            }
            if "quota" in faults:
                raise ApiError(
                    400, "global/quota-exceeded", "Quota exceeded.", "Contact Support to increase your quota."
                )
            if "sold_out" in faults or row["regions"].get(region, 0) <= self._used(row["name"], region):
                raise ApiError(
                    400,
                    "instance-operations/launch/insufficient-capacity",
                    "Not enough capacity to fulfill launch request.",
                )
            instance_id = uuid.uuid4().hex
            instance = _Instance(
                id=instance_id,
                credential=account.name,
                kind=row,
                region=region,
                request={**request, "public_key": public_key},
                address=self._machines.address(instance_id),
                launched_at=now,
                faults=frozenset(faults),
            )
            self._instances[instance_id] = instance
            self._bill.append(instance)
            return instance_id, "answer_lost" in faults

    def tick(self) -> None:
        """Power on what has booted for long enough; forget what has ended."""
        with self._lock:
            now = self._clock()
            due = [
                i
                for i in self._instances.values()
                if not i.powered and i.ending_at is None and now >= i.launched_at + self.boot_seconds
            ]
            for instance in due:
                instance.powered = True
            gone = [i.id for i in self._instances.values() if i.ending_at and now > i.ending_at + _ENDING_SECONDS]
            for instance_id in gone:
                del self._instances[instance_id]
        for instance in due:
            self._machines.start(self._machine(instance))

    def instances(self, key: str) -> list[dict[str, Any]]:
        with self._lock:
            name = self._accounts[key].name
            return [self._public(i) for i in self._instances.values() if i.credential == name]

    def instance(self, key: str, instance_id: str) -> dict[str, Any]:
        with self._lock:
            return self._public(self._own(key, instance_id))

    def terminate(self, key: str, ids: object) -> list[dict[str, Any]]:
        if not isinstance(ids, list) or not ids or not all(isinstance(item, str) for item in ids):
            raise ApiError(400, "global/invalid-parameters", "instance_ids: a list of one or more ids is needed")
        with self._lock:
            found = [self._own(key, instance_id) for instance_id in ids]
            for instance in found:
                if "terminate_refused" in instance.faults and self._clock() < instance.launched_at + 20:
                    raise ApiError(409, "global/conflict", "The instance cannot be terminated: vm-has-not-launched")
                if instance.ending_at is None:
                    instance.ending_at = self._clock()
            answers = [self._public(instance) for instance in found]
        for instance in found:
            self._machines.stop(instance.id)
        return answers

    def vanish(self, instance_id: str) -> None:
        """The provider loses a machine without a word."""
        with self._lock:
            instance = self._instances.pop(instance_id)
            instance.ending_at = self._clock()
        self._machines.stop(instance_id)

    def keys(self, key: str) -> list[dict[str, str]]:
        with self._lock:
            return list(self._accounts[key].keys)

    def add_key(self, key: str, name: object, public_key: object) -> dict[str, str]:
        if not isinstance(name, str) or not isinstance(public_key, str) or not public_key.startswith("ssh-"):
            raise ApiError(400, "global/invalid-parameters", "name and public_key (OpenSSH format) are needed")
        with self._lock:
            account = self._accounts[key]
            if any(row["name"] == name for row in account.keys):
                raise ApiError(409, "global/duplicate", f"an SSH key named {name} exists")
            row = {"id": uuid.uuid4().hex, "name": name, "public_key": public_key}
            account.keys.append(row)
            return row

    def bill(self) -> list[dict[str, Any]]:
        """The provider's own bill: begun minutes from launch to termination, in dollars."""
        with self._lock:
            return [self._billed(instance) for instance in self._bill]

    def living(self) -> list[str]:
        """Ids of instances that cost money now."""
        with self._lock:
            return [i.id for i in self._instances.values() if i.ending_at is None]

    def _billed(self, instance: _Instance) -> dict[str, Any]:
        end = instance.ending_at if instance.ending_at is not None else self._clock()
        seconds = Decimal(str(round(end - instance.launched_at, 3)))
        minutes = (seconds / 60).to_integral_value(rounding=ROUND_CEILING)
        price = Decimal(instance.kind["price_cents_per_hour"]) / 100
        return {
            "instance_id": instance.id,
            "credential": instance.credential,
            "name": instance.request.get("name"),
            "instance_type": instance.kind["name"],
            "region": instance.region,
            "launched_at": instance.launched_at,
            "terminated_at": instance.ending_at,
            "minutes": int(minutes),
            "amount": str(minutes * price / 60),
            "currency": "USD",
        }

    def _used(self, name: str, region: str) -> int:
        return sum(
            1 for i in self._instances.values() if i.kind["name"] == name and i.region == region and i.ending_at is None
        )

    def _take(
        self, kinds: frozenset[str], credential: str, kind: str | None, region: str | None, path: str
    ) -> str | None:
        for fault in self.faults:
            if fault.kind in kinds and fault.fits(credential, kind, region, path):
                if fault.times is not None:
                    fault.times -= 1
                return fault.kind
        return None

    def _own(self, key: str, instance_id: str) -> _Instance:
        instance = self._instances.get(instance_id)
        if instance is None or instance.credential != self._accounts[key].name:
            raise ApiError(404, "global/object-does-not-exist", "Specified instance does not exist.")
        return instance

    def _checked(self, account: _Account, request: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        def wrong(message: str) -> ApiError:
            return ApiError(400, "global/invalid-parameters", message)

        if unknown := sorted(set(request) - _LAUNCH_FIELDS):
            raise wrong(f"unknown fields: {', '.join(unknown)}")
        row = self._types.get(str(request.get("instance_type_name")))
        if row is None:
            raise wrong(f"Instance type {request.get('instance_type_name')} does not exist")
        if request.get("region_name") not in REGIONS:
            raise wrong(f"Region {request.get('region_name')} does not exist")
        names = request.get("ssh_key_names")
        if not isinstance(names, list) or len(names) != 1:
            raise wrong("ssh_key_names: exactly one SSH key is needed")
        found = next((key for key in account.keys if key["name"] == names[0]), None)
        if found is None:
            raise ApiError(404, "global/object-does-not-exist", f"SSH key {names[0]} does not exist")
        if len(str(request.get("name", ""))) > 64:
            raise wrong("name: at most 64 characters")
        if "hostname" in request and not _HOSTNAME.fullmatch(str(request["hostname"])):
            raise wrong("hostname: lower-case letters, digits and dashes, at most 63")
        if len(str(request.get("user_data", "")).encode()) > 1024 * 1024:
            raise wrong("user_data: at most 1 MB")
        return row, found["public_key"]

    def _machine(self, instance: _Instance) -> MachineSpec:
        lies = "lies_gpu" in instance.faults
        return MachineSpec(
            id=instance.id,
            hostname=str(instance.request.get("hostname") or instance.address.replace(".", "-")),
            public_key=str(instance.request["public_key"]),
            user_data=str(instance.request.get("user_data") or ""),
            gpu="NVIDIA A10" if lies else instance.kind["gpu"],
            gpu_mib=23028 if lies else instance.kind["gpu_mib"],
            gpus=instance.kind["gpus"],
            ssh="ssh_never" not in instance.faults,
        )

    def _status(self, instance: _Instance) -> str:
        now = self._clock()
        if instance.ending_at is not None:
            return "terminating"
        if "never_active" in instance.faults or now < instance.launched_at + self.boot_seconds:
            return "booting"
        return "unhealthy" if "unhealthy" in instance.faults else "active"

    def _public(self, instance: _Instance) -> dict[str, Any]:
        """The instance as the API shows it. No creation time; `ip` comes late; the price is today's."""
        status = self._status(instance)
        ready = self._clock() >= instance.launched_at + self.boot_seconds + _IP_LAG_SECONDS
        shown = {
            "id": instance.id,
            "name": instance.request.get("name"),
            "status": status,
            "ssh_key_names": instance.request["ssh_key_names"],
            "file_system_names": [],
            "file_system_mounts": [],
            "region": {"name": instance.region, "description": REGIONS[instance.region]},
            "instance_type": _public_type(instance.kind),
            "hostname": instance.request.get("hostname"),
            "is_reserved": False,
            "actions": {
                action: {"available": status != "terminating"}
                for action in ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
            },
            "tags": instance.request.get("tags", []),
        }
        if ready and "no_address" not in instance.faults:
            shown["ip"] = instance.address
        return shown


def faults_from(rows: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """A fault script. ValueError: an unknown kind or field, named."""
    faults = []
    for row in rows:
        try:
            fault = Fault(**row)
        except TypeError as exc:
            raise ValueError(f"fault {dict(row)}: {exc}") from exc
        if fault.kind not in LAUNCH_FAULTS | CALL_FAULTS:
            raise ValueError(f"fault {fault.kind!r}: known are {', '.join(sorted(LAUNCH_FAULTS | CALL_FAULTS))}")
        faults.append(fault)
    return faults


def _types() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("lambda_types.toml").read_text())["type"]
    return rows


def _public_type(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "description": row["description"],
        "gpu_description": row["gpu_description"],
        "price_cents_per_hour": row["price_cents_per_hour"],
        "specs": {key: row[key] for key in ("vcpus", "memory_gib", "storage_gib", "gpus")},
    }
