"""The documents of the API. snake_case keys, ISO-8601 UTC times with Z, money as decimal strings beside a currency."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from broker.catalog.zones import Confidence
from broker.core.leases import LeaseEvent, LeaseState
from broker.core.offers import CapacityType
from broker.core.usage import CostBounds, UsageEvent, UsageKind
from broker.services.market import OfferLine, OffersView
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
    p_success: float = Field(description="How likely a purchase now is to be answered with a machine.")
    p_reason: str
    half_life_s: float = Field(description="After so long, half of such offers can no longer be had.")
    score: float = Field(description="By which the planner ranks: price * (1 + (1 - p) / p / 60).")
    unfit: str | None = Field(description="Why it is not for the shape asked for; null: it is, or none was asked for.")
    gpu: "GpuPart | None"
    boot: "BootPart | None" = Field(description="From purchase to slurmd, learned; null: too few boots.")
    energy: "EnergyPart | None" = Field(description="Of the whole machine, without cooling; null: not known.")
    location: "LocationPart | None" = Field(description="null: not known.")


class GpuPart(Part):
    """The board as far as the provider tells; `odd_memory`: none was ever sold with so much."""

    form: str | None
    memory_gb: int | None
    power_w: int
    odd_memory: bool


class BootPart(Part):
    p50_s: float
    p95_s: float
    boots: int


class EnergyPart(Part):
    load_w: int
    idle_w: int
    confidence: Confidence


class LocationPart(Part):
    """`grid_zone`: Electricity Maps' key of the grid that feeds the place; null: not known."""

    place: str | None
    country: str | None
    grid_zone: str | None
    confidence: Confidence


class LookPart(Part):
    """A credential's newest reading. One that is not believed changed nothing, and `note` says why."""

    provider: str
    at: Time
    rows: int
    believed: bool
    note: str | None
    left_out: dict[str, int]


class OffersDocument(Document):
    offers: list[OfferPart]
    readings: list[LookPart]


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


def offers_document(view: OffersView) -> OffersDocument:
    return OffersDocument(
        offers=[_offer(line) for line in view.lines], readings=[LookPart.model_validate(look) for look in view.looks]
    )


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


def _offer(line: OfferLine) -> OfferPart:
    boot = line.boot
    of_offer = {name: getattr(line.offer, name) for name in OfferPart.model_fields if hasattr(line.offer, name)}
    return OfferPart.model_validate(
        {
            **of_offer,
            "p_success": round(line.chance.p, 3),
            "p_reason": line.chance.reason(),
            "half_life_s": round(line.chance.half_life_s),
            "score": round(line.score, 4),
            "unfit": line.unfit,
            "gpu": line.gpu,
            "boot": boot and BootPart(p50_s=boot.p50.total_seconds(), p95_s=boot.p95.total_seconds(), boots=boot.boots),
            "energy": line.energy,
            "location": LocationPart(
                place=line.location.place,
                country=line.location.country,
                grid_zone=line.location.zone,
                confidence=line.location.confidence,
            ),
        }
    )


def _cost(cost: CostBounds | None) -> CostPart | None:
    return None if cost is None else CostPart.model_validate(cost)


def _event(event: LeaseEvent) -> EventPart:
    return EventPart.model_validate(event)


def _usage(event: UsageEvent) -> UsagePart:
    return UsagePart.model_validate(event)
