"""What the services answer with: plain values that the API turns into JSON."""

from dataclasses import dataclass
from datetime import datetime

from broker.core.leases import Lease, LeaseEvent
from broker.core.usage import CostBounds, UsageEvent


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One bootstrap step that ended well on the lease's instance."""

    name: str
    finished_at: datetime
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LeaseLine:
    """A lease as a line of a list. `cost` is None while nothing was bought."""

    lease: Lease
    cost: CostBounds | None


@dataclass(frozen=True, kw_only=True)
class LeaseView(LeaseLine):
    """A lease with its history."""

    events: tuple[LeaseEvent, ...]
    steps: tuple[StepRecord, ...]
    usage: tuple[UsageEvent, ...]


@dataclass(frozen=True, kw_only=True)
class WhyLine:
    at: datetime | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Why:
    """What happened to a job or node and what is awaited, in plain words: headline, then the story, then what comes next."""

    target: str
    headline: str
    story: tuple[WhyLine, ...]
    awaited: str | None
    owner: str | None
    """The job's user; None for a node. Only the owner and operators may read a job's story."""
    leases: tuple[LeaseView, ...]


@dataclass(frozen=True, kw_only=True)
class Status:
    """The daemon at a glance. `activities` maps an activity's name to (last success, last error)."""

    version: str
    cluster: str
    slurm: str
    """Which way slurmctld is asked, and why that one."""
    paused: str | None
    """Why buying is paused; None: it is not."""
    living_leases: int
    activities: dict[str, tuple[datetime | None, str | None]]
    providers: dict[str, str]
    """Credential name → `ok` or what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class NodeAccess:
    """How to open a shell on a rented node; `key_file` is readable by the operator only."""

    node: str
    address: str
    port: int
    user: str
    host_key: str
    key_file: str
