"""What follows from a failure or a success for later purchases: which block it opens or closes."""

import logging
from datetime import datetime

from sqlalchemy import Connection

from broker.core.blocks import RULES, Block, Cause, Failure, Target, family_of, refused_credential
from broker.core.errors import (
    CredentialsRefused,
    InstanceNotFound,
    NoCapacity,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.leases import Lease
from broker.db import blocks
from broker.reconcile.world import World

log = logging.getLogger("broker.breakers")

_LOUD = frozenset({Cause.REFUSED, Cause.SALES_REFUSED, Cause.PROTECTED})
_OF_REFUSAL: tuple[tuple[type[ProviderError], Cause], ...] = (
    (NoCapacity, Cause.SOLD_OUT),
    (QuotaExceeded, Cause.QUOTA),
    (CredentialsRefused, Cause.SALES_REFUSED),
    (ProviderUnavailable, Cause.UNREACHABLE),
    (ProviderError, Cause.DECLINED),
)


def target_of(world: World, lease: Lease) -> Target:
    """What the lease's purchase touches."""
    shape = world.site.shapes.get(lease.shape)
    return Target(
        provider=lease.provider or "",
        offer_id=lease.offer_id,
        family=family_of(shape.accelerator) if shape is not None else None,
        machine=lease.machine,
        image=world.site.image,
    )


def purchase_refused(world: World, db: Connection, lease: Lease, exc: ProviderError, now: datetime) -> None:
    """The provider answered a purchase with no."""
    if isinstance(exc, (RateLimited, InstanceNotFound)):
        return  # its bucket pauses by itself; the other is no answer to a purchase
    cause = next(cause for kind, cause in _OF_REFUSAL if isinstance(exc, kind))
    what = f"{lease.instance_type} in {lease.zone}"
    reasons = {
        Cause.SOLD_OUT: f"{what} was sold out when it was tried",
        Cause.QUOTA: "the credential's quota is full",
        Cause.SALES_REFUSED: "the provider refuses the credential at a purchase",
        Cause.UNREACHABLE: "the provider cannot be reached",
        Cause.DECLINED: f"{what} was declined",
    }
    _fail(world, db, lease, cause, reasons[cause], str(exc), now)
    if cause is not Cause.UNREACHABLE:
        _told(blocks.spoke(db, target_of(world, lease), now))


def purchase_lost(world: World, db: Connection, lease: Lease, now: datetime) -> None:
    """No answer, and no machine came of it: others go first for a while. One that died with us is nobody's fault."""
    if lease.state_since < world.started_at:
        return
    reason = f"{lease.instance_type} in {lease.zone}: a purchase was not answered, and no machine came of it"
    _fail(world, db, lease, Cause.UNANSWERED, reason, lease.reason, now)


def purchased(world: World, db: Connection, lease: Lease, now: datetime) -> None:
    """The provider answered with a machine."""
    _told(blocks.succeeded(db, target_of(world, lease), now, by_boot=False))


def bad_boot(world: World, db: Connection, lease: Lease, reason: str, now: datetime, *, vanished: bool = False) -> None:
    """The machine did not become a node. `vanished`: the provider took it away, which says nothing of our image."""
    cause = Cause.BAD_BOOTS if lease.machine is None else Cause.BAD_MACHINE
    what = f"{lease.instance_type} in {lease.zone}" if lease.machine is None else f"machine {lease.machine}"
    _fail(world, db, lease, cause, f"{what}: {reason}", reason, now)
    if not vanished:
        _fail(
            world,
            db,
            lease,
            Cause.PROTECTED,
            "protected mode: machines with our image do not become nodes",
            reason,
            now,
        )


def good_boot(world: World, db: Connection, lease: Lease, now: datetime) -> None:
    """The machine became a node."""
    _told(blocks.succeeded(db, target_of(world, lease), now, by_boot=True))


def credential_refused(db: Connection, provider: str, exc: CredentialsRefused, now: datetime) -> None:
    """The provider refuses the credential at a call that buys nothing: nothing is bought until it takes it again."""
    _write(db, refused_credential(provider, str(exc)), now)


def credential_taken(db: Connection, provider: str, now: datetime) -> bool:
    """The provider takes the credential; whether it did not before."""
    closed = blocks.answered(db, provider, now)
    _told(closed)
    return bool(closed)


def _fail(
    world: World, db: Connection, lease: Lease, cause: Cause, reason: str, error: str | None, now: datetime
) -> None:
    target = target_of(world, lease)
    subject = target.subject(RULES[cause].scope)
    if subject is not None and target.provider:
        _write(db, Failure(cause=cause, provider=target.provider, subject=subject, reason=reason, error=error), now)


def _write(db: Connection, failure: Failure, now: datetime) -> None:
    block, opened = blocks.fail(db, failure, now)
    if not opened:
        return
    until = "until it is mended" if block.rule.by_word else f"until {block.until:%H:%M:%S} UTC"
    said = f"provider={block.provider} scope={block.scope} cause={block.cause} blocked {until}: {block.reason}"
    if block.cause in _LOUD:
        log.error("%s (%s); nothing is bought there; `broker provider show %s`", said, block.error, block.provider)
    else:
        log.info("%s (%s)", said, block.error)


def _told(closed: list[Block]) -> None:
    for block in closed:
        if block.strikes >= block.rule.strikes:
            log.info("provider=%s scope=%s cause=%s is bought again", block.provider, block.scope, block.cause)
