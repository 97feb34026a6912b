"""`broker invoice`."""

import json
from pathlib import Path
from typing import Any

import click

from broker.cli.client import Client
from broker.cli.months import Month, Number
from broker.cli.output import json_option, print_json, say, table
from broker.cli.socket_path import client
from broker.core.errors import Refused

_PERIOD = click.option("--period", type=Month(), required=True, metavar="MONTH", help="Such as 2026-11, in UTC.")
_ACCOUNT = click.option("--account", metavar="NAME", help="Only this account.")


@click.group()
def invoice() -> None:
    """Usage as invoices: a month's charges by account, with or without Stripe."""


@invoice.command()
@_PERIOD
@_ACCOUNT
@json_option
@click.pass_context
def preview(ctx: click.Context, period: str, account: str | None, as_json: bool) -> None:
    """What a month's invoices are, or would be now, with what still runs. Writes nothing."""
    document = client(ctx).get("billing", "preview", period=period, account=account)
    if as_json:
        print_json(document)
        return
    if not document["invoices"]:
        say(f"Nobody used anything in {period}.")
    for each in document["invoices"]:
        _print(each)
        running = document["provisional"].get(each["account"])
        if each["state"] == "open" and running not in (None, "0"):
            say(f"  of that {_short(running)} {each['currency']} net of what still runs, up to now")
    for currency, amount in document["sites_own"].items():
        say(
            f"Charged to nobody (boots that failed, test purchases): {_short(amount)} {currency}, as the provider takes it."
        )


@invoice.command()
@_PERIOD
@_ACCOUNT
@json_option
@click.pass_context
def close(ctx: click.Context, period: str, account: str | None, as_json: bool) -> None:
    """Make a month's invoices, once: closing again makes only what is missing.

    What becomes known of the month later comes on the next invoice, marked as a correction.
    """
    document = client(ctx).post("billing", "close", body={"period": period, "account": account})
    if as_json:
        print_json(document)
        return
    for each in document["made"]:
        say(f"Closed {each['id']}: {each['total']} {each['currency']}.")
    for each in document["already"]:
        say(
            f"{each['id']} was closed on {each['closed_at'][:10]} by {each['closed_by']}: {each['total']} {each['currency']}."
        )
    if not document["made"] and not document["already"]:
        say(f"Nobody used anything in {period}: there is nothing to close.")


@invoice.command("list")
@click.option("--period", type=Month(), metavar="MONTH", help="Only this month's.")
@_ACCOUNT
@json_option
@click.pass_context
def list_(ctx: click.Context, period: str | None, account: str | None, as_json: bool) -> None:
    """List closed invoices and credit notes."""
    document = client(ctx).get("invoices", period=period, account=account)
    if as_json:
        print_json(document)
    elif document["invoices"]:
        rows = [
            (each["id"], each["account"], each["period"], f"{each['total']} {each['currency']}", each["closed_at"][:10])
            for each in document["invoices"]
        ]
        table(("INVOICE", "ACCOUNT", "MONTH", "TOTAL", "CLOSED"), rows, right=frozenset({"TOTAL"}))
    else:
        say("No month was closed. `broker invoice preview --period MONTH` shows what one would be.")


@invoice.command()
@click.argument("invoice_id", metavar="INVOICE")
@json_option
@click.pass_context
def show(ctx: click.Context, invoice_id: str, as_json: bool) -> None:
    """Show one closed invoice or credit note with its lines."""
    document = client(ctx).get("invoices", invoice_id)
    if as_json:
        print_json(document)
    else:
        _print(document["invoice"])


@invoice.command()
@_PERIOD
@_ACCOUNT
@click.option("--format", "form", type=click.Choice(["csv", "json", "html"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Into this new file; else to stdout.")
@json_option
@click.pass_context
def export(ctx: click.Context, period: str, account: str | None, form: str, output: Path | None, as_json: bool) -> None:
    """Write a month's invoices for the site's books, cost centres with them. Needs no Stripe.

    A month that is not closed is written as it would be now.
    """
    text = _exported(client(ctx), period, account, "json" if as_json else form)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise Refused(f"{output} is there already; name another file") from None
    except OSError as exc:
        raise click.UsageError(
            f"--output {output}: {exc.strerror}; name a file in a folder that you may write to"
        ) from exc
    say(f"Written: {output}")


@invoice.command()
@click.argument("invoice_id", metavar="INVOICE")
@click.argument("amount", type=Number())
@click.option("--reason", required=True, help="Stands on the note. The same reason again is the same note.")
@json_option
@click.pass_context
def credit(ctx: click.Context, invoice_id: str, amount: str, reason: str, as_json: bool) -> None:
    """Give AMOUNT of a closed invoice's net back by a credit note, with its part of the taxes."""
    document = client(ctx).post("invoices", invoice_id, "credit", body={"amount": amount, "reason": reason})
    if as_json:
        print_json(document)
        return
    note = document["invoice"]
    say(f"{note['id']}: {note['total']} {note['currency']}. `broker invoice push {note['id']}` brings it to Stripe.")


@invoice.command()
@click.argument("invoices", nargs=-1, metavar="[INVOICE]...")
@click.option("--period", type=Month(), metavar="MONTH", help="All of this month's, with its credit notes.")
@json_option
@click.pass_context
def push(ctx: click.Context, invoices: tuple[str, ...], period: str | None, as_json: bool) -> int:
    """Bring closed invoices to Stripe, which collects them. Again: goes on where it stopped, and doubles nothing."""
    if not invoices and period is None:
        raise click.UsageError("name invoices, or a month with --period")
    patient = client(ctx).with_timeout(600)
    document = patient.post("billing", "push", body={"invoices": list(invoices), "period": period})
    if as_json:
        print_json(document)
    else:
        for each in document["pushed"]:
            say(f"{each['invoice']}: {each['status'] or each['error']}")
    return 1 if any(each["error"] for each in document["pushed"]) else 0


def _exported(ask: Client, period: str, account: str | None, form: str) -> str:
    if form == "json":
        return json.dumps(ask.get("billing", "preview", period=period, account=account), indent=2) + "\n"
    text: str = ask.get("invoices", "export", period=period, account=account, format=form)["text"]
    return text


def _print(each: dict[str, Any]) -> None:
    state = f"closed {each['closed_at'][:10]} by {each['closed_by']}" if each["closed_at"] else "open"
    centre = f", cost centre {each['cost_centre']}" if each["cost_centre"] else ""
    say(f"{each['id']}{centre} ({state})")
    if each["refers_to"]:
        say(f"  credit for {each['refers_to']}: {each['note']}")
    rows = [
        (line["text"], _short(line["hours"]), f"{_short(line['unit_price'])} {line['currency']}", line["amount"])
        for line in each["lines"]
    ]
    rows += [(f"{tax['name']} ({tax['percent']} %)", "", "", tax["amount"]) for tax in each["taxes"]]
    rows.append((f"total in {each['currency']}", "", "", each["total"]))
    table(("WHAT", "HOURS", "AN HOUR", "AMOUNT"), rows, right=frozenset({"HOURS", "AN HOUR", "AMOUNT"}))


def _short(number: str) -> str:
    whole, dot, part = number.partition(".")
    return whole + dot + part[:4] if part else whole
