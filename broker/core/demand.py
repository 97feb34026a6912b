"""What the work needs: the shape of a node, the job behind it, and what the job wishes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A class of node names: GPU model x count, minimum CPUs and memory. Never a provider's instance type.

    Node names are `<name>-1` … `<name>-<nodes>`; `partition` is the elastic partition they belong to.
    """

    name: str
    partition: str
    accelerator: str | None
    accelerator_count: int
    cpus: int
    memory_gib: int
    disk_gib: int
    nodes: int


class Mode(StrEnum):
    """What a job prefers where money, carbon and time disagree."""

    CHEAP = "cheap"
    BALANCED = "balanced"
    GREEN = "green"
    FAST = "fast"


@dataclass(frozen=True, kw_only=True)
class Checkpointing:
    """The job saves its state every `interval`, which takes it `cost`."""

    interval: timedelta
    cost: timedelta = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class DataNeed:
    """What the job reads: `gb` gigabytes that lie at `place`, or the data set that the registry knows as `name`."""

    gb: float | None = None
    place: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """A job's `--comment="broker:…"`, parsed. Absent keys are None or empty."""

    zones: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    spot: str | None = None
    mode: Mode | None = None
    premium: float | None = None
    """Share of the cheapest plan's money that may be spent on top: 0.15 is 15 %."""
    delay: timedelta | None = None
    deadline: datetime | None = None
    carbon_cap_kg: float | None = None
    budget: Decimal | None = None
    """The most that the job may cost, in the site's currency."""
    checkpointing: Checkpointing | None = None
    data: tuple[DataNeed, ...] = ()
    out_gb: float | None = None
    signal: str | None = None
    """`average` or `marginal`."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`[limits]` of the site; None: no limit of that sort."""

    max_nodes: int | None = None
    max_usd_per_hour: Decimal | None = None
    max_price_per_gpu_hour: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the machines of one group stand together: a credential and a zone."""

    provider: str
    zone: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """Demand for one node, or for each node of a group, as the planner sees it."""

    shape: Shape
    wishes: Wishes
    cpu_arch: str = "x86_64"
    """What the node bundle was built for."""
    excluded_offers: frozenset[str] = frozenset()
    """Offers that failed already behind this call of ResumeProgram."""
    too_slow: frozenset[str] = frozenset()
    """Offers whose machines mostly boot later than Slurm waits now (p95 of their boots)."""
    needed_until: datetime | None = None
    """The work may last so long; None: nobody knows."""
    place: Place | None = None
    """Where the rest of the group stands already."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Slurm's job, as far as we look at it. Times are aware UTC; None: Slurm does not know yet."""

    id: int
    name: str
    user: str
    uid: int
    account: str | None
    partition: str
    state: str
    reason: str
    nodes: tuple[str, ...]
    comment: str
    admin_comment: str
    time_limit: timedelta | None
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    batch: bool
