"""The credentials: how each stands, what is blocked there and why, a look that buys nothing; pause and resume."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Connection, Engine

from broker.catalog.accelerators import canonical, names
from broker.config.settings import ProviderSettings
from broker.core.blocks import Block, Cause, refused_credential, told
from broker.core.demand import Limits, Request, Shape, Wishes
from broker.core.errors import BrokerError, CredentialsRefused, NotFound, Refused
from broker.core.leases import Lease, lease_of_label
from broker.core.offers import Offer
from broker.db import blocks, boots, leases, looks, offers, residue
from broker.db.blocks import BlockEvent
from broker.db.boots import BootTimes
from broker.db.engine import reading
from broker.db.looks import Look
from broker.db.residue import Found
from broker.placement.planner import plan
from broker.providers.base import Provider
from broker.services.clocks import Clocks

log = logging.getLogger("broker.credentials")

_EVENTS = 40
_RESIDUE = 40


class Standing(StrEnum):
    OK = "ok"
    SUSPENDED = "suspended"
    PROTECTED = "protected"
    PAUSED = "paused"


@dataclass(frozen=True, kw_only=True)
class Money:
    """An amount an hour in one currency."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, kw_only=True)
class CredentialLine:
    """One credential. `reason`, `until`: why nothing is bought with it, and when it is tried again if time decides that."""

    name: str
    kind: str
    trusted: bool
    state: Standing
    reason: str | None
    error: str | None
    until: datetime | None
    offers: int
    offers_available: int
    offers_read_at: datetime | None
    machines: int
    price_per_hour: tuple[Money, ...]
    look: Look | None


@dataclass(frozen=True, kw_only=True)
class CredentialView(CredentialLine):
    """A credential in full. `blocks`: standing ones and strikes; intervals None: as the provider publishes."""

    blocks: tuple[Block, ...]
    open_blocks: frozenset[tuple[str, Cause, str]]
    events: tuple[BlockEvent, ...]
    residue: tuple[Found, ...]
    boots: Mapping[str, BootTimes]
    """By instance type."""
    call_interval_ms: int | None
    create_interval_ms: int | None
    create_wait_s: float
    clock_offset_s: float | None
    visibility_lag_s: float
    bill_granularity_s: int
    power_off_stops_billing: bool


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One call that buys nothing: what it found, or why it failed."""

    call: str
    seconds: float
    found: str | None
    error: str | None
    is_refusal: bool = False


@dataclass(frozen=True, kw_only=True)
class TestView:
    """A look at the credential now. `clock_offset_s`: this host's clock ahead of the provider's; None: it told no time."""

    name: str
    calls: tuple[Tried, ...]
    clock_offset_s: float | None

    @property
    def works(self) -> bool:
        return all(call.error is None for call in self.calls)


BeginTrial = Callable[[Offer, Shape, Decimal, str], str]
"""From the offer, the shape to accept it as, the highest price an hour and who asked to the id of the test's lease."""


