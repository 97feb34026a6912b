"""Stripe's webhooks: at least once, in any order, from anybody who finds the address. Only a signed, new, later word is kept."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from broker.cashier.signature import check
from broker.core.errors import BrokerError
from broker.db import stripe
from broker.db.stripe import Said
from broker.services.cashier import ORDER

log = logging.getLogger("broker.billing")

_REPORTS = frozenset({"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"})


class UnreadableWebhook(BrokerError):
    """Signed by Stripe, and not what its reference describes."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Whether something was written, and why not."""

    written: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class _Event:
    id: str
    kind: str
    created: datetime
    thing: Mapping[str, Any]


class StripeWebhook:
    """`wake`: called when something is to be fetched."""

    def __init__(
        self, engine: Engine, secret: str, clock: Callable[[], datetime], wake: Callable[[], None] = lambda: None
    ) -> None:
        self._engine = engine
        self._secret = secret
        self._clock = clock
        self._wake = wake

    def receive(self, headers: Mapping[str, str], body: bytes) -> Heard:
        """Take a delivery. Refused: not signed, or not now. UnreadableWebhook. In each case nothing was written."""
        now = self._clock()
        check(body, headers.get("stripe-signature", ""), self._secret, now)
        event = _parsed(body)
        try:
            with self._engine.begin() as db:
                heard = self._take(db, event, now)
        except IntegrityError:
            heard = Heard(written=False, why="taken before")
        log.info("stripe event=%s kind=%s written=%s %s", event.id, event.kind, heard.written, heard.why)
        if heard.written and event.kind in _REPORTS:
            self._wake()
        return heard

    def _take(self, db: Connection, event: _Event, now: datetime) -> Heard:
        if stripe.has_event(db, event.id):
            return Heard(written=False, why="taken before")
        if event.kind in _REPORTS:
            stripe.take_event(db, event.id, event.kind, event.created, now, to_fetch=True)
            return Heard(written=True, why="to be read")
        word = _word(event)
        if word is None:
            return Heard(written=False, why="not about something we keep")
        if stripe.name_of(db, word.kind, word.stripe_id) is None:
            return Heard(written=False, why="not about something of ours")
        before = stripe.said(db, word.stripe_id)
        if before is not None and _is_later(before, word):
            return Heard(written=False, why="older than what is known")
        stripe.take_event(db, event.id, event.kind, event.created, now, to_fetch=False)
        stripe.say(db, word, now)
        return Heard(written=True, why="kept")


def _is_later(before: Said, word: Said) -> bool:
    if before.said_at != word.said_at:
        return before.said_at > word.said_at
    return ORDER.get(before.status, 0) > ORDER.get(word.status, 0)


def _parsed(body: bytes) -> _Event:
    try:
        said = json.loads(body)
        kind, event_id, created = said["type"], said["id"], said["created"]
        if not (_is_name(kind, 100) and _is_name(event_id, 255)):
            raise ValueError
        # Thin events tell their time as text, the others as seconds.
        at = datetime.fromtimestamp(created, UTC) if isinstance(created, int) else datetime.fromisoformat(created)
        data = said.get("data") or {}
        thing = data.get("object") or {}
        if at.tzinfo is None or not isinstance(thing, dict):
            raise ValueError
        return _Event(id=event_id, kind=kind, created=at.astimezone(UTC), thing=thing)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        raise UnreadableWebhook("The webhook is signed, but it is no event of Stripe's; nothing was written.") from None


def _is_name(said: object, longest: int) -> bool:
    """Stripe's own names are plain; PostgreSQL takes no NUL, and nothing a lone surrogate."""
    return isinstance(said, str) and 0 < len(said) <= longest and said.isascii() and said.isprintable()


def _word(event: _Event) -> Said | None:
    family, _, _ = event.kind.partition(".")
    thing = event.thing
    if family != "invoice" or thing.get("object") != "invoice":
        return None
    stripe_id, status = thing.get("id"), thing.get("status")
    if (
        not isinstance(stripe_id, str)
        or not _is_name(stripe_id, 255)
        or not isinstance(status, str)
        or status not in ORDER
    ):
        return None
    url = thing.get("hosted_invoice_url")
    attempts, following = thing.get("attempt_count"), thing.get("next_payment_attempt")
    detail = {
        "attempts": attempts if isinstance(attempts, int) else 0,
        "next_attempt_at": _moment(following),
        "url": url if isinstance(url, str) and _is_name(url, 2000) else None,
        "trouble": event.kind if event.kind in {"invoice.payment_failed", "invoice.payment_action_required"} else None,
    }
    return Said(stripe_id=stripe_id, kind="invoice", status=status, detail=detail, said_at=event.created)


def _moment(seconds: object) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat() if isinstance(seconds, int) else None
    except (ValueError, OverflowError, OSError):
        return None
