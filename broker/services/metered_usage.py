"""Usage to Stripe's meters: each message once, whatever dies; meters, prices and subscriptions that it needs."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from sqlalchemy import Engine

from broker.billing.invoices import Period, minor_digits, period_at
from broker.billing.terms import CPU, Term, TermKind, Terms
from broker.billing.usage_events import added, value_text
from broker.cashier.errors import AlreadyKnown, CashierRefused, CashierUnavailable, CredentialsRefused, RateLimited
from broker.cashier.stripe_api import StripeApi
from broker.core.errors import Refused
from broker.db import billing_terms, outbox, stripe, usage_entries
from broker.db.engine import reading
from broker.db.outbox import MessageState, Queued
from broker.services.at_stripe import AtStripe

log = logging.getLogger("broker.billing")

_GUARD = timedelta(hours=23)
"""Stripe refuses a repeated identifier for 24 hours; after that it would count the usage once more."""
_OLDEST = timedelta(days=35)
_OLDEST_MARGIN = timedelta(minutes=30)
_LONGEST_PAUSE = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class MeterLine:
    """GPU-seconds of one account and meter. `stripe` None: there is no customer or meter of it yet."""

    account: str
    meter: str
    ledger: Decimal
    outbox: Decimal
    sent: Decimal
    stripe: Decimal | None

    @property
    def agrees(self) -> bool:
        near = self.stripe is not None and abs(self.stripe - self.ledger) <= _tolerance(self.ledger)
        return self.ledger == self.outbox == self.sent and (near or not self.ledger)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a pass did."""

    sent: int
    waiting: int
    dead: int


