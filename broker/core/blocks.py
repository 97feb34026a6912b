"""What we do not buy for a while, and why: breakers of a credential, a GPU model, an offer, an image; blocked machines. Pure.

A block opens at a failure, or at the last of several in a row. When its time is over it is half open: one attempt, the
purchases of one job, is let through. Its success closes the block; its failure opens it anew, for twice as long.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from broker.core.offers import Offer


class Scope(StrEnum):
    CREDENTIAL = "credential"
    IMAGE = "image"
    """Whatever the credential sells, as long as our node bundle is this one."""
    FAMILY = "family"
    """All of the credential's offers with one GPU model, or all without a GPU."""
    OFFER = "offer"
    """An instance type in a zone, by capacity type."""
    MACHINE = "machine"
    """One physical machine of a marketplace."""


class Cause(StrEnum):
    PAUSED = "paused"
    REFUSED = "refused"
    SALES_REFUSED = "sales_refused"
    UNREACHABLE = "unreachable"
    QUOTA = "quota"
    SOLD_OUT = "sold_out"
    DECLINED = "declined"
    UNANSWERED = "unanswered"
    BAD_BOOTS = "bad_boots"
    BAD_MACHINE = "bad_machine"
    PROTECTED = "protected"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a cause blocks. `strikes`: so many failures in a row open it, for `first`, doubling to `longest`; it is
    forgotten when nothing happened for `forget` after that.

    `by_boot`: machines that boot or do not decide, else the provider's answer to a purchase. `by_word`: time does not
    open it half; somebody's word, or the provider's, ends it, and its time is that of the next question.
    """

    scope: Scope
    first: timedelta
    longest: timedelta
    forget: timedelta
    strikes: int = 1
    by_boot: bool = False
    by_word: bool = False


def _minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


# Too short a time buys the same failure again (a sold-out type, a host that lies); too long a one leaves capacity unused.
# docs/decisions/0010 says where each comes from.
RULES: dict[Cause, Rule] = {
    Cause.PAUSED: Rule(
        scope=Scope.CREDENTIAL, first=_minutes(0), longest=_minutes(0), forget=timedelta.max, by_word=True
    ),
    Cause.REFUSED: Rule(
        scope=Scope.CREDENTIAL, first=_minutes(1), longest=_minutes(60), forget=timedelta.max, by_word=True
    ),
    Cause.SALES_REFUSED: Rule(
        scope=Scope.CREDENTIAL, first=_minutes(10), longest=_minutes(60), forget=timedelta(days=1)
    ),
    Cause.UNREACHABLE: Rule(scope=Scope.CREDENTIAL, first=_minutes(0.05), longest=_minutes(1), forget=_minutes(10)),
    Cause.QUOTA: Rule(scope=Scope.FAMILY, first=_minutes(60), longest=_minutes(360), forget=timedelta(days=1)),
    Cause.SOLD_OUT: Rule(scope=Scope.OFFER, first=_minutes(1), longest=_minutes(4), forget=_minutes(60)),
    Cause.DECLINED: Rule(scope=Scope.OFFER, first=_minutes(2), longest=_minutes(360), forget=timedelta(days=1)),
    Cause.UNANSWERED: Rule(scope=Scope.OFFER, first=_minutes(1), longest=_minutes(10), forget=_minutes(60)),
    Cause.BAD_BOOTS: Rule(
        scope=Scope.OFFER, first=_minutes(15), longest=_minutes(360), forget=_minutes(120), strikes=3, by_boot=True
    ),
    Cause.BAD_MACHINE: Rule(
        scope=Scope.MACHINE,
        first=timedelta(days=1),
        longest=timedelta(days=30),
        forget=timedelta(days=60),
        by_boot=True,
    ),
    Cause.PROTECTED: Rule(
        scope=Scope.IMAGE, first=_minutes(10), longest=_minutes(120), forget=_minutes(360), strikes=5, by_boot=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one purchase touches. None: not known. `family`: the GPU model, or `cpu`."""

    provider: str
    offer_id: str | None = None
    family: str | None = None
    machine: str | None = None
    image: str | None = None

    def subject(self, scope: Scope) -> str | None:
        """Its name within the credential at that scope; the empty text is the credential itself."""
        match scope:
            case Scope.CREDENTIAL:
                return ""
            case Scope.IMAGE:
                return self.image
            case Scope.FAMILY:
                return self.family
            case Scope.OFFER:
                return self.offer_id
            case Scope.MACHINE:
                return self.machine


