"""A period's charges as an invoice: lines, one rounding, taxes. What the rounding cut off goes into the account's next one."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from broker.billing.booking import HOUR_US
from broker.billing.charges import Charge, unit_name
from broker.billing.slices import SliceKind, month_start, next_month
from broker.billing.terms import Term
from broker.core.errors import BrokerError

_NO_CENTS = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_WORDS = {
    SliceKind.JOB: "jobs",
    SliceKind.BOOT: "machines' boots",
    SliceKind.FAILED_BOOT: "boots that failed",
    SliceKind.IDLE: "idle machines",
    SliceKind.PARKED: "kept machines",
    SliceKind.RELEASE: "giving back",
}


def minor_digits(currency: str) -> int:
    """Decimals of the currency's smallest coin."""
    return 0 if currency in _NO_CENTS else 2


@dataclass(frozen=True, kw_only=True)
class Period:
    """One calendar month, UTC: [`start`, `end`)."""

    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        return f"{self.start:%Y-%m}"


def period_of(name: str) -> Period:
    """The month `2026-11`. BrokerError: it is none."""
    try:
        start = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise BrokerError(f'--period: "{name[:20]}" is no month; write one such as 2026-11') from None
    return Period(start=start, end=next_month(start))


def period_at(at: datetime) -> Period:
    """The month of a moment."""
    return Period(start=month_start(at), end=next_month(at))


@dataclass(frozen=True, kw_only=True)
class Line:
    """`exact`: the charges' sum. `minor`: its part of the rounded net, in the smallest coin: lines add up to the net."""

    position: int
    text: str
    user: str | None
    kind: SliceKind
    accelerator: str | None
    month: datetime
    hours: Fraction
    free_hours: Fraction
    unit_price: Fraction
    basis: str
    currency: str
    exchange: Decimal
    exchange_source: str | None
    percent: Decimal
    exact: Fraction
    minor: int


@dataclass(frozen=True, kw_only=True)
class TaxLine:
    name: str
    percent: Decimal
    minor: int


@dataclass(frozen=True, kw_only=True)
class Invoice:
    """`carried_in`, `carried_out`: what rounding cut off the account's last invoice, and cuts off this one; exact.

    Amounts named `minor` are whole smallest coins of `currency`. `refers_to`: the invoice that a credit note is about.
    """

    id: str
    account: str
    period: Period
    currency: str
    cost_centre: str | None
    lines: tuple[Line, ...]
    carried_in: Fraction
    net_minor: int
    carried_out: Fraction
    taxes: tuple[TaxLine, ...]
    closed_at: datetime | None
    closed_by: str | None
    refers_to: str | None = None
    note: str | None = None

    @property
    def total_minor(self) -> int:
        return self.net_minor + sum(tax.minor for tax in self.taxes)


def invoice_id(period: Period, account: str) -> str:
    """One invoice an account and month, so closing again cannot make a second one."""
    return f"{period.name}-{account}"


def draw_up(
    charges: Iterable[Charge],
    account: str,
    period: Period,
    currency: str,
    carried_in: Fraction,
    taxes: Iterable[Term],
    cost_centre: str | None,
) -> Invoice:
    """The account's invoice, not closed. Its net is the exact sum, rounded half-even once."""
    grouped: dict[tuple[object, ...], list[Charge]] = defaultdict(list)
    for charge in charges:
        grouped[_key(charge)].append(charge)
    scale = 10 ** minor_digits(currency)
    lines: list[Line] = []
    exact, rounded = carried_in, 0
    for _, group in sorted(grouped.items(), key=lambda each: _order(each[1][0])):
        amount = sum((charge.amount for charge in group), Fraction(0))
        exact += amount
        # The running sum is rounded, not the line: so lines add up to the net, and none is off by more than a coin.
        minor = round(exact * scale) - rounded
        rounded += minor
        lines.append(_line(group, len(lines) + 1, amount, minor, period))
    net = round(exact * scale)
    if not lines:
        net = 0
    return Invoice(
        id=invoice_id(period, account),
        account=account,
        period=period,
        currency=currency,
        cost_centre=cost_centre,
        lines=tuple(lines),
        carried_in=carried_in,
        net_minor=net,
        carried_out=exact - Fraction(net, scale),
        taxes=tuple(_tax(term, net) for term in taxes),
        closed_at=None,
        closed_by=None,
    )


