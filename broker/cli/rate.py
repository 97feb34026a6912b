"""`broker rate`."""

from typing import Any

import click

from broker.cli.months import Moment, Number
from broker.cli.output import json_option, print_json, say, table
from broker.cli.socket_path import client

_KINDS = ("price", "margin", "share", "quota", "exchange", "tax", "cost_centre")
_SLICES = ("boot", "failed_boot", "job", "idle", "parked", "release")


@click.group()
def rate() -> None:
    """What usage is charged at. Each version holds from its date on; what was charged before stays."""


@rate.command("list")
@click.option("--account", metavar="NAME", help="Only what holds for this account, general terms too.")
@json_option
@click.pass_context
def list_(ctx: click.Context, account: str | None, as_json: bool) -> None:
    """List every version of every term, oldest first."""
    document = client(ctx).get("billing", "terms")
    terms = [term for term in document["terms"] if account is None or term["account"] in (None, account)]
    if as_json:
        print_json({"schema_version": 1, "terms": terms})
        return
    if not terms:
        say(
            "No term was set: usage is charged as the provider takes it. `broker rate set price 2.99 --gpu H100` sets one."
        )
        return
    rows = [
        (
            term["kind"],
            _value(term),
            term["account"] or "all",
            term["gpu"] or term["slice_kind"] or term["name"] or "",
            term["effective_from"][:16].replace("T", " "),
            term["set_by"],
        )
        for term in terms
    ]
    table(("TERM", "VALUE", "ACCOUNT", "FOR", "FROM (UTC)", "SET BY"), rows, right=frozenset({"VALUE"}))


@rate.command("set")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("value")
@click.option("--account", metavar="NAME", help="Slurm's account; else all.")
@click.option(
    "--gpu", metavar="MODEL", help="A GPU model, or cpu for machines without; else all. Of a price, margin, quota."
)
@click.option("--kind", "slice_kind", type=click.Choice(_SLICES), help="Of a share: which time.")
@click.option("--name", metavar="TEXT", help="The tax's name, or the currency that is exchanged.")
@click.option("--currency", metavar="CODE", help="Of a price; else that of the invoices.")
@click.option("--from", "since", type=Moment(), help="In force from then on (UTC); else from now.")
@click.option("--source", metavar="TEXT", help="Where it comes from; a rate of exchange needs it.")
@json_option
@click.pass_context
def set_(
    ctx: click.Context,
    kind: str,
    value: str,
    account: str | None,
    gpu: str | None,
    slice_kind: str | None,
    name: str | None,
    currency: str | None,
    since: str | None,
    source: str | None,
    as_json: bool,
) -> None:
    """Set a term, or withdraw it with VALUE none.

    price: money a GPU-hour. margin: per cent on the provider's price where no price is set. share: per cent of a kind of
    time that are charged. quota: free GPU-hours a month. exchange: units of the invoices' currency for one of --name.
    tax: per cent on the net. cost_centre: a text.
    """
    text = value if kind == "cost_centre" and value != "none" else None
    number = None if value == "none" or text is not None else Number().convert(value, None, ctx)
    body: dict[str, Any] = {
        "kind": kind,
        "value": number,
        "text": text,
        "account": account,
        "gpu": gpu,
        "slice_kind": slice_kind,
        "name": name,
        "currency": currency,
        "effective_from": since,
        "source": source,
    }
    document = client(ctx).post("billing", "terms", body=body)
    if as_json:
        print_json(document)
        return
    (term,) = document["terms"]
    say(f"From {term['effective_from'][:16].replace('T', ' ')} UTC on: {kind} {_value(term)} for {account or 'all'}.")


def _value(term: dict[str, Any]) -> str:
    value = term["text"] or term["value"]
    if value is None:
        return "withdrawn"
    unit = {"margin": " %", "share": " %", "tax": " %", "quota": " h"}.get(term["kind"], "")
    return f"{value}{unit}" + (f" {term['currency']}" if term["currency"] else "")
