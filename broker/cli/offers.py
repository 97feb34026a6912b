"""`broker offers`."""

import time
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from broker.cli.output import columns, grid, json_option, live, print_json, say, table
from broker.cli.socket_path import client
from broker.cli.words import age, price

_WATCHED_EVERY_S = 2.0
_RIGHT = frozenset({"CPU/GiB", "CHANCE", "AGE"})


class _Money(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs only
    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal(0)
        if not (amount.is_finite() and amount > 0):
            self.fail(f"{value!r} is no price; write a number above 0, such as 4.50", param, ctx)
        return str(amount)


@click.command()
@click.option("--gpu", metavar="MODEL", help="Only this model, such as H100, 'A100 80GB' or 'H100 PCIe'.")
@click.option("--provider", metavar="NAME", help="Only this credential, or this kind of provider.")
@click.option("--zone", metavar="ZONE", help="Only this zone, place, country (US) or grid zone (US-TEX-ERCO).")
@click.option("--max-price", metavar="PRICE", type=_Money(), help="At most so much an hour for the whole machine.")
@click.option("--shape", metavar="NAME", help="Only what may be bought for this shape, ranked as the daemon does.")
@click.option("--available", is_flag=True, help="Only what can be had now: the table's default, for --json.")
@click.option("--all", "include_all", is_flag=True, help="List what is sold out or does not fit, too.")
@click.option(
    "--sort",
    type=click.Choice(["price", "chance", "score", "age"]),
    help="Cheapest, likeliest, best or newest first. Default: price; with --shape, score.",
)
@click.option("--watch", is_flag=True, help="Draw the table anew every 2 seconds, until Ctrl-C.")
@json_option
@click.pass_context
def offers(
    ctx: click.Context,
    gpu: str | None,
    provider: str | None,
    zone: str | None,
    max_price: str | None,
    shape: str | None,
    available: bool,
    include_all: bool,
    sort: str | None,
    watch: bool,
    as_json: bool,
) -> None:
    """What could be bought now, cheapest first.

    Each credential's last reading; AGE says how old it is, CHANCE how likely a purchase now is to be answered with a
    machine (--json says why). --json always lists the sold-out ones too ("available": false), unless --available.
    """
    if watch and as_json:
        raise click.UsageError("--watch draws a table and --json prints one document; choose one of them")
    if available and include_all:
        raise click.UsageError("--available and --all say the opposite; choose one of them")
    asked = {"gpu": gpu, "provider": provider, "zone": zone, "max_price": max_price, "shape": shape, "sort": sort}
    daemon = client(ctx)

    def ask() -> dict[str, Any]:
        return daemon.get("offers", **asked, available="true" if available else None)

    if watch:
        _watch(ask, asked, include_all)
        return
    document = ask()
    if as_json:
        print_json(document)
        return
    shown = _shown(document, include_all)
    if shown:
        table(*_table(shown), right=_RIGHT | {_price_heading(shown)}, gap=_gap())
    for line in _summary(document, asked, include_all):
        say(line)


def _watch(ask: Any, asked: dict[str, str | None], include_all: bool) -> None:
    try:
        with live() as draw:
            while True:
                document = ask()
                shown = _shown(document, include_all)
                below = "\n".join(_summary(document, asked, include_all))
                draw(grid(*_table(shown), right=_RIGHT | {_price_heading(shown)}, gap=_gap()) if shown else None, below)
                time.sleep(_WATCHED_EVERY_S)
    except KeyboardInterrupt:
        return


def _shown(document: dict[str, Any], include_all: bool) -> list[dict[str, Any]]:
    return [offer for offer in document["offers"] if include_all or (offer["available"] and offer["unfit"] is None)]


def _gap() -> int:
    """A narrow terminal has room for words or for air."""
    return 2 if columns(100) == 100 else 1


def _price_heading(shown: list[dict[str, Any]]) -> str:
    return f"{shown[0]['currency']}/h" if shown else ""


def _table(shown: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    currency = shown[0]["currency"]
    headings = ("SOLD BY", "ZONE", "TYPE", "GPU", "CPU/GiB", _price_heading(shown), "CHANCE", "AGE")
    rows: list[tuple[str, ...]] = [
        (
            offer["provider"],
            offer["zone"],
            offer["instance_type"] + _market(offer) + _why_not(offer),
            _gpu(offer),
            f"{offer['hardware']['cpus']}/{offer['hardware']['memory_gib']}",
            price(offer["price_per_hour"]) + ("" if offer["currency"] == currency else f" {offer['currency']}"),
            f"{offer['p_success'] * 100:.0f}%",
            age(offer["observed_at"]),
        )
        for offer in shown
    ]
    return headings, rows


def _summary(document: dict[str, Any], asked: dict[str, str | None], include_all: bool) -> list[str]:
    known = document["offers"]
    fit = [offer for offer in known if offer["unfit"] is None]
    available = [offer for offer in fit if offer["available"]]
    what = f" with {asked['gpu']}" if asked["gpu"] else ""
    lines = []
    if not known:
        others = [name for name in ("provider", "zone", "max_price", "shape") if asked[name]]
        lines.append(
            f"No offer{what} is like that; leave out "
            + " or ".join(f"--{name.replace('_', '-')}" for name in others)
            + "."
            if others
            else f"No offer{what} is known. `broker status` says whether the providers answer and offers were read."
        )
    elif asked["shape"] and not available:
        lines.append(f"Nothing can be bought for {asked['shape']} now:")
        lines += [f"  {count} x {reason}" for reason, count in _counted(known)]
    elif not available:
        lines.append(
            f"Everything{what} is sold out ({len(known)} offers). Jobs wait and are tried again by themselves."
        )
    elif not include_all and len(known) > len(available):
        kind = "Sold out or unfit" if asked["shape"] else "Sold out"
        lines.append(f"{kind}: {len(known) - len(available)} more; --all lists them.")
    lines += [
        f"{look['provider']}: its newest list is not used: {look['note']}"
        for look in document["readings"]
        if look["note"]
    ]
    return lines


def _counted(known: list[dict[str, Any]]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for offer in known:
        reason = offer["unfit"] or "sold out"
        counts[reason] = counts.get(reason, 0) + 1
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _why_not(offer: dict[str, Any]) -> str:
    reason = offer["unfit"] or (None if offer["available"] else "sold out")
    return f" ({reason})" if reason else ""


def _market(offer: dict[str, Any]) -> str:
    return "" if offer["capacity_type"] == "on_demand" else f" {offer['capacity_type']}"


def _gpu(offer: dict[str, Any]) -> str:
    hardware = offer["hardware"]
    if not hardware["accelerator"]:
        return "-"
    memory = hardware["accelerator_memory_gib"]
    odd = "!" if offer["gpu"] and offer["gpu"]["odd_memory"] else ""
    return f"{hardware['accelerator_count']}x {hardware['accelerator']}" + (f" {memory}G{odd}" if memory else "")
