"""`broker why`."""

from datetime import date, datetime
from typing import Any

import click

from broker.cli.output import json_option, print_json, say
from broker.cli.socket_path import client
from broker.cli.words import clock, cost, local, price, total


@click.command()
@click.argument("target", metavar="JOBID|NODE")
@json_option
@click.pass_context
def why(ctx: click.Context, target: str, as_json: bool) -> None:
    """What happened to a job or node, what it has cost, and what is awaited.

    Everyone may ask about their own jobs; operators about every job and node.
    """
    document = client(ctx).get("why", target)
    if as_json:
        print_json(document)
        return
    say(document["headline"])
    if document["story"]:
        click.echo()
        _tell(document["story"])
    click.echo()
    _machines(document["leases"])
    if document["awaited"]:
        say(f"Awaited: {document['awaited']}", hanging="         ")


def _tell(story: list[dict[str, Any]]) -> None:
    """`14:02:11  text`, with a line for the day where it is not today's."""
    day: date = datetime.now().astimezone().date()
    for line in story:
        if line["at"] and local(line["at"]).date() != day:
            day = local(line["at"]).date()
            click.echo(day.strftime("%A, %d %B %Y"))
        say(line["text"], indent=f"{clock(line['at']):<8}  ", hanging=" " * 10)


def _machines(leases: list[dict[str, Any]]) -> None:
    bought = [lease for lease in leases if lease["cost"]]
    for lease in bought:
        where = " ".join(lease[key] for key in ("provider", "zone", "instance_type") if lease[key])
        say(
            f"Machine: {lease['node']}, {where}, {price(lease['price_per_hour'])} {lease['currency']} an hour, "
            f"{lease['state']}: {cost(lease['cost'])} (lease {lease['id']})",
            hanging="         ",
        )
    say(f"Money so far: {total(bought) or 'nothing, no machine was bought'}")
