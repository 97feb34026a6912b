"""Closed invoices, which entries are on them, and what each was charged at."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select

from broker.billing.charges import Charge, FreeUsed
from broker.billing.invoices import Invoice, Line, Period, TaxLine
from broker.billing.slices import SliceKind, month_start
from broker.core.errors import NotFound
from broker.db.chunks import chunks
from broker.db.schema import charges, invoiced_entries, invoices


def add(db: Connection, invoice: Invoice, entry_ids: Iterable[int], charged: Iterable[Charge]) -> None:
    """Write a closed invoice with all that is on it. IntegrityError: the month or an entry is invoiced already."""
    row = {
        "id": invoice.id,
        "account": invoice.account,
        "period_start": invoice.period.start,
        "period_end": invoice.period.end,
        "currency": invoice.currency,
        "cost_centre": invoice.cost_centre,
        "lines": [_line_row(line) for line in invoice.lines],
        "taxes": [{"name": tax.name, "percent": str(tax.percent), "minor": tax.minor} for tax in invoice.taxes],
        "carried_in": invoice.carried_in,
        "net_minor": invoice.net_minor,
        "carried_out": invoice.carried_out,
        "closed_at": invoice.closed_at,
        "closed_by": invoice.closed_by,
        "refers_to": invoice.refers_to,
        "note": invoice.note,
    }
    db.execute(insert(invoices).values(row))
    for some in chunks(entry_ids):
        db.execute(insert(invoiced_entries), [{"entry_id": entry_id, "invoice_id": invoice.id} for entry_id in some])
    for some_charges in chunks(charged):
        db.execute(insert(charges), [_charge_row(charge, invoice.id) for charge in some_charges])


def get(db: Connection, invoice_id: str) -> Invoice:
    """NotFound: there is no such invoice."""
    found = _invoices(db, select(invoices).where(invoices.c.id == invoice_id))
    if not found:
        raise NotFound(f"no invoice {invoice_id[:96]}; `broker invoice list` shows every one")
    return found[0]


def every(db: Connection, account: str | None = None, period: Period | None = None) -> list[Invoice]:
    """Invoices and credit notes in the order of their closing; of an account, of a month."""
    query = select(invoices)
    if account is not None:
        query = query.where(invoices.c.account == account)
    if period is not None:
        query = query.where(invoices.c.period_start == period.start)
    return _invoices(db, query)


def notes_about(db: Connection, invoice_id: str) -> list[Invoice]:
    """The credit notes about an invoice."""
    return _invoices(db, select(invoices).where(invoices.c.refers_to == invoice_id))


def carried(db: Connection, account: str) -> Fraction:
    """What rounding cut off the account's last invoice."""
    query = (
        select(invoices.c.carried_out)
        .where(invoices.c.account == account, invoices.c.refers_to.is_(None))
        .order_by(invoices.c.number.desc())
        .limit(1)
    )
    found: Fraction | None = db.execute(query).scalar()
    return found or Fraction(0)


def closed_until(db: Connection, account: str | None) -> datetime | None:
    """The end of the last closed month of the account, or of any account; None: none is closed."""
    query = select(func.max(invoices.c.period_end))
    if account is not None:
        query = query.where(invoices.c.account == account)
    found: datetime | None = db.execute(query).scalar()
    return found


def charged(db: Connection, entry_ids: Iterable[int]) -> dict[int, list[Charge]]:
    """Entry → what it was charged; an entry on no invoice has none."""
    found: dict[int, list[Charge]] = defaultdict(list)
    for some in chunks(entry_ids):
        for row in db.execute(select(charges).where(charges.c.entry_id.in_(some)).order_by(charges.c.id)):
            found[row.entry_id].append(_charge(row))
    return found


def charges_of(db: Connection, invoice_id: str) -> list[Charge]:
    """All that an invoice's lines are sums of."""
    query = select(charges).where(charges.c.invoice_id == invoice_id).order_by(charges.c.id)
    return [_charge(row) for row in db.execute(query)]


def free_used(db: Connection, accounts: Iterable[str]) -> Mapping[tuple[str, datetime, str], Fraction]:
    """Free hours that closed invoices have given: account, month, what the quota is about → microseconds."""
    used: FreeUsed = defaultdict(Fraction)
    for some in chunks(sorted(accounts)):
        query = select(charges.c.account, charges.c.began_at, charges.c.free_scope, charges.c.free_us).where(
            charges.c.account.in_(some), charges.c.free_scope.is_not(None)
        )
        for row in db.execute(query):
            used[row.account, month_start(row.began_at), row.free_scope] += row.free_us
    return used


def _invoices(db: Connection, query: Select[Any]) -> list[Invoice]:
    return [_invoice(row) for row in db.execute(query.order_by(invoices.c.number))]


def _invoice(row: Row[Any]) -> Invoice:
    return Invoice(
        id=row.id,
        account=row.account,
        period=Period(start=row.period_start, end=row.period_end),
        currency=row.currency,
        cost_centre=row.cost_centre,
        lines=tuple(_line(line) for line in row.lines),
        carried_in=row.carried_in,
        net_minor=row.net_minor,
        carried_out=row.carried_out,
        taxes=tuple(
            TaxLine(name=tax["name"], percent=Decimal(tax["percent"]), minor=tax["minor"]) for tax in row.taxes
        ),
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        refers_to=row.refers_to,
        note=row.note,
    )


_FRACTIONS = frozenset({"hours", "free_hours", "unit_price", "exact"})
_DECIMALS = frozenset({"exchange", "percent"})


def _line_row(line: Line) -> dict[str, Any]:
    row = asdict(line)
    for name in _FRACTIONS | _DECIMALS:
        row[name] = str(row[name])
    return row | {"month": line.month.isoformat(), "kind": line.kind.value}


def _line(row: dict[str, Any]) -> Line:
    values = row | {"month": datetime.fromisoformat(row["month"]), "kind": SliceKind(row["kind"])}
    values |= {name: Fraction(row[name]) for name in _FRACTIONS}
    values |= {name: Decimal(row[name]) for name in _DECIMALS}
    return Line(**values)


def _charge_row(charge: Charge, invoice_id: str) -> dict[str, Any]:
    return asdict(charge) | {"invoice_id": invoice_id, "terms": list(charge.terms)}


def _charge(row: Row[Any]) -> Charge:
    values = {name: getattr(row, name) for name in Charge.__dataclass_fields__}
    return Charge(**(values | {"kind": SliceKind(row.kind), "terms": tuple(row.terms)}))
