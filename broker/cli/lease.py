"""`broker lease`."""

from typing import Any

import click

from broker.cli.client import Client
from broker.cli.output import facts, json_option, print_json, say, table
from broker.cli.socket_path import client
from broker.cli.words import age, clock, cost, local, moment, price, printable, span


@click.group()
def lease() -> None:
    """The purchases. A lease stands for one machine behind one Slurm node, from wish to confirmed end."""


@lease.command("list")
@click.option("--all", "include_released", is_flag=True, help="Released leases too.")
@click.option("--node", metavar="NAME", help="Only leases of this node.")
@json_option
@click.pass_context
def list_(ctx: click.Context, include_released: bool, node: str | None, as_json: bool) -> None:
    """List the leases, newest first."""
    leases = _all_pages(client(ctx), include_released, node)
    if as_json:
        print_json({"schema_version": 1, "leases": leases})
    elif leases:
        _print_list(leases)
    elif include_released or node:
        say("No lease was found. A job in an elastic partition makes one: `sbatch -p PARTITION …`.")
    else:
        say(
            "No machine is rented now. `broker lease list --all` shows past ones, `broker offers` what could be bought."
        )


@lease.command()
@click.argument("lease_id", metavar="ID")
@json_option
@click.pass_context
def show(ctx: click.Context, lease_id: str, as_json: bool) -> None:
    """Show one lease with its history, steps and cost."""
    document = client(ctx).get("leases", lease_id)
    if as_json:
        print_json(document)
    else:
        _print_lease(document["lease"])


@lease.command()
@click.argument("lease_id", metavar="ID")
@click.option("--reason", required=True, help="Kept in the lease's history.")
@json_option
@click.pass_context
def release(ctx: click.Context, lease_id: str, reason: str, as_json: bool) -> None:
    """Give the machine back. A job on its node is requeued by Slurm.

    Returns at once; `broker lease show ID` tells when the provider has confirmed the end.
    """
    document = client(ctx).post("leases", lease_id, "release", body={"reason": reason})
    if as_json:
        print_json(document)
        return
    given = document["lease"]
    say(f"Lease {given['id']} of {given['node']} is {given['state']}.")
    if given["state"] != "released":
        say(f"It ends when {given['provider'] or 'the provider'} confirms: `broker lease show {given['id']}` tells.")


@lease.command()
@click.argument("lease_id", metavar="ID")
@click.option("--boot", "which", flag_value="boot", default=True, help="What the join did on it (the default).")
@click.option("--console", "which", flag_value="console", help="What the machine itself said.")
@json_option
@click.pass_context
def log(ctx: click.Context, lease_id: str, which: str, as_json: bool) -> None:
    """Print what a lease's machine said while it became a node."""
    document = client(ctx).get("leases", lease_id, "logs", which)
    if as_json:
        print_json(document)
    elif document["text"].strip():
        click.echo(printable(document["text"]).rstrip("\n"))
    else:
        say(f"Nothing was logged yet; `broker lease show {lease_id}` tells how far it is.")


def _all_pages(ask: Client, include_released: bool, node: str | None) -> list[dict[str, Any]]:
    leases: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = ask.get("leases", all="true" if include_released else None, node=node, limit=500, cursor=cursor)
        leases += page["leases"]
        cursor = page["next_cursor"]
        if cursor is None:
            return leases


def _print_list(leases: list[dict[str, Any]]) -> None:
    rows = [
        (
            lease["id"],
            lease["node"],
            lease["state"],
            age(lease["state_since"]),
            " ".join(lease[key] for key in ("provider", "zone") if lease[key]) or "-",
            price(lease["price_per_hour"]),
            cost(lease["cost"]),
        )
        for lease in leases
    ]
    table(
        ("LEASE", "NODE", "STATE", "SINCE", "WHERE", "PER HOUR", "COST"), rows, right=frozenset({"SINCE", "PER HOUR"})
    )


def _print_lease(lease: dict[str, Any]) -> None:
    where = " ".join(lease[key] for key in ("provider", "zone", "instance_type") if lease[key])
    if lease["capacity_type"] not in {None, "on_demand"}:
        where += f" ({lease['capacity_type']})"
    rows = [
        ("lease", f"{lease['id']}, attempt {lease['attempt']} of request {lease['request_id']}"),
        ("node", f"{lease['node']} (shape {lease['shape']})"),
        ("job", str(lease["job_id"] or "-")),
        ("state", f"{lease['state']} since {moment(lease['state_since'])}"),
        ("reason", lease["reason"] or "-"),
        ("machine", where or "none chosen yet"),
        ("instance", " at ".join(lease[key] for key in ("instance_id", "address") if lease[key]) or "-"),
        ("price", f"{price(lease['price_per_hour'])} {lease['currency'] or ''}".strip() + " an hour"),
        ("cost", cost(lease["cost"])),
        ("asked for", f"{moment(lease['requested_at'])}, Slurm waits until {moment(lease['deadline'])}"),
    ]
    facts(row for row in rows if row[1] not in {"-", "- an hour"})
    click.echo("\nHistory")
    for event in lease["events"]:
        say(f"{event['became']}: {event['reason']}", indent=f"  {_stamp(event['at'])}  ", hanging=" " * 23)
    if lease["steps"]:
        click.echo("\nSteps of the join")
        for step in lease["steps"]:
            took = f"{step['seconds']:.1f} s" if step["seconds"] < 120 else span(step["seconds"])
            click.echo(f"  {clock(step['finished_at'])}  {took:>7}  {printable(step['name'])}")


def _stamp(at: str) -> str:
    return local(at).strftime("%Y-%m-%d %H:%M:%S")