class Credentials:
    """`providers` and `settings` by the credential's name."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Callable[[], datetime],
        cluster: str,
        image: str,
        shapes: Mapping[str, Shape],
        limits: Limits,
        cpu_arch: str,
        providers: Mapping[str, Provider],
        settings: Mapping[str, ProviderSettings],
        clocks: Clocks,
        begin_trial: BeginTrial,
        nudge: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._cluster = cluster
        self._image = image
        self._shapes = shapes
        self._limits = limits
        self._cpu_arch = cpu_arch
        self._providers = providers
        self._settings = settings
        self._clocks = clocks
        self._begin_trial = begin_trial
        self._nudge = nudge

    def lines(self) -> list[CredentialLine]:
        """Every credential of the configuration, by name."""
        with reading(self._engine) as db:
            return self._lines(db)

    def view(self, name: str) -> CredentialView:
        """NotFound: the configuration has no such credential."""
        provider, settings = self._known(name), self._settings[name]
        now = self._clock()
        with reading(self._engine) as db:
            line = next(line for line in self._lines(db) if line.name == name)
            standing = [b for b in blocks.current(db, name) if b.is_open(now) or not b.is_forgotten(now)]
            took = {kind: times for (who, kind), times in boots.times(db).items() if who == name}
            return CredentialView(
                **vars(line),
                blocks=tuple(standing),
                open_blocks=frozenset(block.key for block in standing if block.is_open(now)),
                events=tuple(blocks.events(db, name, _EVENTS)),
                residue=tuple(residue.latest(db, name, _RESIDUE)),
                boots=took,
                call_interval_ms=settings.call_interval_ms,
                create_interval_ms=settings.create_interval_ms,
                create_wait_s=provider.create_wait_seconds(),
                clock_offset_s=self._clocks.offset_s(name),
                visibility_lag_s=provider.visibility_lag_seconds,
                bill_granularity_s=provider.bill_granularity_seconds,
                power_off_stops_billing=provider.power_off_stops_billing,
            )

    def test(self, name: str) -> TestView:
        """Ask the provider what it sells and what lives there, now; nothing is bought. NotFound."""
        provider = self._known(name)

        def instances() -> str:
            seen = provider.instances()
            ours = sum(lease_of_label(self._cluster, each.label) is not None for each in seen)
            return f"{ours} machines of ours, {len(seen) - ours} of others"

        def sold() -> str:
            read = provider.offers()
            available = sum(offer.available for offer in read.offers)
            said = f"{len(read.offers)} offers, {available} to be had now"
            left = ", ".join(f"{count} × {reason}" for reason, count in read.reasons()[:3])
            return said + (f"; left out: {left}" if left else "")

        calls = (_tried("instances", instances), _tried("offers", sold))
        self._keep(name, calls)
        return TestView(name=name, calls=calls, clock_offset_s=self._clocks.offset_s(name))

    def _keep(self, name: str, calls: Sequence[Tried]) -> None:
        """A look like the hourly one: it suspends the credential, or ends that."""
        now, asked = self._clock(), calls[0]
        refused = next((call.error for call in calls if call.is_refusal), None)
        with self._engine.begin() as db:
            looks.record(db, Look(provider=name, at=now, error=asked.error, seconds=asked.seconds))
            if refused is not None:
                blocks.fail(db, refused_credential(name, refused), now)
                log.error("provider=%s refuses our credential: %s", name, refused)
            elif all(call.error is None for call in calls) and blocks.answered(db, name, now):
                log.info("provider=%s takes our credential again", name)
        self._nudge()

    def quote(self, name: str, max_price: Decimal, gpu: str | None) -> tuple[Offer, Shape]:
        """What a test purchase would buy: the cheapest offer to be had that fits one of our shapes, and that shape.

        NotFound; Refused: nothing at that price.
        """
        model = canonical(gpu) if gpu is not None else None
        if gpu is not None and model is None:
            raise BrokerError(f"no GPU model is called {gpu!r}; known: {', '.join(names())}")
        fitting = self._fitting(name, model, None)
        if not fitting:
            what = f" with {model}" if model else ""
            raise Refused(
                f"{name} has no offer{what} to be had now that fits a [[shape]] and [limits]; `broker offers --shape NAME` "
                "says why"
            )
        offer, shape = fitting[0]
        if offer.price_per_hour > max_price:
            raise Refused(
                f"the cheapest fitting offer of {name} is {offer.instance_type} in {offer.zone} at {offer.price_per_hour} "
                f"{offer.currency}/h, more than {max_price}"
            )
        return offer, shape

    def buy_for_test(self, name: str, offer_id: str, max_price: Decimal, actor: str) -> str:
        """Buy the quoted offer, look whether it is what was sold, and give it back; the id of its lease.

        Returns at once. NotFound; Refused: it is no more on sale, or dearer, or a limit would be passed.
        """
        fitting = self._fitting(name, None, offer_id)
        if not fitting:
            raise Refused(f"{offer_id} is no more on sale; ask for another quote")
        offer, shape = fitting[0]
        return self._begin_trial(offer, shape, max_price, actor)

    def _fitting(self, name: str, model: str | None, offer_id: str | None) -> list[tuple[Offer, Shape]]:
        """Offers that some shape of ours could be bought from, cheapest first; trust and blocks aside."""
        self._known(name)
        with reading(self._engine) as db:
            on_sale = [o for o in offers.current(db, model, name) if offer_id is None or o.id == offer_id]
        found = []
        for shape in self._shapes.values():
            request = Request(shape=shape, wishes=Wishes(spot="yes"), cpu_arch=self._cpu_arch)
            ranked = plan(request, on_sale, self._limits, frozenset({name}))
            found += [(offer, shape) for offer in ranked.offers]
        return sorted(found, key=lambda each: (each[0].price_per_hour, each[0].id, each[1].name))

    def pause(self, name: str, reason: str, actor: str) -> CredentialLine:
        """Buy nothing with the credential until `resume`; its machines stay. NotFound."""
        self._known(name)
        with self._engine.begin() as db:
            blocks.pause(db, name, reason, actor, self._clock())
        log.warning("provider=%s paused by=%s: %s", name, actor, reason)
        return self._line(name)

    def resume(self, name: str, actor: str) -> CredentialLine:
        """Buy with it again now: all that is left alone there is tried again, but for machines that lied. NotFound."""
        self._known(name)
        with self._engine.begin() as db:
            closed = blocks.resume(db, name, actor, self._clock())
        log.warning("provider=%s resumed by=%s: %s", name, actor, ", ".join(b.cause for b in closed) or "nothing stood")
        self._nudge()
        return self._line(name)

    def _known(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound(f"the configuration has no [provider.{name}]; it has {', '.join(sorted(self._providers))}")
        return provider

    def _line(self, name: str) -> CredentialLine:
        return next(line for line in self.lines() if line.name == name)

    def _lines(self, db: Connection) -> list[CredentialLine]:
        now = self._clock()
        standing, looked = blocks.current(db), looks.latest(db)
        on_sale: dict[str, list[Offer]] = defaultdict(list)
        for offer in offers.current(db):
            on_sale[offer.provider].append(offer)
        living: dict[str, list[Lease]] = defaultdict(list)
        for lease in leases.living(db):
            if lease.provider is not None and lease.label is not None:
                living[lease.provider].append(lease)
        return [
            self._of(
                name, [b for b in standing if b.provider == name], on_sale[name], living[name], looked.get(name), now
            )
            for name in sorted(self._providers)
        ]

    def _of(
        self,
        name: str,
        standing: list[Block],
        on_sale: list[Offer],
        living: list[Lease],
        look: Look | None,
        now: datetime,
    ) -> CredentialLine:
        shut = [block for block in standing if block.is_open(now) and block.closes_all(self._image)]
        worst = min(shut, key=lambda block: _GRAVEST.index(block.cause), default=None)
        rates: dict[str, Decimal] = defaultdict(Decimal)
        for lease in living:
            if lease.price_per_hour is not None:
                rates[lease.currency or ""] += lease.price_per_hour
        return CredentialLine(
            name=name,
            kind=self._settings[name].kind,
            trusted=self._settings[name].trusted,
            state=_standing(worst),
            reason=told(worst) if worst is not None else None,
            error=worst.error if worst is not None else None,
            until=worst.until if worst is not None and not worst.rule.by_word else None,
            offers=len(on_sale),
            offers_available=sum(offer.available for offer in on_sale),
            offers_read_at=max((offer.observed_at for offer in on_sale), default=None),
            machines=len(living),
            price_per_hour=tuple(Money(amount=amount, currency=each) for each, amount in sorted(rates.items())),
            look=look,
        )


# What a person did comes first, then what only a person can mend, then what time may.
_GRAVEST = [Cause.PAUSED, Cause.REFUSED, Cause.SALES_REFUSED, Cause.PROTECTED, Cause.UNREACHABLE]


def _standing(worst: Block | None) -> Standing:
    if worst is None:
        return Standing.OK
    return {Cause.PAUSED: Standing.PAUSED, Cause.PROTECTED: Standing.PROTECTED}.get(worst.cause, Standing.SUSPENDED)


def _tried(call: str, ask: Callable[[], str]) -> Tried:
    began = time.monotonic()
    found: str | None = None
    error: BrokerError | None = None
    try:
        found = ask()
    except BrokerError as exc:
        error = exc
    return Tried(
        call=call,
        seconds=time.monotonic() - began,
        found=found,
        error=None if error is None else str(error),
        is_refusal=isinstance(error, CredentialsRefused),
    )
