"""Terms, previews, closed months, credit notes: what an operator asks of billing. Knows no cashier."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from sqlalchemy import Connection, Engine

from broker.billing import invoices as drafts
from broker.billing.booking import Entry
from broker.billing.charges import Book, Charge
from broker.billing.invoices import Invoice, Period
from broker.billing.terms import Scope, Term, Terms, checked
from broker.core.errors import BrokerError, Refused
from broker.db import billing_terms, invoices, usage_entries
from broker.db.engine import reading
from broker.services.metering import Metering


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a month's invoices are or would be. `provisional`: money of what still runs, in it; exact.

    `sites_own`: what nobody is charged (failed boots, test purchases), by currency, as the provider takes it; exact.
    """

    period: Period
    currency: str
    invoices: tuple[Invoice, ...]
    provisional: dict[str, Fraction]
    sites_own: dict[str, Fraction]


@dataclass(frozen=True, kw_only=True)
class Closed:
    """`made`: just now; `already`: of the month, closed before."""

    period: Period
    made: tuple[Invoice, ...]
    already: tuple[Invoice, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A term as it is asked for. `effective_from` None: now."""

    scope: Scope
    value: Decimal | None
    text: str | None
    currency: str | None
    effective_from: datetime | None
    source: str | None


class Billing:
    """`currency`: of the invoices. `check_term`: the cashier's own word on a term (Refused), if there is one."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Callable[[], datetime],
        metering: Metering,
        currency: str,
        check_term: Callable[[Term], None] = lambda term: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._metering = metering
        self._currency = currency
        self._check_term = check_term

    @property
    def currency(self) -> str:
        return self._currency

    def terms(self) -> list[Term]:
        """Every version of every term, oldest first."""
        with reading(self._engine) as db:
            return billing_terms.every(db)

    def set_term(self, wanted: Wanted, actor: str) -> Term:
        """Add a version of a term. BrokerError: it cannot be used. Refused: it would change what was charged before."""
        now = self._clock()
        since = (wanted.effective_from or now).astimezone(UTC)
        term = Term(
            id=None,
            scope=wanted.scope,
            value=wanted.value,
            text=wanted.text,
            currency=wanted.currency,
            effective_from=since,
            source=wanted.source,
            set_by=actor,
            set_at=now,
        )
        checked(term, self._currency)
        self._check_term(term)
        with self._engine.begin() as db:
            usage_entries.take_turn(db)
            _refuse_the_past(db, term, now)
            return billing_terms.add(db, term)

    def preview(self, period: Period, account: str | None) -> Preview:
        """The month's invoices as they are, or as they would be now: with what runs, up to this moment. Writes nothing."""
        now = self._clock()
        with reading(self._engine) as db:
            closed = invoices.every(db, account, period)
            done = {each.account for each in closed if each.refers_to is None}
            running = [] if period.start >= now else self._metering.expected(db, min(now, period.end), now)
            book = Book(terms=Terms(billing_terms.every(db)), currency=self._currency)
            entries = usage_entries.not_invoiced(db, period.end, account)
            ours = [
                entry
                for entry in running
                if entry.slice.payer.account is not None
                and account in (None, entry.slice.payer.account)
                and entry.slice.ended_at <= period.end
            ]
            charged = self._charged(db, book, [*entries, *ours])
            drafted = [
                self._draft(db, book, name, period, charges)
                for name, charges in sorted(charged.items())
                if name not in done
            ]
            provisional: dict[str, Fraction] = defaultdict(Fraction)
            written = self._charged(db, book, entries)
            for name, charges in charged.items():
                if name not in done:
                    provisional[name] = _sum(charges) - _sum(written.get(name, []))
            own: dict[str, Fraction] = defaultdict(Fraction)
            nobodys = [entry for entry in running if entry.slice.payer.account is None]
            for entry in [*usage_entries.nobodys(db, period.start, period.end), *nobodys]:
                own[entry.currency] += entry.cost
        return Preview(
            period=period,
            currency=self._currency,
            invoices=(*closed, *drafted),
            provisional=dict(provisional),
            sites_own=dict(own),
        )

    def close(self, period: Period, account: str | None, actor: str) -> Closed:
        """Make the month's invoices, in one transaction; closing again makes only what is missing.

        Refused: the month is not over, is not metered yet, or an earlier one is open.
        """
        now = self._clock()
        if period.end > now:
            raise Refused(
                f"{period.name} ends at {period.end:%Y-%m-%d %H:%M} UTC; `broker invoice preview` shows it so far"
            )
        self._metering.book(now)
        with self._engine.begin() as db:
            usage_entries.take_turn(db)
            already = [each for each in invoices.every(db, account, period) if each.refers_to is None]
            done = {each.account for each in already}
            if late := usage_entries.lagging(db, period.end):
                raise Refused(
                    f"{len(late)} leases ({', '.join(late[:3])}) are not metered up to the end of {period.name}; "
                    "`broker status` tells what stops the activity `meter`"
                )
            entries = [
                entry
                for entry in usage_entries.not_invoiced(db, period.end, account)
                if entry.slice.payer.account not in done
            ]
            self._refuse_open_month_before(db, entries, period)
            book = Book(terms=Terms(billing_terms.every(db)), currency=self._currency)
            charged = self._charged(db, book, entries)
            made = []
            for name in sorted({entry.slice.payer.account for entry in entries if entry.slice.payer.account}):
                draft = self._draft(db, book, name, period, charged.get(name, []))
                invoice = replace(draft, closed_at=now, closed_by=actor)
                ids = [entry.id for entry in entries if entry.slice.payer.account == name and entry.id is not None]
                invoices.add(db, invoice, ids, charged.get(name, []))
                made.append(invoice)
        return Closed(period=period, made=tuple(made), already=tuple(already))

    def invoices(self, account: str | None, period: Period | None) -> list[Invoice]:
        """Closed invoices and credit notes, in the order of their closing."""
        with reading(self._engine) as db:
            return invoices.every(db, account, period)

    def invoice(self, invoice_id: str) -> Invoice:
        """NotFound."""
        with reading(self._engine) as db:
            return invoices.get(db, invoice_id)

    def charges(self, invoice_id: str) -> list[Charge]:
        """All that the invoice's lines are sums of. NotFound."""
        with reading(self._engine) as db:
            invoices.get(db, invoice_id)
            return invoices.charges_of(db, invoice_id)

    def credit(self, invoice_id: str, amount: Decimal, reason: str, actor: str) -> Invoice:
        """A credit note about a closed invoice. The same reason again is the same note: it is made once.

        BrokerError: more than is left, or that reason was given with another amount.
        """
        now = self._clock()
        with self._engine.begin() as db:
            usage_entries.take_turn(db)
            invoice = invoices.get(db, invoice_id)
            if invoice.refers_to is not None:
                raise BrokerError(f"{invoice_id} is a credit note itself; name the invoice {invoice.refers_to}")
            minor = drafts.to_minor(amount, invoice.currency)
            notes = invoices.notes_about(db, invoice_id)
            same = next((note for note in notes if note.note == reason), None)
            if same is not None:
                if -same.net_minor != minor:
                    raise BrokerError(
                        f"{same.id} credits {drafts.money_text(-same.net_minor, same.currency)} for just this reason; "
                        "say what is different now"
                    )
                return same
            credited = -sum(note.net_minor for note in notes)
            made = drafts.credit_note(invoice, credited, minor, reason, len(notes) + 1, now, actor)
            invoices.add(db, made, [], [])
            return made

    def _charged(self, db: Connection, book: Book, entries: Iterable[Entry]) -> dict[str, list[Charge]]:
        """Account → its charges."""
        listed = list(entries)
        accounts = {entry.slice.payer.account for entry in listed if entry.slice.payer.account is not None}
        back = invoices.charged(db, (entry.reverses for entry in listed if entry.reverses is not None))
        by_account: dict[str, list[Charge]] = defaultdict(list)
        for charge in book.price(listed, back, invoices.free_used(db, accounts)):
            by_account[charge.account].append(charge)
        return by_account

    def _draft(self, db: Connection, book: Book, account: str, period: Period, charges: list[Charge]) -> Invoice:
        at = drafts.last_moment(period)
        return drafts.draw_up(
            charges,
            account,
            period,
            self._currency,
            invoices.carried(db, account),
            book.terms.taxes(at, account),
            book.terms.cost_centre(at, account),
        )

    def _refuse_open_month_before(self, db: Connection, entries: Iterable[Entry], period: Period) -> None:
        earlier = {
            (drafts.period_at(entry.slice.began_at).name, entry.slice.payer.account)
            for entry in entries
            if entry.slice.began_at < period.start
        }
        for month, account in sorted(earlier, key=lambda each: (each[0], each[1] or "")):
            if not invoices.every(db, account, drafts.period_of(month)):
                raise Refused(
                    f"{account} has usage of {month}, which is not closed; close it first: "
                    f"`broker invoice close --period {month}`"
                )


def _refuse_the_past(db: Connection, term: Term, now: datetime) -> None:
    closed = invoices.closed_until(db, term.scope.account)
    if closed is not None and term.effective_from < closed:
        raise Refused(
            f"--from: the time before {closed:%Y-%m-%d} is invoiced already, and a term cannot change that; "
            "`broker invoice credit` gives money back"
        )
    last = billing_terms.last_from(db, term.scope)
    if last is not None and last <= now and term.effective_from < now:
        raise Refused(
            f"--from: this term has been in force since {last:%Y-%m-%d %H:%M} UTC, and what it charged stays; "
            "leave --from out, or name a later time"
        )
    if last is not None and term.effective_from < last:
        raise Refused(f"--from: a version from {last:%Y-%m-%d %H:%M} UTC on stands already; name a time after it")


def _sum(charges: Iterable[Charge]) -> Fraction:
    return sum((charge.amount for charge in charges), Fraction(0))
