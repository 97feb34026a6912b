"""The API's operations over plain dicts, for tests of what stands in front of them."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from factories import NOON, a_lease, a_shape, an_offer

from broker.catalog.accelerators import of_model
from broker.catalog.energy import energy_of
from broker.catalog.zones import locate
from broker.core.blocks import Block, Cause
from broker.core.demand import Shape
from broker.core.errors import NotFound, Refused
from broker.core.leases import LeaseEvent, LeaseState
from broker.core.observations import Look
from broker.core.offers import Offer
from broker.core.usage import CostBounds, UsageEvent, UsageKind
from broker.db import looks
from broker.db.blocks import BlockEvent
from broker.db.boots import BootTimes
from broker.db.residue import Found, Left
from broker.placement.chances import Model
from broker.placement.planner import score
from broker.services.credentials import CredentialLine, CredentialView, Money, Standing, TestView, Tried
from broker.services.market import OfferLine, OffersView, Question
from broker.services.views import LeaseView, NodeAccess, Status, StepRecord, Why


def a_view(cost: CostBounds | None = None, **changes: Any) -> LeaseView:
    lease = a_lease(**changes)
    event = LeaseEvent(
        lease_id=lease.id, was=None, became=LeaseState.REQUESTED, reason="Slurm asked for it", at=lease.created_at
    )
    return LeaseView(
        lease=lease,
        events=(event,),
        steps=(StepRecord(name="bundle", finished_at=NOON + timedelta(seconds=40), seconds=3.25),),
        usage=(
            UsageEvent(
                lease_id=lease.id,
                kind=UsageKind.START,
                not_before=NOON,
                not_after=NOON + timedelta(seconds=2),
                price_per_hour=Decimal("2.49"),
                currency="USD",
            ),
        ),
        cost=cost,
    )


A_CREDENTIAL = CredentialLine(
    name="lambda-a",
    kind="lambda",
    trusted=True,
    state=Standing.SUSPENDED,
    reason="the provider refuses the credential",
    error="invalid-api-key \x1b[31m",
    until=None,
    offers=12,
    offers_available=3,
    offers_read_at=NOON,
    machines=2,
    price_per_hour=(Money(amount=Decimal("8.58"), currency="USD"),),
    look=looks.Look(provider="lambda-a", at=NOON, error=None, seconds=0.2),
)


class MemoryCredentials:
    """One credential; `fails` of a test call."""

    def __init__(self, owner: "MemoryOperations") -> None:
        self._owner = owner
        self.line = A_CREDENTIAL
        self.call_fails: str | None = None

    def lines(self) -> list[CredentialLine]:
        self._owner._maybe_fail()
        return [self.line]

    def view(self, name: str) -> CredentialView:
        self._known(name)
        block = Block(
            cause=Cause.REFUSED,
            provider=name,
            subject="",
            reason="the provider refuses the credential",
            error="invalid-api-key",
            since=NOON,
            at=NOON,
            until=NOON,
            strikes=1,
        )
        event = BlockEvent(
            at=NOON, what="opened", cause=Cause.REFUSED, subject="", reason=block.reason, error=block.error, by=None
        )
        left = Left(provider=name, kind="instance", thing="i-1", label="broker-demo-l0-e1", said="no living lease")
        return CredentialView(
            **vars(self.line),
            blocks=(block,),
            open_blocks=frozenset({block.key}),
            events=(event,),
            residue=(Found(left=left, found_at=NOON, removed_at=None),),
            boots={"gpu_1x_a10": BootTimes(p50=timedelta(seconds=200), p95=timedelta(seconds=400), boots=9)},
            call_interval_ms=None,
            create_interval_ms=12000,
            create_wait_s=0.0,
            clock_offset_s=-3.0,
            visibility_lag_s=20.0,
            bill_granularity_s=60,
            power_off_stops_billing=False,
        )

    def test(self, name: str) -> TestView:
        self._known(name)
        call = Tried(
            call="instances", seconds=0.25, found=None if self.call_fails else "0 of ours", error=self.call_fails
        )
        return TestView(name=name, calls=(call,), clock_offset_s=0.0)

    def quote(self, name: str, max_price: Decimal, gpu: str | None) -> tuple[Offer, Shape]:
        self._known(name)
        if max_price < Decimal("4.29"):
            raise Refused("the cheapest offer costs 4.29")
        return an_offer(), a_shape()

    def buy_for_test(self, name: str, offer_id: str, max_price: Decimal, actor: str) -> str:
        self._owner.actors.append(actor)
        return "l0000000009"

    def pause(self, name: str, reason: str, actor: str) -> CredentialLine:
        self._known(name)
        self._owner.actors.append(actor)
        self.line = replace(self.line, state=Standing.PAUSED, reason=f"paused by {actor}: {reason}")
        return self.line

    def resume(self, name: str, actor: str) -> CredentialLine:
        self._known(name)
        self._owner.actors.append(actor)
        self.line = replace(self.line, state=Standing.OK, reason=None, error=None)
        return self.line

    def _known(self, name: str) -> None:
        self._owner._maybe_fail()
        if name != self.line.name:
            raise NotFound(f"the configuration has no [provider.{name}]; it has lambda-a")


class MemoryOperations:
    """`fails` makes every call raise it."""

    def __init__(self) -> None:
        self.known: dict[str, LeaseView] = {}
        self.offered: list[Offer] = []
        self.looks: list[Look] = []
        self.unfit: dict[str, str] = {}
        self.questions: list[Question] = []
        self.stories: dict[str, Why] = {}
        self.logs: dict[tuple[str, str], str] = {}
        self.access: dict[str, NodeAccess] = {}
        self.paused: str | None = None
        self.actors: list[str] = []
        self.fails: Exception | None = None
        self.credentials = MemoryCredentials(self)

    def add(self, *views: LeaseView) -> None:
        self.known |= {view.lease.id: view for view in views}

    def offers(self, question: Question) -> OffersView:
        self._maybe_fail()
        self.questions.append(question)
        asked = [
            offer
            for offer in self.offered
            if question.gpu in {None, offer.hardware.accelerator} and (offer.available or not question.available)
        ]
        lines = [self._line(offer) for offer in sorted(asked, key=lambda offer: (offer.price_per_hour, offer.id))]
        return OffersView(lines=tuple(lines), looks=tuple(self.looks))

    def _line(self, offer: Offer) -> OfferLine:
        chance = Model().chance(offer, offer.observed_at)
        return OfferLine(
            offer=offer,
            chance=chance,
            score=score(offer, chance.p),
            boot=None,
            energy=energy_of(offer.hardware, offer.instance_type),
            location=locate(offer.kind, offer.zone),
            gpu=of_model(offer.hardware.accelerator or "", offer.hardware.accelerator_memory_gib),
            unfit=self.unfit.get(offer.id),
        )

    def leases(self, include_released: bool, node: str | None) -> list[LeaseView]:
        self._maybe_fail()
        return [
            view
            for view in self.known.values()
            if (include_released or view.lease.state != LeaseState.RELEASED) and node in {None, view.lease.node}
        ]

    def lease(self, lease_id: str) -> LeaseView:
        self._maybe_fail()
        if lease_id not in self.known:
            raise NotFound(f"there is no lease {lease_id}; `broker lease list --all` lists them")
        return self.known[lease_id]

    def release(self, lease_id: str, reason: str, actor: str) -> LeaseView:
        view = self.lease(lease_id)
        self.actors.append(actor)
        self.known[lease_id] = replace(
            view, lease=replace(view.lease, state=LeaseState.RELEASING, reason=reason, version=view.lease.version + 1)
        )
        return self.known[lease_id]

    def log(self, lease_id: str, which: str) -> str:
        self.lease(lease_id)
        return self.logs.get((lease_id, which), "")

    def why(self, target: str) -> Why:
        self._maybe_fail()
        if target not in self.stories:
            raise NotFound(f"Slurm and the ledger know nothing of {target}; check the number with `squeue`")
        return self.stories[target]

    def pause(self, reason: str, actor: str) -> Status:
        self._maybe_fail()
        self.actors.append(actor)
        self.paused = reason
        return self.status()

    def resume(self, actor: str) -> Status:
        self.actors.append(actor)
        self.paused = None
        return self.status()

    def status(self) -> Status:
        self._maybe_fail()
        return Status(
            version="0.1.0",
            cluster="demo",
            slurm="commands, as configured",
            paused=self.paused,
            living_leases=len(self.leases(include_released=False, node=None)),
            activities={"launch": (NOON, None), "sweep": (None, "lambda-a: HTTP 500")},
            providers={"lambda-a": "ok", "lambda-b": "the key was refused"},
        )

    def node_access(self, node: str) -> NodeAccess:
        self._maybe_fail()
        if node not in self.access:
            raise NotFound(f"no machine stands behind {node} now")
        return self.access[node]

    def _maybe_fail(self) -> None:
        if self.fails is not None:
            raise self.fails
