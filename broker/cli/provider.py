"""`broker provider`."""

import time
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from broker.cli.client import Client
from broker.cli.failures import FAILED, UNREACHABLE
from broker.cli.output import facts, json_option, print_json, say, table
from broker.cli.socket_path import client
from broker.cli.words import age, cost, moment, price, printable, span

_POLL_S = 1.0
_STYLES = {"ok": "green", "suspended": "bold red", "protected": "bold red", "paused": "bold yellow"}
_NAME = click.argument("name", metavar="NAME")


class _Money(click.ParamType[Decimal]):
    name = "money"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal(0)
        if not amount.is_finite() or amount <= 0:
            self.fail(f"{value!r} is no price: a number above 0, such as 2.50", param, ctx)
        return amount


@click.group()
def provider() -> None:
    """The credentials: how each stands, what is left alone there and why."""


@provider.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List the credentials: state, offers, machines, money an hour, the last look."""
    document = client(ctx).get("providers")
    if as_json:
        print_json(document)
        return
    rows = [
        (
            each["name"],
            each["kind"],
            each["state"],
            f"{each['offers_available']}/{each['offers']}",
            age(each["offers_read_at"]),
            str(each["machines"]),
            _rate(each),
            _looked(each["look"]),
        )
        for each in document["providers"]
    ]
    table(
        ("CREDENTIAL", "KIND", "STATE", "OFFERS", "READ", "MACHINES", "PER HOUR", "LOOK"),
        rows,
        right=frozenset({"OFFERS", "READ", "MACHINES", "PER HOUR"}),
        styles=_STYLES,
    )
    for each in document["providers"]:
        if each["state"] != "ok":
            say(f"{each['name']}: {each['reason']}{_raw(each['error'])}", hanging="  ")
            say(f"`broker provider show {each['name']}` tells more; `broker provider resume {each['name']}` ends it.")
        if not each["trusted"]:
            say(f'{each["name"]}: trust = "none": no node is bought there.', hanging="  ")


@provider.command()
@_NAME
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show one credential: blocks, what opened them, limits, trust, boot times, residue."""
    document = client(ctx).get("providers", name)
    if as_json:
        print_json(document)
        return
    _print(document["provider"])


@provider.command()
@_NAME
@click.option("--buy", is_flag=True, help="Buy the cheapest machine, look whether it is what was sold, give it back.")
@click.option("--max-price", type=_Money(), metavar="USD", help="With --buy: the most that it may cost an hour.")
@click.option("--gpu", metavar="MODEL", help="With --buy: only this model.")
@click.option("--yes", is_flag=True, help="With --buy: do not ask first.")
@json_option
@click.pass_context
def test(
    ctx: click.Context, name: str, buy: bool, max_price: Decimal | None, gpu: str | None, yes: bool, as_json: bool
) -> None:
    """Try a credential: what it sells and what lives there, how long the answers take, how far the clocks are apart.

    Buys nothing without --buy. With it one machine is bought, never joins the cluster, and is given back whatever happens,
    also when this command is interrupted or the daemon dies.
    """
    ask = client(ctx)
    if not buy:
        if max_price is not None or gpu is not None or yes:
            raise click.UsageError("--max-price, --gpu and --yes belong to --buy")
        _look(ctx, ask, name, as_json)
        return
    if max_price is None:
        raise click.UsageError("--buy needs --max-price USD: the most that the machine may cost an hour")
    _buy(ctx, ask, name, max_price, gpu, yes, as_json)


@provider.command()
@_NAME
@click.option("--reason", required=True, help="Shown by `broker provider list` and to the owners of waiting jobs.")
@json_option
@click.pass_context
def pause(ctx: click.Context, name: str, reason: str, as_json: bool) -> None:
    """Buy nothing with this credential. Its machines are kept, and given back as usual."""
    document = client(ctx).post("providers", name, "pause", body={"reason": reason})
    if as_json:
        print_json(document)
        return
    say(f"{name} is {document['providers'][0]['reason']}")
    say(f"Its machines are kept. `broker provider resume {name}` buys again.")


@provider.command()
@_NAME
@json_option
@click.pass_context
def resume(ctx: click.Context, name: str, as_json: bool) -> None:
    """Buy with this credential again, now: all that is left alone there is tried again, but for machines that lied."""
    document = client(ctx).post("providers", name, "resume")
    if as_json:
        print_json(document)
        return
    say(f"{name} is {document['providers'][0]['state']}; its next purchase shows whether it works.")


def _look(ctx: click.Context, ask: Client, name: str, as_json: bool) -> None:
    document = ask.post("providers", name, "test")
    if as_json:
        print_json(document)
    else:
        rows = [
            (call["call"], f"{call['found'] or 'FAILED: ' + call['error']} ({call['seconds']:.2f} s)")
            for call in document["calls"]
        ]
        facts([*rows, ("clock", _clocks(document["clock_offset_s"]))])
    if not document["works"]:
        ctx.exit(UNREACHABLE)


