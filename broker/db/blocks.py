"""Breakers and blocked machines as the ledger keeps them, with the history of what opened and closed them.

`core/blocks.py` has the rules. An attempt that a half-open block lets through is claimed in the transaction that allots or
buys it; the claim holds for as long as its lease is on its way to a decision, so one that is given up frees it by itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from broker.core.blocks import RULES, Block, Blocks, Cause, Failure, Scope, Target, after_failure
from broker.core.leases import LeaseState
from broker.db.put import put
from broker.db.schema import block_events, blocks, leases

_KEPT = timedelta(days=90)


@dataclass(frozen=True, kw_only=True)
class BlockEvent:
    """One line of the history: `what` is struck, opened, tried, closed."""

    at: datetime
    what: str
    cause: Cause
    subject: str
    reason: str
    error: str | None
    by: str | None


def current(db: Connection, provider: str | None = None) -> list[Block]:
    """Every block and every strike that counts towards one; of one credential or of all."""
    query = (
        select(
            blocks,
            leases.c.state,
            leases.c.job_id,
            leases.c.offer_id,
            leases.c.machine,
            leases.c.provider.label("lease_provider"),
        )
        .join(leases, leases.c.id == blocks.c.trying, isouter=True)
        .order_by(blocks.c.provider, blocks.c.at, blocks.c.cause, blocks.c.subject)
    )
    if provider is not None:
        query = query.where(blocks.c.provider == provider)
    return [_block(row, is_tried=_is_undecided(row), job_id=row.job_id) for row in db.execute(query)]


def view(db: Connection, now: datetime, image: str, job_id: int | None = None) -> Blocks:
    """What stands now, for questions about offers."""
    return Blocks(current(db), now, image, job_id)


def fail(db: Connection, failure: Failure, now: datetime) -> tuple[Block, bool]:
    """Count a failure. The block after it, and whether it opened by this (anew)."""
    key = (blocks.c.provider == failure.provider, blocks.c.cause == failure.cause, blocks.c.subject == failure.subject)
    first = {"provider": failure.provider, "cause": failure.cause, "subject": failure.subject}
    # Two workers may fail at once: whoever comes second waits here, and counts on.
    put(db, blocks, first | {"reason": failure.reason, "since": now, "at": now, "strikes": 0})
    row = db.execute(select(blocks).where(*key).with_for_update()).one()
    before = _block(row, is_tried=False, job_id=None) if row.strikes else None
    after = after_failure(before, failure, now)
    if after is before:
        return after, False
    db.execute(
        update(blocks)
        .where(*key)
        .values(
            reason=after.reason,
            error=after.error,
            since=after.since,
            at=after.at,
            until=after.until,
            strikes=after.strikes,
            by=after.by,
            trying=None,
        )
    )
    stood = before is not None and before.is_open(now)
    opened = after.is_open(now) and not stood
    if not stood or before is None or before.reason != after.reason:
        _note(db, after, "opened" if after.is_open(now) else "struck", after.reason, now, after.error, after.by)
    return after, opened


def claim(db: Connection, tried: Iterable[Block], lease_id: str, now: datetime) -> None:
    """The lease's purchase is the one attempt that these half-open blocks let through."""
    for block in tried:
        _update(db, block, trying=lease_id)
        _note(db, block, "tried", f"one attempt is let through: lease {lease_id}", now)


def succeeded(db: Connection, target: Target, now: datetime, *, by_boot: bool) -> list[Block]:
    """A purchase was answered with a machine (`by_boot`: the machine became a node): close what that refutes."""
    refuted = [
        block
        for block in _rows(db, target.provider)
        if block.rule.by_boot is by_boot
        and block.cause not in {Cause.PAUSED, Cause.REFUSED}
        and target.subject(block.scope) == block.subject
    ]
    for block in refuted:
        close(db, block, "a machine became a node" if by_boot else "a purchase was answered with a machine", now)
    return refuted


def spoke(db: Connection, target: Target, now: datetime) -> list[Block]:
    """The provider answered a purchase, whatever it said: silences are over."""
    silences = {Cause.UNREACHABLE, Cause.UNANSWERED}
    refuted = [
        block
        for block in _rows(db, target.provider)
        if block.cause in silences and target.subject(block.scope) == block.subject
    ]
    for block in refuted:
        close(db, block, "the provider answers again", now)
    return refuted


