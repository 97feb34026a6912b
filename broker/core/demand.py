"""What the work needs: the shape of a node, the job behind it, and what the job wishes."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal


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


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """A job's `--comment="broker:…"`, parsed. Absent keys are None or empty."""

    zones: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    spot: str | None = None
    other: dict[str, str] = field(default_factory=dict)
    """Keys whose deciding part is not built yet (`mode`, `premium`, …): kept, and named by `broker why`."""


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