class MeteredUsage:
    """`customer`: account → Stripe's id of who pays, made if need be."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Callable[[], datetime],
        api: StripeApi,
        at: AtStripe,
        customer: Callable[[str], str],
        currency: str,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._api = api
        self._at = at
        self._customer = customer
        self._currency = currency

    def send(self) -> Sent:
        """Send what is due. RateLimited, CashierUnavailable, CredentialsRefused: nothing more can be sent now."""
        with reading(self._engine) as db:
            due = outbox.to_send(db, self._clock())
        sent = waiting = dead = 0
        for queued in due:
            try:
                state = self._send(queued)
            except CashierRefused as exc:
                # Of its customer or meter: the other accounts' usage must not wait for that.
                state = self._put_off(queued, _LONGEST_PAUSE, str(exc))
                log.error("account=%s meter=%s usage not told yet: %s", queued.message.key.account,
                          queued.message.key.meter, exc)  # fmt: skip
            sent += state is MessageState.SENT
            dead += state in {MessageState.DEAD, MessageState.TOO_LATE}
            waiting += state in {MessageState.DUE, MessageState.SENDING}
        self._hear_failures()
        return Sent(sent=sent, waiting=waiting, dead=dead)

    def _send(self, queued: Queued) -> MessageState:
        now, key = self._clock(), queued.message.key
        if queued.first_try_at is None and now - key.timestamp > _OLDEST - _OLDEST_MARGIN:
            return self._end(queued, MessageState.TOO_LATE, "older than 35 days: the meter takes it no more")
        customer, meter = self._customer(key.account), self.meter(key.meter)
        if queued.first_try_at is not None and now - queued.first_try_at > _GUARD:
            # An earlier try may have arrived, and Stripe has forgotten its identifier: only the meter's sum tells.
            arrived = self._arrived(queued, customer, meter)
            if arrived is None:
                return self._end(
                    queued, MessageState.DEAD, "nobody can tell whether it arrived: look at the meter's sum"
                )
            if arrived:
                return self._end(queued, MessageState.SENT, None)
            if now - key.timestamp > _OLDEST - _OLDEST_MARGIN:
                return self._end(queued, MessageState.TOO_LATE, "older than 35 days: the meter takes it no more")
            queued = self._write(queued, now, first_try_at=now)
        else:
            queued = self._write(queued, now, first_try_at=queued.first_try_at or now)
        return self._call(queued, customer)

    def _call(self, queued: Queued, customer: str) -> MessageState:
        message = queued.message
        try:
            self._api.send_usage(
                self.event_name(message.key.meter),
                customer,
                value_text(message.value),
                message.identifier,
                message.key.timestamp,
                # A stored 500 would be given again for the same key; the identifier alone guards against doubles.
                f"{message.identifier}.{queued.tries}",
            )
        except AlreadyKnown:
            return self._end(queued, MessageState.SENT, None)
        except CashierRefused as exc:
            return self._end(queued, MessageState.DEAD, str(exc))
        except (CashierUnavailable, RateLimited, CredentialsRefused) as exc:
            pause = min(_LONGEST_PAUSE, timedelta(seconds=2 ** min(queued.tries, 12)))
            state = self._put_off(queued, pause, str(exc))
            if isinstance(exc, CashierUnavailable):
                return state
            raise
        return self._end(queued, MessageState.SENT, None)

    def _put_off(self, queued: Queued, pause: timedelta, error: str) -> MessageState:
        with self._engine.begin() as db:
            outbox.write(db, queued, queued.state, first_try_at=queued.first_try_at, not_before=self._clock() + pause,
                         error=error)  # fmt: skip
        return queued.state

    def _write(self, queued: Queued, now: datetime, first_try_at: datetime) -> Queued:
        """The try stands before the call."""
        with self._engine.begin() as db:
            current = outbox.get(db, queued.id)
            outbox.write(db, current, MessageState.SENDING, first_try_at=first_try_at, tries=current.tries + 1)
            return outbox.get(db, queued.id)

    def _end(self, queued: Queued, state: MessageState, error: str | None) -> MessageState:
        now = self._clock()
        with self._engine.begin() as db:
            outbox.write(
                db,
                queued,
                state,
                first_try_at=queued.first_try_at or (now if state is not MessageState.TOO_LATE else None),
                sent_at=now if state is MessageState.SENT else None,
                error=error,
            )
        if error is not None:
            message = queued.message
            log.error("account=%s meter=%s usage not told: %s", message.key.account, message.key.meter, error)
        return state

    def _arrived(self, queued: Queued, customer: str, meter: str) -> bool | None:
        """Whether the hour's sum has the message in it; None: it has neither this nor that."""
        key, value = queued.message.key, queued.message.value
        with reading(self._engine) as db:
            known = outbox.sent_of_hour(db, key)
        found = self._api.metered(meter, customer, key.hour, key.sendable_at)
        near = min(_tolerance(found), abs(value) / 3)
        if abs(found - known - value) <= near:
            return True
        return False if abs(found - known) <= near else None

    def _hear_failures(self) -> None:
        """What Stripe reported as not taken after it had answered 200."""
        with reading(self._engine) as db:
            events = stripe.events_to_fetch(db)
        for event in events:
            failed = self._api.failed_requests(event)
            with self._engine.begin() as db:
                for key, said in failed:
                    identifier = key.rpartition(".")[0] or key
                    if outbox.kill(db, identifier, f"Stripe took it and refused it later: {said}"):
                        log.error("identifier=%s usage refused afterwards: %s", identifier, said)
                stripe.fetched(db, event)

    def event_name(self, meter: str) -> str:
        """What the meter's events are called; one active meter at Stripe has the name."""
        return re.sub(r"[^a-z0-9]+", "_", f"broker_{self._at.cluster}_{meter}_gpu_seconds".lower())

    def meter(self, meter: str) -> str:
        """Stripe's id of the meter of a GPU model."""
        event = self.event_name(meter)
        return self._at.once(
            "meter",
            meter,
            lambda since: next((each.id for each in self._api.active_meters() if each.name == event), None),
            lambda key: self._api.make_meter(event, f"{meter} GPU-seconds, {self._at.cluster}", key),
        )

    def subscribe(self, account: str) -> str:
        """A monthly subscription with a price for each GPU model that has one; again: what is new is added.

        Refused: no price is set for the account.
        """
        month = period_at(self._clock())
        with reading(self._engine) as db:
            terms = Terms(billing_terms.every(db))
            models = {
                term.scope.accelerator or CPU for term in billing_terms.every(db) if term.scope.kind is TermKind.PRICE
            }
        priced = {
            model: term
            for model in sorted(models)
            if (term := terms.price(month.start, account, None if model == CPU else model)) is not None
        }
        if not priced:
            raise Refused(
                f"{account}: no price held at the beginning of {month.name}; `broker rate set price VALUE --gpu MODEL --from …`"
            )
        prices = [self._price(account, model, term) for model, term in priced.items()]
        customer = self._customer(account)
        subscription = self._at.once(
            "subscription",
            account,
            lambda since: next(
                (each.id for each in self._api.subscriptions_of(customer) if each.name == self._at.named(account)), None
            ),
            lambda key: self._api.make_subscription(self._at.named(account), customer, prices, month.end, key),
        )
        there = self._api.subscribed(subscription)
        self._refuse_two_prices(account, set(priced), set(there) - set(prices))
        for price in prices:
            if price not in there:
                self._api.subscribe_to(subscription, price, self._at.key("subscription_item", f"{account}/{price}", 1))
        return subscription

    def _refuse_two_prices(self, account: str, models: set[str], others: set[str]) -> None:
        """Two prices of one meter would both be charged; to end the old one is to decide what becomes of its usage."""
        with reading(self._engine) as db:
            names = {price: name for name, price in stripe.ids(db, "price").items()}
        for price in sorted(others):
            model = names.get(price, "//").split("/")[1]
            if model in models:
                raise Refused(
                    f"{account} is subscribed to another price of {model} ({price}), and Stripe would charge both: end that item "
                    "there when its month is invoiced, then subscribe again"
                )

    def _price(self, account: str, model: str, term: Term) -> str:
        value = term.value or Decimal(0)
        digits = minor_digits(self._currency)
        per_second = round(Fraction(value) * 10**digits / 3600 * 10**12)
        name = f"{account}/{model}/{value.normalize():f}-{self._currency}"
        product = f"broker-{self._at.cluster}-{model}".lower()
        self._at.once(
            "product",
            product,
            lambda since: product if self._api.has_product(product) else None,
            lambda key: self._api.make_product(product, f"{model} GPU time", key),
        )
        lookup = self._at.named(name)
        return self._at.once(
            "price",
            name,
            lambda since: self._api.price_named(lookup),
            lambda key: self._api.make_price(
                lookup, product, self.meter(model), self._currency, Decimal(per_second).scaleb(-12), key
            ),
        )

    def reconcile(self, period: Period) -> list[MeterLine]:
        """Each account's and meter's GPU-seconds of the month: in the ledger, in the outbox, sent, at Stripe."""
        hour = timedelta(hours=1)
        now = self._clock()
        high = min(period.end, now.replace(minute=0, second=0, microsecond=0))
        with reading(self._engine) as db:
            entries = usage_entries.within(db, period.start, period.end)
            ours: dict[tuple[str, str], Fraction] = {}
            for key, more in added(entries, Terms(billing_terms.every(db))).items():
                if key.hour + hour <= high:
                    ours[key.account, key.meter] = ours.get((key.account, key.meter), Fraction(0)) + more
            queued = outbox.sums(db, period.start, high)
            sent = outbox.sums(db, period.start, high, [MessageState.SENT])
            customers, meters = stripe.ids(db, "customer"), stripe.ids(db, "meter")
        lines = []
        for account, meter in sorted(ours.keys() | queued.keys()):
            there = None
            if account in customers and meter in meters and period.start < high:
                there = self._api.metered(meters[meter], customers[account], period.start, high)
            exact = ours.get((account, meter), Fraction(0)) / 10**6
            lines.append(
                MeterLine(
                    account=account,
                    meter=meter,
                    ledger=_decimal(exact, queued.get((account, meter), Decimal(0))),
                    outbox=queued.get((account, meter), Decimal(0)),
                    sent=sent.get((account, meter), Decimal(0)),
                    stripe=there,
                )
            )
        return lines

    def check_term(self, term: Term) -> None:
        """Refused: Stripe's meters cannot charge by it."""
        kind = term.scope.kind
        if kind in {TermKind.SHARE, TermKind.COST_CENTRE}:
            return
        if kind is not TermKind.PRICE:
            raise Refused(
                f'stripe = "meters" charges by price alone, and a {kind} would not be charged; use stripe = "invoices", or: '
                "a free quota is a grant (`broker stripe grant`), a tax is set at Stripe"
            )
        if term.currency not in (None, self._currency):
            raise Refused(f'--currency: stripe = "meters" charges in {self._currency}')
        if term.effective_from != period_at(term.effective_from).start:
            raise Refused(
                '--from: stripe = "meters" charges a month by one price; name its first day, '
                f"such as {period_at(term.effective_from).end:%Y-%m-%d}"
            )


def _decimal(exact: Fraction, told: Decimal) -> Decimal:
    """The ledger's seconds; where only the last, twelfth decimal of some hours was rounded, as they were told."""
    plain = Decimal(round(exact * 10**12)).scaleb(-12)
    return told if abs(plain - told) <= Decimal("1e-9") else plain


def _tolerance(seconds: Decimal) -> Decimal:
    """A meter's sum comes as a binary float."""
    return max(Decimal("1e-6"), abs(seconds) * Decimal("1e-12"))
