"""What could be bought now."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class CapacityType(StrEnum):
    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"
    OWNED = "owned"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What one machine has. `accelerator` is a canonical GPU model name of `broker/catalog`, None for a CPU machine.

    `cpu_arch` as `uname -m` says it.
    """

    accelerator: str | None
    accelerator_count: int
    accelerator_memory_gib: int | None
    cpus: int
    memory_gib: int
    disk_gib: int
    cpu_arch: str = "x86_64"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Instance type + zone + capacity type + price, as one credential saw it at `observed_at`.

    `provider` is the credential's name in the configuration (`lambda-a`), `kind` the adapter (`lambda`).
    `price_per_hour` is for the whole machine.
    """

    provider: str
    kind: str
    instance_type: str
    zone: str
    capacity_type: CapacityType
    hardware: Hardware
    price_per_hour: Decimal
    currency: str
    available: bool
    observed_at: datetime

    @property
    def id(self) -> str:
        """Stable over readings: the same thing seen twice has the same id."""
        return f"{self.provider}/{self.instance_type}/{self.zone}/{self.capacity_type}"


class InstanceState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """The provider's running thing. `label` is ours (None: somebody else's); addresses are absent early in boot.

    `address` is public; `private_address` is reached by the account's other instances in the zone, None: not known.
    """

    id: str
    label: str | None
    state: InstanceState
    raw_state: str
    address: str | None
    instance_type: str | None
    zone: str | None
    price_per_hour: Decimal | None
    private_address: str | None = None


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """What to buy. `label` finds the instance again when the answer to a create is lost."""

    label: str
    instance_type: str
    zone: str
    user_data: str
    ssh_public_key: str
