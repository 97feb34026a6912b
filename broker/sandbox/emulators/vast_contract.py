"""One contract of the emulated Vast.ai: its four states over time, what the API shows of it, what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from broker.sandbox.emulators.machines import MachineSpec
from broker.sandbox.emulators.vast_market import VastMachine

SSH_PORT = 40022
"""The port of the host that is passed on to a VM's 22."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be rented. `bid`: USD an hour for the machine; None: on demand."""

    machine: VastMachine
    gpus: int
    bid: float | None
    disk_gb: float
    image: str
    vm: bool
    label: str | None
    onstart: str


@dataclass
class VastContract:
    """Times are seconds of the cloud's clock. `faults`: kind → its seconds (0 for those that take none).

    `runs`: when the machine was on, and until when (None: it still is). A bid that is outbid is off and comes again.
    """

    id: int
    credential: str
    order: Order
    is_bid: bool
    dph_base: float
    public_keys: tuple[str, ...]
    created_at: float
    faults: Mapping[str, float]
    booting_since: float
    address: str | None = None
    runs: list[tuple[float, float | None]] = field(default_factory=list)
    stopped_at: float | None = None
    ended_at: float | None = None
    boots: int = 0

    @property
    def host(self) -> str:
        """The id of the host behind this boot: each boot has one of its own."""
        return f"{self.id}-{self.boots}"

    @property
    def is_on(self) -> bool:
        return bool(self.runs) and self.runs[-1][1] is None

    def is_listed(self, now: float) -> bool:
        return now >= self.created_at + self.faults.get("list_lag", 0.0)

    def is_outbid(self, now: float) -> bool:
        due = self.faults.get("outbid")
        return due is not None and self.stopped_at is None and self.boots <= 1 and now >= self.created_at + due

    def vanishes(self, now: float) -> bool:
        return "vanish" in self.faults and now >= self.created_at + self.faults["vanish"]

    def actual_status(self) -> str | None:
        if self.stopped_at is not None:
            return "exited"
        if not self.is_on:
            return "loading" if self.boots else None
        return "offline" if "unhealthy" in self.faults else "running"

    def listed(self) -> dict[str, Any]:
        """As a listing shows it."""
        return self._record() | {"ports": self._ports()}

    def shown(self) -> dict[str, Any]:
        """As it is shown alone: its ports are bare numbers."""
        return self._record() | {"ports": [SSH_PORT] if self._ports() else []}

    def column(self, name: str) -> Any:
        return self.listed().get(name)

    def machine(self) -> MachineSpec:
        """The host to power on."""
        lies = "lies_gpu" in self.faults
        return MachineSpec(
            id=self.host,
            hostname=self.order.label or f"vast-{self.id}",
            public_key="\n".join(self.public_keys),
            user_data=self.order.onstart,
            gpu="NVIDIA A10" if lies else self.order.machine.gpu,
            gpu_mib=23028 if lies else self.order.machine.gpu_ram,
            gpus=self.order.gpus,
            ssh="ssh_never" not in self.faults,
            user="root",
            ssh_port=SSH_PORT,
        )

    def bill(self, now: float) -> dict[str, Any]:
        """The provider's own account: GPUs by the second while it runs, the disk from its making to its end."""
        end = self.ended_at if self.ended_at is not None else now
        on = sum((_exact((until if until is not None else end) - since) for since, until in self.runs), Decimal(0))
        stored = _exact(end - self.created_at)
        amount = (on * _exact(self.dph_base) + stored * _exact(self._disk_hour())) / 3600
        return {
            "instance_id": str(self.id),
            "credential": self.credential,
            "name": self.order.label,
            "instance_type": f"{self.order.machine.id}x{self.order.gpus}",
            "region": self.order.machine.geolocation,
            "launched_at": self.created_at,
            "terminated_at": self.ended_at,
            "minutes": int(on // 60),
            "amount": str(amount),
            "currency": "USD",
        }

    def _record(self) -> dict[str, Any]:
        stopped = self.stopped_at is not None
        wanted = "stopped" if stopped else "running"
        disk = self._disk_hour()
        machine = self.order.machine
        return {
            "id": self.id,
            **machine.shown(self.order.gpus),
            "actual_status": self.actual_status(),
            "intended_status": wanted,
            "cur_state": wanted,
            "next_state": wanted,
            "label": self.order.label,
            "image_uuid": self.order.image,
            "image_args": [],
            "image_runtype": "ssh_direct",
            "extra_env": [],
            "onstart": self.order.onstart,
            "jupyter_token": "f" * 64,
            "status_msg": None if stopped or not self.is_on else f"success, running {self.order.image}",
            "local_ipaddrs": "10.2.202.31 172.17.0.1 \n",
            "public_ipaddr": self.address or "",
            "ssh_host": "ssh4.vast.ai",
            "ssh_idx": "4",
            "ssh_port": 10000 + self.id % 20000,
            "disk_space": self.order.disk_gb,
            "start_date": self.created_at,
            "end_date": self.created_at + machine.days * 86400.0,
            "duration": machine.days * 86400.0,
            "is_bid": self.is_bid,
            "min_bid": round(machine.bid_gpu * self.order.gpus, 6),
            "dph_base": self.dph_base,
            "dph_total": self.dph_base + disk,
            "rentable": True,
            "search": {"gpuCostPerHour": self.dph_base, "diskHour": disk, "totalHour": self.dph_base + disk},
        }

    def _ports(self) -> dict[str, Any] | None:
        if self.actual_status() != "running" or "no_address" in self.faults:
            return None
        return {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(SSH_PORT)}]}  # noqa: S104  # as Vast says it

    def _disk_hour(self) -> float:
        return self.order.disk_gb * self.order.machine.storage_cost / 720


def _exact(seconds: float) -> Decimal:
    return Decimal(str(round(seconds, 9)))
