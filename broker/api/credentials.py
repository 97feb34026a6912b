"""The documents about credentials."""

from collections.abc import Iterable
from typing import Any

from broker.api.schemas import Document, Money, Part, Time
from broker.core.blocks import Block, Cause, Scope
from broker.core.demand import Shape
from broker.core.offers import CapacityType, Offer
from broker.db.blocks import BlockEvent
from broker.db.residue import Found
from broker.services.credentials import CredentialLine, CredentialView, Standing, TestView


class PricePart(Part):
    amount: Money
    currency: str


class LookPart(Part):
    """The last hourly look; `error` null: the provider took the credential."""

    at: Time
    error: str | None
    seconds: float


class ProviderSummary(Part):
    name: str
    kind: str
    trusted: bool
    state: Standing
    reason: str | None
    error: str | None
    until: Time | None
    offers: int
    offers_available: int
    offers_read_at: Time | None
    machines: int
    price_per_hour: list[PricePart]
    look: LookPart | None


class BlockPart(Part):
    """`open`: nothing is bought now; not open with strikes enough: one attempt may be made or is being made (`trying`)."""

    scope: Scope
    cause: Cause
    subject: str
    reason: str
    error: str | None
    since: Time
    at: Time
    until: Time | None
    strikes: int
    strikes_to_open: int
    open: bool
    trying: str | None
    by: str | None


class BlockEventPart(Part):
    at: Time
    what: str
    cause: Cause
    subject: str
    reason: str
    error: str | None
    by: str | None


class ResiduePart(Part):
    kind: str
    thing: str
    label: str
    said: str
    found_at: Time
    removed_at: Time | None


class BootsPart(Part):
    instance_type: str
    boots: int
    p50_s: float
    p95_s: float


class ProviderPart(ProviderSummary):
    blocks: list[BlockPart]
    events: list[BlockEventPart]
    residue: list[ResiduePart]
    boots: list[BootsPart]
    call_interval_ms: int | None
    create_interval_ms: int | None
    create_wait_s: float
    clock_offset_s: float | None
    visibility_lag_s: float
    bill_granularity_s: int
    power_off_stops_billing: bool


class ProvidersDocument(Document):
    providers: list[ProviderSummary]


class ProviderDocument(Document):
    provider: ProviderPart


class TriedPart(Part):
    call: str
    seconds: float
    found: str | None
    error: str | None


class TestDocument(Document):
    name: str
    works: bool
    calls: list[TriedPart]
    clock_offset_s: float | None


class QuotePart(Part):
    id: str
    instance_type: str
    zone: str
    capacity_type: CapacityType
    price_per_hour: Money
    currency: str


class QuoteDocument(Document):
    shape: str
    offer: QuotePart


class TrialDocument(Document):
    lease_id: str


def providers_document(lines: Iterable[CredentialLine]) -> ProvidersDocument:
    return ProvidersDocument(providers=[ProviderSummary.model_validate(line) for line in lines])


def provider_document(view: CredentialView) -> ProviderDocument:
    parts: dict[str, Any] = {
        **vars(view),
        "blocks": [_block(block, view.open_blocks) for block in view.blocks],
        "events": [_event(event) for event in view.events],
        "residue": [_residue(found) for found in view.residue],
        "boots": [
            BootsPart(
                instance_type=name,
                boots=times.boots,
                p50_s=times.p50.total_seconds(),
                p95_s=times.p95.total_seconds(),
            )
            for name, times in sorted(view.boots.items())
        ],
        "price_per_hour": [PricePart.model_validate(money) for money in view.price_per_hour],
        "look": None if view.look is None else LookPart.model_validate(view.look),
    }
    return ProviderDocument(provider=ProviderPart.model_validate(parts))


def test_document(view: TestView) -> TestDocument:
    return TestDocument(
        name=view.name,
        works=view.works,
        calls=[TriedPart.model_validate(call) for call in view.calls],
        clock_offset_s=view.clock_offset_s,
    )


def quote_document(offer: Offer, shape: Shape) -> QuoteDocument:
    return QuoteDocument(shape=shape.name, offer=QuotePart.model_validate(offer))


def _block(block: Block, standing: frozenset[tuple[str, Cause, str]]) -> BlockPart:
    parts = {**vars(block), "scope": block.scope, "open": block.key in standing}
    return BlockPart.model_validate({**parts, "strikes_to_open": block.rule.strikes})


def _event(event: BlockEvent) -> BlockEventPart:
    return BlockEventPart.model_validate(event)


def _residue(found: Found) -> ResiduePart:
    return ResiduePart.model_validate({**vars(found.left), "found_at": found.found_at, "removed_at": found.removed_at})