def credit_note(invoice: Invoice, credited: int, minor: int, note: str, number: int, now: datetime, by: str) -> Invoice:
    """A note that gives `minor` of the invoice's net back, with its part of the taxes. `credited`: given back before.

    BrokerError: more than is left of the invoice.
    """
    left = invoice.net_minor - credited
    if not 0 < minor <= left:
        raise BrokerError(
            f"invoice {invoice.id}: {money_text(left, invoice.currency)} of its net can be credited; name an amount up to that"
        )
    taxes = tuple(
        TaxLine(name=tax.name, percent=tax.percent, minor=-round(Fraction(minor) * Fraction(tax.percent) / 100))
        for tax in invoice.taxes
    )
    return Invoice(
        id=f"{invoice.id}-credit-{number}",
        account=invoice.account,
        period=invoice.period,
        currency=invoice.currency,
        cost_centre=invoice.cost_centre,
        lines=(),
        carried_in=Fraction(0),
        net_minor=-minor,
        carried_out=Fraction(0),
        taxes=taxes,
        closed_at=now,
        closed_by=by,
        refers_to=invoice.id,
        note=note,
    )


def money_text(minor: int, currency: str) -> str:
    """An amount with its currency, for people."""
    return f"{amount_text(minor, currency)} {currency}"


def amount_text(minor: int, currency: str) -> str:
    """An amount as a decimal string."""
    return str(Decimal(minor).scaleb(-minor_digits(currency)))


def to_minor(amount: Decimal, currency: str) -> int:
    """An amount in smallest coins. BrokerError: it is none of the currency's."""
    minor = amount.scaleb(minor_digits(currency)) if amount.is_finite() else amount
    if not minor.is_finite() or abs(minor) >= 10**12 or minor != minor.to_integral_value():
        raise BrokerError(f"{amount} is no amount of {currency}: it has {minor_digits(currency)} decimals at most")
    return int(minor)


def _key(charge: Charge) -> tuple[object, ...]:
    return (
        month_start(charge.began_at),
        charge.user,
        charge.kind,
        charge.accelerator,
        charge.basis,
        charge.unit_price,
        charge.currency,
        charge.exchange,
        charge.percent,
    )


def _order(charge: Charge) -> tuple[object, ...]:
    return (
        month_start(charge.began_at),
        charge.user or "",
        list(_WORDS).index(charge.kind),
        charge.accelerator or "",
        charge.unit_price,
        charge.currency,
        charge.exchange,
        charge.percent,
        charge.basis,
    )


def _line(group: list[Charge], position: int, amount: Fraction, minor: int, period: Period) -> Line:
    first = group[0]
    month = month_start(first.began_at)
    unit = f"{first.accelerator} GPU-hours" if first.accelerator else "machine-hours"
    text = f"{unit}, {_WORDS[first.kind]}"
    if first.user is not None:
        text += f", {first.user}"
    if month < period.start:
        text += f" (correction of {month:%Y-%m})"
    if first.percent != 100:
        text += f", {first.percent.normalize():f} % charged"
    free = sum((charge.free_us for charge in group), Fraction(0)) / HOUR_US
    if free:
        text += ", free hours taken off"
    return Line(
        position=position,
        text=text,
        user=first.user,
        kind=first.kind,
        accelerator=first.accelerator,
        month=month,
        hours=sum((charge.unit_us for charge in group), Fraction(0)) / HOUR_US,
        free_hours=free,
        unit_price=first.unit_price,
        basis=first.basis,
        currency=first.currency,
        exchange=first.exchange,
        exchange_source=first.exchange_source,
        percent=first.percent,
        exact=amount,
        minor=minor,
    )


def _tax(term: Term, net: int) -> TaxLine:
    percent = term.value or Decimal(0)
    return TaxLine(name=term.scope.name or "tax", percent=percent, minor=round(net * Fraction(percent) / 100))


def last_moment(period: Period) -> datetime:
    """Terms in force then are an invoice's taxes and cost centre."""
    return period.end - timedelta(microseconds=1)


def unit_of(line: Line) -> str:
    """What the line's hours are hours of."""
    return unit_name(line.accelerator)
