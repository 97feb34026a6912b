"""One instance of the emulated Lambda: its states over time, what the API shows of it, what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from broker.sandbox.emulators.lambda_catalogue import public_region
from broker.sandbox.emulators.lambda_launch import LaunchRequest
from broker.sandbox.emulators.machines import MachineSpec

_IP_LAG_SECONDS = 0.5
_ENDING_SECONDS = 2.0
_NOTICE_SECONDS = 10.0
_REMEMBERED_SECONDS = 60.0
_ACTIONS = ("migrate", "rebuild", "restart", "cold_reboot", "terminate")


@dataclass
class LambdaInstance:
    """Times are seconds of the cloud's clock. `faults`: kind → its seconds (0 for those that take none)."""

    id: str
    credential: str
    request: LaunchRequest
    public_key: str
    address: str
    launched_at: float
    faults: Mapping[str, float]
    name: str | None
    powered: bool = False
    restarted_at: float | None = None
    ending_at: float | None = None
    vanished: bool = False
    preempted_at: float | None = None

    def status(self, now: float, boot_seconds: float) -> str:
        if self.ending_at is not None:
            return "terminating" if now <= self.ending_at + self._ending_seconds() else "terminated"
        if self.preempted_at is not None:
            return "preempted"
        if "never_active" in self.faults or self.boots(now, boot_seconds):
            return "booting"
        return "unhealthy" if "unhealthy" in self.faults else "active"

    def boots(self, now: float, boot_seconds: float) -> bool:
        return now < max(self.launched_at, self.restarted_at or 0.0) + boot_seconds

    def is_forgotten(self, now: float) -> bool:
        """Not even a `terminated` instance any more."""
        if self.ending_at is None:
            return False
        return self.vanished or now > self.ending_at + self._ending_seconds() + _REMEMBERED_SECONDS

    def is_listed(self, now: float) -> bool:
        return now >= self.launched_at + self.faults.get("list_lag", 0.0)

    def vanishes(self, now: float) -> bool:
        return "vanish" in self.faults and self.ending_at is None and now >= self.launched_at + self.faults["vanish"]

    def is_preempted(self, now: float) -> bool:
        """Its announced end is to begin now."""
        due = "preempted" in self.faults and now >= self.launched_at + self.faults["preempted"]
        return due and self.preempted_at is None and self.ending_at is None

    def notice_is_over(self, now: float) -> bool:
        return self.preempted_at is not None and self.ending_at is None and now >= self.preempted_at + _NOTICE_SECONDS

    def hindrance(self, action: str, now: float, boot_seconds: float) -> str | None:
        """Lambda's reason code against an action; None: it may be asked for."""
        if self.ending_at is not None:
            return "vm-is-terminating"
        if self.restarted_at is not None and self.boots(now, boot_seconds):
            return "vm-action-in-progress"
        if action == "terminate":
            refused = now < self.launched_at + self.faults.get("terminate_refused", 0.0)
            return "vm-has-not-launched" if refused else None
        return "vm-has-not-launched" if self.status(now, boot_seconds) == "booting" else None

    def public(self, now: float, boot_seconds: float) -> dict[str, Any]:
        """As the API shows it: no creation time, today's price, `ip` late in boot. What is not there is left out."""
        shown: dict[str, Any] = {
            "id": self.id,
            "status": self.status(now, boot_seconds),
            "ssh_key_names": [self.request.key_name],
            "file_system_names": [],
            "file_system_mounts": [],
            "region": public_region(self.request.region),
            "instance_type": self.request.kind.public(),
            "is_reserved": False,
            "actions": {action: _availability(self.hindrance(action, now, boot_seconds)) for action in _ACTIONS},
            "tags": self.request.tags,
            "firewall_rulesets": [],
        }
        has_address = now >= self.launched_at + boot_seconds + _IP_LAG_SECONDS and "no_address" not in self.faults
        may_lack = {
            "name": self.name,
            "hostname": self.request.hostname,
            "ip": self.address if has_address else None,
            "private_ip": private_address(self.address) if has_address else None,
        }
        return shown | {key: value for key, value in may_lack.items() if value is not None}

    def machine(self) -> MachineSpec:
        """The host to power on."""
        kind, lies = self.request.kind, "lies_gpu" in self.faults
        return MachineSpec(
            id=self.id,
            hostname=self.request.hostname or self.address.replace(".", "-"),
            public_key=self.public_key,
            user_data=self.request.user_data,
            gpu="NVIDIA A10" if lies else kind.gpu,
            gpu_mib=23028 if lies else kind.gpu_mib,
            gpus=kind.gpus,
            ssh="ssh_never" not in self.faults,
        )

    def bill(self, now: float) -> dict[str, Any]:
        """The provider's own account of it: begun minutes from launch to termination, in dollars."""
        end = self.ending_at if self.ending_at is not None else now
        # Milliseconds, as a float's last digits must not begin a minute.
        seconds = Decimal(str(round(end - self.launched_at, 3)))
        minutes = (seconds / 60).to_integral_value(rounding=ROUND_CEILING)
        price = Decimal(self.request.kind.price_cents_per_hour) / 100
        return {
            "instance_id": self.id,
            "credential": self.credential,
            "name": self.name,
            "instance_type": self.request.kind.name,
            "region": self.request.region,
            "launched_at": self.launched_at,
            "terminated_at": self.ending_at,
            "minutes": int(minutes),
            "amount": str(minutes * price / 60),
            "currency": "USD",
        }

    def _ending_seconds(self) -> float:
        return self.faults.get("lingers", _ENDING_SECONDS)


def private_address(public: str) -> str:
    """The account's own network in each region, 10.19.0.0/24: the last number is the public address's."""
    return f"10.19.0.{public.rpartition('.')[2]}"


def _availability(reason: str | None) -> dict[str, Any]:
    if reason is None:
        return {"available": True}
    return {"available": False, "reason_code": reason, "reason_description": reason.replace("-", " ")}
