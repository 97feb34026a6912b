"""Invoices for the site's own books: rows for CSV, a page for people. Without a cashier."""

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from html import escape

from broker.billing.invoices import Invoice, Line, amount_text, money_text

_COLUMNS = (
    "invoice", "account", "cost_centre", "period", "refers_to", "position", "text", "user", "kind", "gpu", "month", "hours",
    "free_hours", "unit_price", "price_currency", "basis", "exchange", "exchange_source", "charged_percent", "amount",
    "currency",
)  # fmt: skip


def exact_text(value: Fraction, places: int = 12) -> str:
    """A fraction as decimal text, cut to `places` where it has no end."""
    scaled = round(value * 10**places)
    text = f"{Decimal(scaled).scaleb(-places):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_csv(invoices: Iterable[Invoice]) -> str:
    """A row a line, then one a tax; a credit note is a row of its own. The amounts of an invoice add up to its total."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for invoice in invoices:
        head = (invoice.id, invoice.account, invoice.cost_centre or "", invoice.period.name, invoice.refers_to or "")
        for line in invoice.lines:
            writer.writerow([_harmless(cell) for cell in (*head, *_cells(line))] + _amount(line.minor, invoice))
        rows = len(invoice.lines)
        if invoice.refers_to is not None:
            rows = 1
            row = (*head, "1", invoice.note or "", *[""] * 12)
            writer.writerow([_harmless(cell) for cell in row] + _amount(invoice.net_minor, invoice))
        for number, tax in enumerate(invoice.taxes, start=rows + 1):
            text = f"{tax.name} ({tax.percent.normalize():f} %)"
            writer.writerow(
                [_harmless(cell) for cell in (*head, str(number), text, *[""] * 12)] + _amount(tax.minor, invoice)
            )
    return out.getvalue()


def to_html(invoices: Iterable[Invoice], made_at: datetime) -> str:
    """One page that loads nothing: a section an invoice, cost centres at its head."""
    listed = list(invoices)
    sums: dict[tuple[str, str], int] = {}
    for invoice in listed:
        key = (invoice.cost_centre or invoice.account, invoice.currency)
        sums[key] = sums.get(key, 0) + invoice.total_minor
    centres = "".join(
        f"<tr><td>{escape(centre)}</td><td class=n>{escape(money_text(minor, currency))}</td></tr>"
        for (centre, currency), minor in sorted(sums.items())
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Invoices</title>"
        f"<style>{_STYLE}</style><h1>Invoices</h1><p>Made {made_at:%Y-%m-%d %H:%M} UTC</p>"
        f"<table><tr><th>Cost centre or account</th><th class=n>Total</th></tr>{centres}</table>"
        f"{''.join(_section(each) for each in listed)}</html>\n"
    )


_STYLE = (
    "body{font:14px/1.4 sans-serif;max-width:60em;margin:2em auto;color:#222}table{border-collapse:collapse;width:100%}"
    "th,td{padding:.3em .6em;border-bottom:1px solid #ddd;text-align:left}.n{text-align:right;font-variant-numeric:tabular-nums}"
    "tfoot td{font-weight:bold}section{margin-top:3em;break-inside:avoid}"
)


def _section(invoice: Invoice) -> str:
    rows = "".join(
        f"<tr><td>{escape(line.text)}</td><td class=n>{exact_text(line.hours - line.free_hours, 4)}</td>"
        f"<td class=n>{exact_text(line.unit_price, 4)} {escape(line.currency)}</td>"
        f"<td class=n>{amount_text(line.minor, invoice.currency)}</td></tr>"
        for line in invoice.lines
    )
    if invoice.refers_to is not None:
        rows += (
            f"<tr><td>Credit for {escape(invoice.refers_to)}: {escape(invoice.note or '')}</td><td></td><td></td>"
            f"<td class=n>{amount_text(invoice.net_minor, invoice.currency)}</td></tr>"
        )
    taxes = "".join(
        f"<tr><td>{escape(tax.name)} ({tax.percent.normalize():f} %)</td><td></td><td></td>"
        f"<td class=n>{amount_text(tax.minor, invoice.currency)}</td></tr>"
        for tax in invoice.taxes
    )
    state = (
        f"closed {invoice.closed_at:%Y-%m-%d} by {escape(invoice.closed_by or '')}" if invoice.closed_at else "so far"
    )
    centre = f", cost centre {escape(invoice.cost_centre)}" if invoice.cost_centre else ""
    return (
        f"<section><h2>{escape(invoice.id)}</h2><p>Account {escape(invoice.account)}{centre}; {invoice.period.name}, {state}</p>"
        "<table><thead><tr><th>What</th><th class=n>Hours</th><th class=n>An hour</th><th class=n>"
        f"{escape(invoice.currency)}</th></tr></thead><tbody>{rows}{taxes}</tbody><tfoot><tr><td>Total</td><td></td><td></td>"
        f"<td class=n>{amount_text(invoice.total_minor, invoice.currency)}</td></tr></tfoot></table></section>"
    )


def _cells(line: Line) -> tuple[str, ...]:
    return (
        str(line.position),
        line.text,
        line.user or "",
        line.kind.value,
        line.accelerator or "",
        f"{line.month:%Y-%m}",
        exact_text(line.hours),
        exact_text(line.free_hours),
        exact_text(line.unit_price),
        line.currency,
        line.basis,
        str(line.exchange),
        line.exchange_source or "",
        f"{line.percent.normalize():f}",
    )


def _amount(minor: int, invoice: Invoice) -> list[str]:
    return [amount_text(minor, invoice.currency), invoice.currency]


def _harmless(cell: str) -> str:
    """Names come from users: a spreadsheet would run a cell that begins so as a formula."""
    number = cell.removeprefix("-").replace(".", "", 1).isdecimal()
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} and not number else cell