def family_of(accelerator: str | None) -> str:
    """The name of a family at `Scope.FAMILY`."""
    return accelerator or "cpu"


def target_of(offer: Offer, image: str) -> Target:
    """What a purchase of `offer` touches, with our node bundle `image`."""
    return Target(
        provider=offer.provider,
        offer_id=offer.id,
        family=family_of(offer.hardware.accelerator),
        machine=offer.machine,
        image=image,
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Something failed at `provider`. `subject`: as of `Target.subject` at the cause's scope; `error`: as it was raised."""

    cause: Cause
    provider: str
    subject: str
    reason: str
    error: str | None = None
    by: str | None = None
    """The person who paused it."""


def refused_credential(provider: str, error: str) -> Failure:
    """The provider refuses the credential at a call that buys nothing."""
    return Failure(
        cause=Cause.REFUSED, provider=provider, subject="", reason="the provider refuses the credential", error=error
    )


@dataclass(frozen=True, kw_only=True)
class Block:
    """`since`: the first failure in a row, `at` the last. `until` None: as long as it stands.

    `trying`: the lease of the attempt that was let through and is not decided; `trying_job`: its job.
    """

    cause: Cause
    provider: str
    subject: str
    reason: str
    error: str | None
    since: datetime
    at: datetime
    until: datetime | None
    strikes: int
    by: str | None = None
    trying: str | None = None
    trying_job: int | None = None

    @property
    def rule(self) -> Rule:
        return RULES[self.cause]

    @property
    def scope(self) -> Scope:
        return self.rule.scope

    @property
    def key(self) -> tuple[str, Cause, str]:
        return self.provider, self.cause, self.subject

    def is_open(self, now: datetime) -> bool:
        """Nothing is bought."""
        if self.strikes < self.rule.strikes:
            return False
        return self.rule.by_word or (self.until is not None and self.until > now)

    def is_half_open(self, now: datetime) -> bool:
        """One attempt may be made, or is made."""
        return self.strikes >= self.rule.strikes and not self.is_open(now)

    def closes_all(self, image: str) -> bool:
        """It is about everything that the credential sells."""
        return self.scope is Scope.CREDENTIAL or (self.scope is Scope.IMAGE and self.subject == image)

    def is_forgotten(self, now: datetime) -> bool:
        """So long ago that it tells nothing any more."""
        return self.rule.forget < timedelta.max and now - max(self.at, self.until or self.at) > self.rule.forget


def after_failure(before: Block | None, failure: Failure, now: datetime) -> Block:
    """The block after one more failure; `before` itself when that changes nothing.

    While it is open only what was under way can fail: that tells nothing new, or a burst of a thousand refusals would
    count a thousand times.
    """
    rule = RULES[failure.cause]
    if before is not None and before.is_open(now) and before.until is not None and before.until > now:
        return before
    fresh = before is None or before.is_forgotten(now)
    strikes = 1 if before is None or fresh else before.strikes + 1
    if failure.cause is Cause.PAUSED:
        until = None
    elif strikes < rule.strikes:
        until = now
    else:
        doublings = min(strikes - rule.strikes, 20)
        until = now + min(rule.first * 2**doublings, rule.longest)
    return Block(
        cause=failure.cause,
        provider=failure.provider,
        subject=failure.subject,
        reason=failure.reason,
        error=failure.error,
        since=now if before is None or fresh else before.since,
        at=now,
        until=until,
        strikes=strikes,
        by=failure.by,
    )


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why an offer is not bought now. `words` are shared by many offers, so that they can be counted.

    `until`: when that is over; None: when a word or another attempt ends it. `soon`: worth waiting for, in seconds.
    """

    words: str
    until: datetime | None
    soon: bool


class Blocks:
    """What stands at one moment, for quick questions about many offers. `image`: the id of our node bundle.

    `job_id`: an attempt that was let through for this job is no obstacle to its other nodes.
    """

    def __init__(self, standing: Iterable[Block], now: datetime, image: str, job_id: int | None = None) -> None:
        self._now = now
        self._image = image
        self._job_id = job_id
        self._standing = [
            block
            for block in standing
            if block.is_open(now) or (block.is_half_open(now) and not block.is_forgotten(now))
        ]
        self._providers = {block.provider for block in self._standing}
        self._by_key: dict[tuple[str, Scope, str], list[Block]] = {}
        for block in self._standing:
            self._by_key.setdefault((block.provider, block.scope, block.subject), []).append(block)

    @property
    def trying_jobs(self) -> frozenset[int]:
        """Jobs for which an attempt was let through."""
        return frozenset(block.trying_job for block in self._standing if block.trying_job is not None)

    def of_job(self, job_id: int | None) -> "Blocks":
        """The same, as that job sees it."""
        return self if job_id == self._job_id else Blocks(self._standing, self._now, self._image, job_id)

    def closed_credentials(self) -> dict[str, str]:
        """Credential → why nothing at all is bought with it now."""
        closed = [block for block in self._standing if block.is_open(self._now) and block.closes_all(self._image)]
        return {block.provider: told(block) for block in sorted(closed, key=lambda block: block.at)}

    def in_words(self) -> list[str]:
        """What is left alone now, each cause once, with how many it covers and when the first of them is tried again."""
        shut: dict[str, list[Block]] = {}
        for block in self._standing:
            if block.is_open(self._now):
                shut.setdefault(_words(block), []).append(block)
        lines = []
        for words, those in shut.items():
            ends = [block.until for block in those if block.until is not None and not block.rule.by_word]
            again = f" (again from {min(ends):%H:%M:%S} UTC)" if ends else ""
            one_of_many = those[0].scope in {Scope.OFFER, Scope.MACHINE}
            lines.append(f"{len(those)} × {words}{again}" if one_of_many else f"{words}{again}")
        return sorted(lines)

    def stop(self, offer: Offer) -> Stop | None:
        """Why `offer` is not bought now; None: nothing stands against it."""
        if offer.provider not in self._providers:
            return None
        return self.stop_at(target_of(offer, self._image))

    def stop_at(self, target: Target, lease_id: str | None = None) -> Stop | None:
        """The same of anything that a purchase would touch; `lease_id`: of the purchase that asks, once it has one."""
        stops = [stop for block in self._covering(target) if (stop := self._stop(block, lease_id)) is not None]
        # The one that stands longest says when to come back.
        return max(stops, key=lambda stop: stop.until or _EVER, default=None)

    def to_try(self, target: Target) -> list[Block]:
        """Half-open blocks which a purchase there tries, and must claim first."""
        return [block for block in self._covering(target) if block.is_half_open(self._now) and block.trying is None]

    def _covering(self, target: Target) -> Iterable[Block]:
        for scope in Scope:
            subject = target.subject(scope)
            if subject is not None:
                yield from self._by_key.get((target.provider, scope, subject), ())

    def _stop(self, block: Block, lease_id: str | None) -> Stop | None:
        if block.is_open(self._now):
            # Nobody knows when a word comes.
            until = None if block.rule.by_word else block.until
            return Stop(words=_words(block), until=until, soon=block.cause is Cause.UNREACHABLE)
        ours = block.trying == lease_id or (block.trying_job is not None and block.trying_job == self._job_id)
        if block.trying is not None and not ours:
            return Stop(words=f"{_words(block)}; one attempt is being made", until=None, soon=not block.rule.by_boot)
        return None


def told(block: Block) -> str:
    """The block in words, with its end, for operators."""
    if block.cause is Cause.PAUSED:
        return f"paused by {block.by}: {block.reason}"
    if block.until is None or block.rule.by_word:
        return block.reason
    return f"{block.reason}; tried again from {block.until:%H:%M:%S} UTC"


_EVER = datetime.max.replace(tzinfo=UTC)


def _words(block: Block) -> str:
    """Shared by all offers that the block covers; sold-out ones of all zones share one, too."""
    name = block.provider
    match block.cause:
        case Cause.PAUSED:
            return f"{name} is paused by {block.by}: {block.reason}"
        case Cause.REFUSED:
            return f"{name} refuses our credential: an operator must mend it"
        case Cause.SALES_REFUSED:
            return f"{name} refuses to sell to our account: an operator must look"
        case Cause.UNREACHABLE:
            return f"{name} does not answer"
        case Cause.QUOTA:
            return f"{name}'s quota is full"
        case Cause.SOLD_OUT:
            return "sold out when it was tried"
        case Cause.DECLINED:
            return "declined when it was tried"
        case Cause.UNANSWERED:
            return "not answered when it was tried"
        case Cause.BAD_BOOTS:
            return f"its last {block.strikes} machines did not become nodes"
        case Cause.BAD_MACHINE:
            return "its machine failed before"
        case Cause.PROTECTED:
            return f"{name} is in protected mode: its last {block.strikes} machines did not become nodes"
