"""The documents of the API. snake_case keys, ISO-8601 UTC times with Z, money as decimal strings beside a currency."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from broker.core.leases import LeaseEvent, LeaseState
from broker.core.offers import CapacityType, Offer
from broker.core.usage import CostBounds, UsageEvent, UsageKind
from broker.services.views import LeaseLine, LeaseView, NodeAccess, Status, Why


def _time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _money_text(amount: Decimal) -> str:
    """Plain digits, no exponent; a computed amount is cut at a millionth, prices come as they were quoted."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -6:
        amount = amount.quantize(Decimal("0.000001"))
    return format(amount, "f")


Time = Annotated[datetime, PlainSerializer(_time_text, return_type=str)]
Money = Annotated[Decimal, PlainSerializer(_money_text, return_type=str)]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")
]


class Part(BaseModel):
    """A piece of a document, read from one of our dataclasses."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")


class Document(Part):
    schema_version: Literal[1] = 1


class ReasonBody(BaseModel):
    """The body of a POST that wants to know why."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason


class HardwarePart(Part):
    accelerator: str | None
    accelerator_count: int
    accelerator_memory_gib: int | None
    cpus: int
    memory_gib: int
    disk_gib: int


class OfferPart(Part):
    id: str
    provider: str
    kind: str
    instance_type: str
    zone: str
    capacity_type: CapacityType
    hardware: HardwarePart
    price_per_hour: Money
    currency: str
    available: bool
    observed_at: Time
    disk_price_per_gib_hour: Money | None
    machine: str | None
    until: Time | None
    egress_per_gb: Money | None
    ingress_per_gb: Money | None


class OffersDocument(Document):
    offers: list[OfferPart]


class CostPart(Part):
    """The provider's bill lies in [`low`, `high`]."""

    low: Money
    high: Money
    currency: str


class EventPart(Part):
    was: LeaseState | None
    became: LeaseState
    reason: str
    at: Time


class StepPart(Part):
    name: str
    finished_at: Time
    seconds: float


class UsagePart(Part):
    kind: UsageKind
    not_before: Time
    not_after: Time
    price_per_hour: Money
    currency: str


class LeaseSummary(Part):
    id: str
    node: str
    shape: str
    state: LeaseState
    state_since: Time
    created_at: Time
    requested_at: Time
    deadline: Time
    request_id: str
    attempt: int
    job_id: int | None
    reason: str | None
    not_before: Time | None
    provider: str | None
    offer_id: str | None
    instance_type: str | None
    zone: str | None
    capacity_type: CapacityType | None
    machine: str | None
    price_per_hour: Money | None
    currency: str | None
    instance_id: str | None
    address: str | None
    cost: CostPart | None


class LeasePart(LeaseSummary):
    version: int
    epoch: int
    label: str | None
    host_key: str | None
    overlay_key: str | None
    fenced_at: Time | None
    events: list[EventPart]
    steps: list[StepPart]
    usage: list[UsagePart]


class LeasesDocument(Document):
    leases: list[LeaseSummary]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: this was the last.")


class LeaseDocument(Document):
    lease: LeasePart


class LogDocument(Document):
    lease_id: str
    which: Literal["boot", "console"]
    text: str


class WhyLinePart(Part):
    at: Time | None
    text: str


class WhyLease(Part):
    """As much of a lease as the job's owner needs."""

    id: str
    node: str
    state: LeaseState
    provider: str | None
    zone: str | None
    instance_type: str | None
    price_per_hour: Money | None
    currency: str | None
    cost: CostPart | None


class WhyDocument(Document):
    target: str
    owner: str | None
    headline: str
    story: list[WhyLinePart]
    awaited: str | None
    leases: list[WhyLease]


class ActivityPart(Part):
    last_success_at: Time | None
    last_error: str | None


class StatusDocument(Document):
    version: str
    cluster: str
    slurm: str
    paused: str | None
    living_leases: int
    activities: dict[str, ActivityPart]
    providers: dict[str, str]


class NodeAccessDocument(Document):
    node: str
    address: str
    port: int
    user: str
    host_key: str
    key_file: str


def offers_document(offers: list[Offer]) -> OffersDocument:
    return OffersDocument(offers=[OfferPart.model_validate(offer) for offer in offers])


def lease_summary(line: LeaseLine) -> LeaseSummary:
    return LeaseSummary.model_validate({**vars(line.lease), "cost": _cost(line.cost)})


def lease_document(view: LeaseView) -> LeaseDocument:
    parts = {
        "cost": _cost(view.cost),
        "events": [_event(event) for event in view.events],
        "steps": [StepPart.model_validate(step) for step in view.steps],
        "usage": [_usage(event) for event in view.usage],
    }
    return LeaseDocument(lease=LeasePart.model_validate({**vars(view.lease), **parts}))


def why_document(why: Why) -> WhyDocument:
    return WhyDocument(
        target=why.target,
        owner=why.owner,
        headline=why.headline,
        story=[WhyLinePart.model_validate(line) for line in why.story],
        awaited=why.awaited,
        leases=[WhyLease.model_validate({**vars(view.lease), "cost": _cost(view.cost)}) for view in why.leases],
    )


def status_document(status: Status) -> StatusDocument:
    return StatusDocument(
        version=status.version,
        cluster=status.cluster,
        slurm=status.slurm,
        paused=status.paused,
        living_leases=status.living_leases,
        activities={
            name: ActivityPart(last_success_at=success, last_error=error)
            for name, (success, error) in status.activities.items()
        },
        providers=status.providers,
    )


def node_access_document(access: NodeAccess) -> NodeAccessDocument:
    return NodeAccessDocument.model_validate(access)


def _cost(cost: CostBounds | None) -> CostPart | None:
    return None if cost is None else CostPart.model_validate(cost)


def _event(event: LeaseEvent) -> EventPart:
    return EventPart.model_validate(event)


def _usage(event: UsageEvent) -> UsagePart:
    return UsagePart.model_validate(event)
