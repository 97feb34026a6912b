"""What every activity is handed: the ledger, the providers, Slurm, the privileged domains and the clock."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path

from sqlalchemy import Engine

from broker.core.demand import Limits, Shape
from broker.core.leases import Lease
from broker.core.offers import Instance
from broker.privileged.client import AsUserDomain, NetDomain
from broker.providers.base import Provider
from broker.provisioning.base import OpenShell
from broker.provisioning.steps import JoinPlan
from broker.reconcile.sign import Sign, knock
from broker.services.forecast import Forecast
from broker.slurm.base import SlurmClient


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the configuration says about this site, as the activities need it."""

    cluster: str
    shapes: Mapping[str, Shape]
    addresses: Mapping[str, IPv4Address]
    limits: Limits
    trusted: frozenset[str]
    boot_timeout: Mapping[str, timedelta]
    ssh_port: Mapping[str, int]
    ssh_user: Mapping[str, str]
    """Credential → the login of its machines, as `ssh_port`."""
    ssh_key_file: Path
    ssh_public_key: str
    dead_man: timedelta
    cpu_arch: str
    """What the node bundle was built for."""
    image: str
    """The node bundle's id: machines that do not become nodes with it are counted together."""
    lease_logs: Path
    jobs_folder: Path


class Happening(StrEnum):
    """What an activity did that neither the ledger nor an adapter tells."""

    ORPHAN_ENDED = "orphan_ended"
    NODE_UNBACKED = "node_unbacked"
    RESIDUE_REMOVED = "residue_removed"


@dataclass(frozen=True, kw_only=True)
class World:
    """The parts an activity works with. `nudge` wakes the others after a change."""

    site: Site
    engine: Engine
    providers: Mapping[str, Provider]
    slurm: SlurmClient
    net: NetDomain
    as_user: AsUserDomain
    open_shell: OpenShell
    clock: Callable[[], datetime]
    started_at: datetime
    """When this daemon started: what its predecessor did last happened before."""
    join_plan: Callable[[Lease], JoinPlan]
    nudge: Callable[[], None] = lambda: None
    promise: Callable[[Lease, int, datetime], None] = lambda lease, job_id, until: None
    """`Living.promise`: on return it stands where `broker reap` looks that the job may need the lease's machine till then."""
    happened: Callable[[Happening, str | None, int], None] = lambda what, provider, count: None
    """Told of each `Happening`: at which credential, if at one, and how often."""
    unreachable: dict[str, str] = field(default_factory=dict)
    """Lease id → why its machine was last not reachable: each reason is logged once, not at each knock."""
    homes: "Locks" = field(default_factory=lambda: Locks())
    """One lease's home is brought or taken away by one worker at a time."""
    introduced: dict[int, frozenset[str]] = field(default_factory=dict)
    """Job → the leases whose machines know one another for it."""
    to_hold: dict[int, str] = field(default_factory=dict)
    """Job → why it is held as soon as Slurm has requeued it."""
    homeless: dict[str, datetime] = field(default_factory=dict)
    """Lease id → since when no home can be brought to its machine."""
    registering: dict[str, datetime] = field(default_factory=dict)
    """Lease id → when slurmctld first answered after its slurmd was started."""
    knock: Callable[[IPv4Address], Sign] = knock
    """Whether slurmd listens at an overlay address."""
    requeued: set[str] = field(default_factory=set)
    """Ids of lost leases whose nodes Slurm was told to give up."""
    reruns: dict[int, datetime] = field(default_factory=dict)
    """Jobs of lost machines that Slurm shall start again at once, and since when they wait for that."""
    seen_at_provider: dict[str, datetime] = field(default_factory=dict)
    """Lease id → when its provider was last asked about a booting machine that does not answer."""
    listings: "Listings" = field(default_factory=lambda: Listings())
    forecast: Forecast = field(default_factory=Forecast)

    def provider_of(self, lease: Lease) -> Provider | None:
        """The lease's credential; None when the configuration no longer has it."""
        return self.providers.get(lease.provider or "")


class Locks:
    """A lock a key, made when it is first asked for."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()

    def of(self, key: str) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(key, threading.RLock())


class Listings:
    """One listing of a credential's instances serves every lease that asks within `seconds`.

    Too short: a provider with one call a second is used up by waiting nodes. Too long: their addresses are seen late.
    """

    def __init__(self, seconds: float = 1.5, ticks: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._ticks = ticks
        self._seen: dict[str, tuple[float, list[Instance]]] = {}
        self._locks = Locks()

    def of(self, provider: Provider) -> list[Instance]:
        """The instances of `provider`, at most that old. Raises what `Provider.instances` raises."""
        with self._locks.of(provider.name):
            at, rows = self._seen.get(provider.name, (float("-inf"), []))
            if self._ticks() - at > self._seconds:
                rows = provider.instances()
                self._seen[provider.name] = (self._ticks(), rows)
            return rows
