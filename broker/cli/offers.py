"""`broker offers`."""

from decimal import Decimal
from typing import Any

import click

from broker.cli.output import json_option, print_json, say, table
from broker.cli.socket_path import client
from broker.cli.words import age, price


@click.command()
@click.option("--gpu", metavar="MODEL", help="Only this model, such as H100.")
@click.option("--all", "include_sold_out", is_flag=True, help="List what is sold out too.")
@json_option
@click.pass_context
def offers(ctx: click.Context, gpu: str | None, include_sold_out: bool, as_json: bool) -> None:
    """What could be bought now, cheapest first.

    Each credential's last reading; AGE says how old it is. --json always lists the sold-out ones too
    ("available": false).
    """
    document = client(ctx).get("offers", gpu=gpu)
    if as_json:
        print_json(document)
        return
    everything: list[dict[str, Any]] = sorted(document["offers"], key=_by_price)
    available = [offer for offer in everything if offer["available"]]
    shown = everything if include_sold_out else available
    if shown:
        _print(shown)
    _summary(gpu, len(available), len(everything), include_sold_out)


def _print(shown: list[dict[str, Any]]) -> None:
    currency = shown[0]["currency"]
    headings = ("CREDENTIAL", "ZONE", "TYPE", "GPU", "CPU", "GiB", f"{currency}/h", "AGE")
    rows = [
        (
            offer["provider"],
            offer["zone"],
            offer["instance_type"] + ("" if offer["available"] else " (sold out)"),
            _gpu(offer["hardware"]),
            str(offer["hardware"]["cpus"]),
            str(offer["hardware"]["memory_gib"]),
            price(offer["price_per_hour"]) + ("" if offer["currency"] == currency else f" {offer['currency']}"),
            age(offer["observed_at"]),
        )
        for offer in shown
    ]
    table(headings, rows, right=frozenset({"CPU", "GiB", f"{currency}/h", "AGE"}))


def _summary(gpu: str | None, available: int, known: int, include_sold_out: bool) -> None:
    what = f" with {gpu}" if gpu else ""
    sold_out = known - available
    if not known:
        say(f"No offer{what} is known. `broker status` says whether the providers answer and offers were read.")
    elif not available:
        say(f"Everything{what} is sold out ({sold_out} offers). Jobs wait and are tried again by themselves.")
    elif sold_out and not include_sold_out:
        say(f"Sold out: {sold_out} more; --all lists them.")


def _gpu(hardware: dict[str, Any]) -> str:
    if not hardware["accelerator"]:
        return "-"
    memory = hardware["accelerator_memory_gib"]
    return f"{hardware['accelerator_count']}x {hardware['accelerator']}" + (f" {memory}G" if memory else "")


def _by_price(offer: dict[str, Any]) -> tuple[bool, Decimal, str]:
    return not offer["available"], Decimal(offer["price_per_hour"]), offer["id"]