def _buy(
    ctx: click.Context, ask: Client, name: str, max_price: Decimal, gpu: str | None, yes: bool, as_json: bool
) -> None:
    quote = ask.get("providers", name, "quote", max_price=str(max_price), gpu=gpu)
    offer = quote["offer"]
    what = f"{offer['instance_type']} in {offer['zone']} at {price(offer['price_per_hour'])} {offer['currency']}/h"
    click.echo(printable(f"To buy as a test of shape {quote['shape']}, and to give back: {what}."), err=True)
    if not yes:
        click.confirm("Buy it?", abort=True, err=True)
    body = {"offer_id": offer["id"], "max_price": str(max_price)}
    lease_id = ask.post("providers", name, "trial", body=body)["lease_id"]
    click.echo(f"Lease {lease_id}; the machine is given back also if you interrupt this.", err=True)
    lease = _until_released(ask, lease_id)
    if as_json:
        print_json({"schema_version": 1, "accepted": _accepted(lease), "lease": lease})
    else:
        say(f"{lease['reason']}; it is given back, and cost {cost(lease['cost'])}.")
    if not _accepted(lease):
        ctx.exit(FAILED)


def _until_released(ask: Client, lease_id: str) -> dict[str, Any]:
    told = 0
    while True:
        lease: dict[str, Any] = ask.get("leases", lease_id)["lease"]
        for event in lease["events"][told:]:
            click.echo(printable(f"{moment(event['at'])}  {event['reason']}"), err=True)
        told = len(lease["events"])
        if lease["state"] == "released":
            return lease
        time.sleep(_POLL_S)


def _accepted(lease: dict[str, Any]) -> bool:
    return any(event["reason"].startswith("accepted") for event in lease["events"])


def _print(each: dict[str, Any]) -> None:
    calls, creates = each["call_interval_ms"], each["create_interval_ms"]
    rows = [
        ("credential", f"{each['name']} ({each['kind']})"),
        ("state", each["state"] + (f": {each['reason']}{_raw(each['error'])}" if each["reason"] else "")),
        ("trust", "full: its machines may hold the munge key" if each["trusted"] else "none: no node is bought there"),
        ("offers", f"{each['offers_available']} of {each['offers']} to be had, read {age(each['offers_read_at'])} ago"),
        ("machines", f"{each['machines']} of ours, {_rate(each)} an hour"),
        ("last look", _looked(each["look"]) + (_raw(each["look"]["error"]) if each["look"] else "")),
        ("clock", _clocks(each["clock_offset_s"])),
        (
            "limits",
            f"a call every {_interval(calls)}, a purchase every {_interval(creates)}; "
            f"the next purchase may be sent in {each['create_wait_s']:.0f} s",
        ),
        (
            "billing",
            f"begun units of {each['bill_granularity_s']} s; power-off "
            f"{'stops' if each['power_off_stops_billing'] else 'does not stop'} it; "
            f"a new machine may be hidden for {each['visibility_lag_s']:.0f} s",
        ),
    ]
    facts(rows)
    _section("Left alone now", [_block(block) for block in each["blocks"]])
    _section("Boot times", [_boot(boot) for boot in each["boots"]])
    _section("Left behind, and removed", [_left(left) for left in each["residue"]])
    _section("What happened", [_event(event) for event in each["events"]])


def _section(title: str, lines: list[str]) -> None:
    if lines:
        click.echo(f"\n{title}")
        for line in lines:
            say(line, indent="  ", hanging="    ")


def _block(block: dict[str, Any]) -> str:
    if block["open"]:
        by_word = block["cause"] in {"paused", "refused"}
        until = "" if by_word or not block["until"] else f" until {moment(block['until'])}"
    elif block["strikes"] < block["strikes_to_open"]:
        until = f" counted: {block['strikes']} of {block['strikes_to_open']}"
    elif block["trying"]:
        until = f", lease {block['trying']} tries"
    else:
        until = ", the next purchase tries"
    subject = f" {block['subject']}" if block["subject"] else ""
    return f"{block['scope']}{subject} ({block['cause']}){until}: {block['reason']}{_raw(block['error'])}"


def _boot(boot: dict[str, Any]) -> str:
    half, most = span(boot["p50_s"]), span(boot["p95_s"])
    return f"{boot['instance_type']}: half within {half}, 95 % within {most} ({boot['boots']} boots)"


def _left(left: dict[str, Any]) -> str:
    end = f"gone {moment(left['removed_at'])}" if left["removed_at"] else "NOT GONE YET"
    return f"{moment(left['found_at'])}  {left['kind']} {left['thing']} ({left['label']}): {left['said']}; {end}"


def _event(event: dict[str, Any]) -> str:
    subject = f" {event['subject']}" if event["subject"] else ""
    return f"{moment(event['at'])}  {event['cause']}{subject} {event['what']}: {event['reason']}{_raw(event['error'])}"


def _raw(error: str | None) -> str:
    return f" ({error})" if error else ""


def _rate(each: dict[str, Any]) -> str:
    rates = [f"{price(one['amount'])} {one['currency']}" for one in each["price_per_hour"]]
    return " and ".join(rates) or "0"


def _looked(look: dict[str, Any] | None) -> str:
    if look is None:
        return "never"
    return f"{'FAILED' if look['error'] else 'ok'} {age(look['at'])} ago"


def _interval(milliseconds: int | None) -> str:
    return "so often as the provider publishes" if milliseconds is None else f"{milliseconds / 1000:g} s"


def _clocks(offset_s: float | None) -> str:
    if offset_s is None:
        return "the provider told no time yet"
    if abs(offset_s) <= 1:
        return "agrees with the provider's to a second or two"
    return f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} the provider's"
