"""What could be bought now, and what was bought."""

from collections import Counter
from dataclasses import dataclass, replace
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
    `price_per_hour` is for the whole machine, without traffic; its disk is in it unless the disk has a price of its own.
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
    disk_price_per_gib_hour: Decimal | None = None
    """The disk is bought by size, `hardware.disk_gib` at most, at this price on top; None: it is in the price."""
    disk_min_gib: int = 0
    """The smallest disk that is sold so."""
    machine: str | None = None
    """The provider's name of the one physical machine behind the offer; None: any of a pool."""
    until: datetime | None = None
    """The provider takes the machine back then; None: not known."""
    egress_per_gb: Decimal | None = None
    """What the provider takes for a GB that leaves the machine; None: not known."""
    ingress_per_gb: Decimal | None = None
    """What it takes for a GB that comes in; None: not known."""

    @property
    def id(self) -> str:
        """Stable over readings: the same thing seen twice has the same id, also when a host describes its place anew."""
        where = "" if self.machine is not None else f"{self.zone}/"
        return f"{self.provider}/{self.instance_type}/{where}{self.capacity_type}"

    def with_disk(self, disk_gib: int) -> "Offer":
        """The offer as it is bought with a disk of that size, if it can be had: the price includes it then."""
        size = max(disk_gib, self.disk_min_gib)
        if self.disk_price_per_gib_hour is None or size > self.hardware.disk_gib:
            return self
        return replace(
            self,
            hardware=replace(self.hardware, disk_gib=size),
            price_per_hour=self.price_per_hour + self.disk_price_per_gib_hour * size,
            disk_price_per_gib_hour=None,
        )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row of a provider's list that became no offer. `what`: how it calls itself, as far as that can be read.

    `reason` is one of a few, so that they can be counted.
    """

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one look at a provider's list brought. `complete` False: there was more than it showed, so what is missing
    may be on sale all the same."""

    offers: tuple[Offer, ...]
    left_out: tuple[LeftOut, ...] = ()
    complete: bool = True

    def reasons(self) -> list[tuple[str, int]]:
        """How many rows were left out for which reason, the commonest first."""
        counted = Counter(row.reason for row in self.left_out)
        return sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))


class InstanceState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It does not run, goes on costing money (its disk), and may start again by itself: it is not on its way out."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """The provider's running thing. `label` is ours (None: somebody else's); addresses are absent early in boot.

    `address` is public; `private_address` is reached by the account's other instances in the zone, None: not known.
    `ssh_port` None: the one that the configuration says. `capacity_type` None: the provider does not tell, or not yet.
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
    ssh_port: int | None = None
    capacity_type: CapacityType | None = None
    machine: str | None = None
    """As in `Offer`."""
    notice: str | None = None
    """What the provider announces about it (a price rise, its end), in words; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """What to buy. `label` finds the instance again when the answer to a create is lost.

    `price_per_hour` is what was shown for all of it: an adapter whose prices move buys at no more, and bids so much for
    spot. `disk_gib` is for providers that sell disk by size. None: not asked for.
    """

    label: str
    instance_type: str
    zone: str
    user_data: str
    ssh_public_key: str
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    price_per_hour: Decimal | None = None
    disk_gib: int | None = None
    machine: str | None = None
