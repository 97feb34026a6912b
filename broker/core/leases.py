"""A lease: our lasting record that one Slurm node should be backed by one instance, from wish to confirmed end."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from broker.core.offers import CapacityType


class LeaseState(StrEnum):
    REQUESTED = "requested"
    LAUNCHING = "launching"
    BOOTSTRAPPING = "bootstrapping"
    READY = "ready"
    PARKED = "parked"
    DRAINING = "draining"
    RELEASING = "releasing"
    RELEASED = "released"


S = LeaseState
MOVES: dict[LeaseState, frozenset[LeaseState]] = {
    S.REQUESTED: frozenset({S.LAUNCHING, S.RELEASED}),
    S.LAUNCHING: frozenset({S.BOOTSTRAPPING, S.RELEASING}),
    S.BOOTSTRAPPING: frozenset({S.READY, S.RELEASING}),
    S.READY: frozenset({S.DRAINING, S.PARKED, S.RELEASING}),
    S.PARKED: frozenset({S.READY, S.RELEASING}),
    S.DRAINING: frozenset({S.RELEASING}),
    S.RELEASING: frozenset({S.RELEASED}),
    S.RELEASED: frozenset(),
}
"""The one table of legal moves. There is no `failed`: failure is the reason for releasing."""

LIVING = frozenset(LeaseState) - {S.RELEASED}
"""States in which somebody may still be charging us."""

HOLDS_NODE = frozenset({S.REQUESTED, S.LAUNCHING, S.BOOTSTRAPPING, S.READY, S.DRAINING})
"""States in which the lease owns its node name; a `releasing` one is fenced, so the next may start."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One row of the ledger. Fields from `provider` on are None until an offer is allotted: a `requested` lease that has
    one counts against the limits, and is bought as soon as the credential's own limit lets it.

    `request_id` groups the attempts behind one call of ResumeProgram, made at `requested_at`; `attempt` numbers them from 1.
    `machine`: as in `Offer`. `ssh_port` None: the one that the configuration says for the credential.
    `deadline` is when Slurm gives the node up (ResumeTimeout). `not_before`: no step before this time (back-off).
    """

    id: str
    node: str
    shape: str
    state: LeaseState
    state_since: datetime
    version: int
    created_at: datetime
    requested_at: datetime
    deadline: datetime
    request_id: str
    attempt: int
    epoch: int
    job_id: int | None = None
    reason: str | None = None
    not_before: datetime | None = None
    provider: str | None = None
    offer_id: str | None = None
    instance_type: str | None = None
    zone: str | None = None
    capacity_type: CapacityType | None = None
    machine: str | None = None
    price_per_hour: Decimal | None = None
    currency: str | None = None
    label: str | None = None
    instance_id: str | None = None
    address: str | None = None
    ssh_port: int | None = None
    private_address: str | None = None
    host_key: str | None = None
    overlay_key: str | None = None
    fenced_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class LeaseEvent:
    """One line of a lease's history. `was == became` records something that happened without a move."""

    lease_id: str
    was: LeaseState | None
    became: LeaseState
    reason: str
    at: datetime


def new_lease_id() -> str:
    """A fresh id, safe in labels, file names and DNS: `l` and ten lower-case hex digits."""
    return "l" + secrets.token_hex(5)


_LABEL = re.compile(
    r"^broker-(?P<cluster>[a-z0-9][a-z0-9-]{0,30}[a-z0-9]|[a-z0-9])-(?P<lease>l[0-9a-f]{10})-e(?P<epoch>\d+)$"
)


def label_for(cluster: str, lease_id: str, epoch: int) -> str:
    """The instance's name at the provider: cluster + lease + epoch, at most 63 characters, DNS-safe."""
    return f"broker-{cluster}-{lease_id}-e{epoch}"


def lease_of_label(cluster: str, label: str | None) -> str | None:
    """The lease id in `label` when it is one of this cluster's labels, else None: never touch what is not ours."""
    found = _LABEL.match(label or "")
    # Letter by letter: what only looks like a label of ours is somebody else's.
    exact = found is not None and label == label_for(cluster, found["lease"], int(found["epoch"]))
    return found["lease"] if found is not None and exact else None


def epoch_of_label(label: str | None) -> int:
    """The epoch in a label of ours; 1 when there is none."""
    found = _LABEL.match(label or "")
    return int(found["epoch"]) if found else 1
