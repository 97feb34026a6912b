"""An emulated Lambda Cloud: its state and its rules. `lambda_http.py` puts HTTP around it, a `Machines` gives it hosts."""

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from broker.core.errors import BrokerError
from broker.sandbox.emulators.faults import (
    CALL_FAULTS,
    LAUNCH_FAULTS,
    LAUNCH_PATH,
    REFUSALS,
    Call,
    Fault,
    faults_from,
    take,
)
from broker.sandbox.emulators.lambda_account import Account
from broker.sandbox.emulators.lambda_catalogue import REGIONS, InstanceType, public_region, shipped_types
from broker.sandbox.emulators.lambda_errors import conflict, invalid, no_instance, quota_exceeded, sold_out, wrong_key
from broker.sandbox.emulators.lambda_instance import LambdaInstance
from broker.sandbox.emulators.lambda_launch import LaunchRequest, instance_name, only, read_launch
from broker.sandbox.emulators.machines import Machines, MachineSpec, NoMachines

__all__ = ["LambdaCloud", "MachineSpec", "NoMachines", "faults_from"]


class LambdaCloud:
    """`accounts`: API key → credential name. `clock`: seconds. `limits`: `published` (1 call/s, 1 launch/12 s) or `off`.

    Methods that take a `key` want one that `enter` let in. ApiError: the answer is no.
    """

    def __init__(
        self,
        accounts: Mapping[str, str],
        machines: Machines,
        clock: Callable[[], float],
        *,
        boot_seconds: float = 3.0,
        limits: str = "published",
        types: Iterable[InstanceType] | None = None,
    ) -> None:
        self._accounts = {key: Account(name) for key, name in accounts.items()}
        self.credentials = frozenset(accounts.values())
        self._machines = machines
        self._clock = clock
        self.boot_seconds = boot_seconds
        self.limits = limits
        self.faults: list[Fault] = []
        self._types = {kind.name: kind for kind in (shipped_types() if types is None else types)}
        self._instances: dict[str, LambdaInstance] = {}
        self._bill: list[LambdaInstance] = []
        self._lock = threading.RLock()

    def enter(self, key: str | None) -> str:
        """The key itself. ApiError: it is unknown, or its account calls too often."""
        with self._lock:
            account = self._accounts.get(key or "")
            if account is None:
                raise wrong_key()
            if self.limits == "published":
                account.count_call(self._clock())
            return key or ""

    def fault(self, key: str, path: str, body: Mapping[str, Any], method: str | None = None) -> Fault | None:
        """The misbehaviour of this call, if it is due one of those that any call may show."""
        with self._lock:
            return take(self.faults, CALL_FAULTS, self._call(key, path, body, method))

    def instance_types(self) -> dict[str, Any]:
        with self._lock:
            return {
                name: {
                    "instance_type": kind.public(),
                    "regions_with_capacity_available": [
                        public_region(region)
                        for region in sorted(kind.regions)
                        if kind.regions[region] > self._used(name, region)
                    ],
                }
                for name, kind in self._types.items()
            }

    def launch(self, key: str, body: Mapping[str, Any]) -> LambdaInstance:
        """Launch an instance. Its `faults` say what is to become of the answer."""
        with self._lock:
            account, now = self._accounts[key], self._clock()
            if self.limits == "published":
                account.count_launch(now)
            request = read_launch(body, self._types, self._regions())
            public_key = account.public_key(request.key_name)
            call = self._call(key, LAUNCH_PATH, body, "POST")
            self._refuse(request, call)
            due = [take(self.faults, {kind}, call) for kind in LAUNCH_FAULTS if kind not in REFUSALS]
            faults = {fault.kind: fault.seconds or 0.0 for fault in due if fault is not None}
            instance = self._add(account.name, request, public_key, now, faults)
            if "twice" in faults:
                self._add(account.name, request, public_key, now, faults)
            return instance

    def _add(
        self, credential: str, request: LaunchRequest, public_key: str, now: float, faults: Mapping[str, float]
    ) -> LambdaInstance:
        instance_id = uuid.uuid4().hex
        try:
            address = self._machines.address(instance_id)
        except BrokerError as exc:
            raise sold_out() from exc
        instance = LambdaInstance(
            id=instance_id,
            credential=credential,
            request=request,
            public_key=public_key,
            address=address,
            launched_at=now,
            faults=faults,
            name=request.name,
        )
        self._instances[instance_id] = instance
        self._bill.append(instance)
        return instance

    def tick(self) -> None:
        """Power on what has booted for long enough; lose what is to vanish; forget what has ended."""
        with self._lock:
            now = self._clock()
            for instance in list(self._instances.values()):
                if instance.is_preempted(now):
                    self.preempt(instance.id)
                if instance.vanishes(now):
                    self.vanish(instance.id)
                elif instance.notice_is_over(now):
                    instance.ending_at = now
                    self._machines.stop(instance.id)
                elif instance.is_forgotten(now):
                    del self._instances[instance.id]
                elif not instance.powered and instance.ending_at is None and not instance.boots(now, self.boot_seconds):
                    instance.powered = True
                    # Under the lock, so that a termination cannot come between: its stop must follow this start.
                    self._machines.start(instance.machine())

    def instances(self, key: str) -> list[dict[str, Any]]:
        with self._lock:
            name, now = self._accounts[key].name, self._clock()
            return [
                self._public(instance)
                for instance in self._instances.values()
                if instance.credential == name and instance.is_listed(now)
            ]

    def instance(self, key: str, instance_id: str) -> dict[str, Any]:
        with self._lock:
            return self._public(self._own(key, instance_id))

    def rename(self, key: str, instance_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Only the name can be changed after a launch; tags cannot."""
        only(body, {"name"})
        with self._lock:
            instance = self._own(key, instance_id)
            name = instance_name(body)
            if name is not None:
                instance.name = name
            return self._public(instance)

    def restart(self, key: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Restart, in the API's eyes only: the host behind the instance runs on."""
        with self._lock:
            found = self._all_free(key, body, "restart")
            for instance in found:
                instance.restarted_at = self._clock()
            return [self._public(instance) for instance in found]

    def terminate(self, key: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """End instances: all of those named, or none when one of them cannot be ended now."""
        with self._lock:
            found = self._all_free(key, body, "terminate")
            for instance in found:
                instance.ending_at = self._clock()
            answers = [self._public(instance) for instance in found]
        for instance in found:
            self._machines.stop(instance.id)
        return answers

    def vanish(self, instance_id: str) -> None:
        """The provider loses a machine without a word. KeyError: there is no such instance."""
        with self._lock:
            instance = self._instances.pop(instance_id)
            instance.vanished = True
            if instance.ending_at is None:
                instance.ending_at = self._clock()
        self._machines.stop(instance_id)

    def preempt(self, instance_id: str) -> None:
        """The provider announces that it takes a machine away. KeyError: there is no such instance."""
        with self._lock:
            instance = self._instances[instance_id]
            if instance.preempted_at is None and instance.ending_at is None:
                instance.preempted_at = self._clock()

    def keys(self, key: str) -> list[dict[str, str]]:
        with self._lock:
            return list(self._accounts[key].keys)

    def add_key(self, key: str, body: Mapping[str, Any]) -> dict[str, str]:
        with self._lock:
            return self._accounts[key].add_key(body)

    def delete_key(self, key: str, key_id: str) -> dict[str, Any]:
        """Lambda's empty answer."""
        with self._lock:
            self._accounts[key].delete_key(key_id)
            return {}

    def bill(self) -> list[dict[str, Any]]:
        """The provider's own bill, every instance ever launched."""
        with self._lock:
            return [instance.bill(self._clock()) for instance in self._bill]

    def living(self) -> list[str]:
        """Ids of instances that cost money now."""
        with self._lock:
            return [i.id for i in self._instances.values() if i.ending_at is None]

    def _call(self, key: str, path: str, body: Mapping[str, Any], method: str | None = None) -> Call:
        return Call(
            credential=self._accounts[key].name,
            path=path,
            instance_type=str(body.get("instance_type_name")),
            region=str(body.get("region_name")),
            method=method,
        )

    def _refuse(self, request: LaunchRequest, call: Call) -> None:
        refusal = next((kind for kind in REFUSALS if take(self.faults, {kind}, call)), None)
        if refusal == "quota":
            raise quota_exceeded()
        free = request.kind.regions.get(request.region, 0) - self._used(request.kind.name, request.region)
        if refusal == "sold_out" or free <= 0:
            raise sold_out()

    def _regions(self) -> set[str]:
        return set(REGIONS).union(*(kind.regions for kind in self._types.values()))

    def _used(self, name: str, region: str) -> int:
        return sum(
            i.request.kind.name == name and i.request.region == region and i.ending_at is None
            for i in self._instances.values()
        )

    def _public(self, instance: LambdaInstance) -> dict[str, Any]:
        return instance.public(self._clock(), self.boot_seconds)

    def _own(self, key: str, instance_id: str) -> LambdaInstance:
        instance = self._instances.get(instance_id)
        if instance is None or instance.credential != self._accounts[key].name or instance.is_forgotten(self._clock()):
            raise no_instance()
        return instance

    def _all_free(self, key: str, body: Mapping[str, Any], action: str) -> list[LambdaInstance]:
        """The instances that `body` names, each of which can be asked for `action` now."""
        only(body, {"instance_ids"})
        ids = body.get("instance_ids")
        if not isinstance(ids, list) or not ids or not all(isinstance(item, str) for item in ids):
            raise invalid("instance_ids: a list of one or more ids is needed")
        now = self._clock()
        found = [self._own(key, instance_id) for instance_id in dict.fromkeys(ids)]
        for instance in found:
            if instance.status(now, self.boot_seconds) == "terminated":
                raise no_instance()
            if reason := instance.hindrance(action, now, self.boot_seconds):
                raise conflict(reason)
        return found