def answered(db: Connection, provider: str, now: datetime) -> list[Block]:
    """The provider took the credential at a call that buys nothing."""
    refuted = [block for block in _rows(db, provider) if block.cause is Cause.REFUSED]
    for block in refuted:
        close(db, block, "the provider takes the credential again", now)
    return refuted


def close(db: Connection, block: Block, why: str, now: datetime, by: str | None = None) -> None:
    """The block is no more."""
    provider, cause, subject = block.key
    db.execute(
        delete(blocks).where(blocks.c.provider == provider, blocks.c.cause == cause, blocks.c.subject == subject)
    )
    _note(db, block, "closed", why, now, by=by)


def pause(db: Connection, provider: str, reason: str, by: str, now: datetime) -> None:
    """A person stops buying with the credential until `resume`."""
    fail(db, Failure(cause=Cause.PAUSED, provider=provider, subject="", reason=reason, by=by), now)


def resume(db: Connection, provider: str, by: str, now: datetime) -> list[Block]:
    """A person lets the credential buy again at once: all that stands there is taken away, but for machines that lied."""
    ended = [block for block in _rows(db, provider) if block.scope is not Scope.MACHINE]
    for block in ended:
        close(db, block, f"resumed by {by}", now, by)
    return ended


def events(db: Connection, provider: str, limit: int) -> Sequence[BlockEvent]:
    """What opened and closed blocks of the credential, newest first."""
    query = select(block_events).where(block_events.c.provider == provider).order_by(block_events.c.id.desc())
    return [
        BlockEvent(
            at=row.at,
            what=row.what,
            cause=Cause(row.cause),
            subject=row.subject,
            reason=row.reason,
            error=row.error,
            by=row.by,
        )
        for row in db.execute(query.limit(limit))
    ]


def forget(db: Connection, now: datetime) -> None:
    """Take away what tells nothing any more."""
    for block in current(db):
        if block.is_forgotten(now) and block.trying is None:
            provider, cause, subject = block.key
            db.execute(
                delete(blocks).where(
                    blocks.c.provider == provider,
                    blocks.c.cause == cause,
                    blocks.c.subject == subject,
                    blocks.c.at == block.at,
                )
            )
    db.execute(delete(block_events).where(block_events.c.at < now - _KEPT))


def _rows(db: Connection, provider: str) -> list[Block]:
    query = select(blocks).where(blocks.c.provider == provider)
    return [_block(row, is_tried=False, job_id=None) for row in db.execute(query)]


def _update(db: Connection, block: Block, **values: Any) -> None:
    provider, cause, subject = block.key
    db.execute(
        update(blocks)
        .where(blocks.c.provider == provider, blocks.c.cause == cause, blocks.c.subject == subject)
        .values(values)
    )


def _note(
    db: Connection,
    block: Block,
    what: str,
    reason: str,
    now: datetime,
    error: str | None = None,
    by: str | None = None,
) -> None:
    provider, cause, subject = block.key
    row = {"provider": provider, "cause": cause, "subject": subject, "what": what}
    db.execute(insert(block_events).values(row | {"reason": reason, "error": error, "by": by, "at": now}))


def _is_undecided(row: Row[Any]) -> bool:
    """Whether the lease that the block let through is still on its way to an answer."""
    if row.trying is None or row.lease_provider != row.provider or row.offer_id is None:
        return False  # its offer was taken back, or is another one by now
    rule = RULES[Cause(row.cause)]
    here = {Scope.OFFER: row.offer_id, Scope.MACHINE: row.machine}.get(rule.scope, row.subject)
    on_its_way = {LeaseState.REQUESTED, LeaseState.LAUNCHING} | ({LeaseState.BOOTSTRAPPING} if rule.by_boot else set())
    return here == row.subject and row.state in on_its_way


def _block(row: Row[Any], *, is_tried: bool, job_id: int | None) -> Block:
    return Block(
        cause=Cause(row.cause),
        provider=row.provider,
        subject=row.subject,
        reason=row.reason,
        error=row.error,
        since=row.since,
        at=row.at,
        until=row.until,
        strikes=row.strikes,
        by=row.by,
        trying=row.trying if is_tried else None,
        trying_job=job_id if is_tried else None,
    )
