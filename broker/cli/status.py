"""`broker status`."""

from typing import Any

import click

from broker.cli.output import facts, json_option, print_json
from broker.cli.socket_path import client
from broker.cli.words import age


@click.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """The daemon at a glance: does it buy, what is rented, do providers answer, do its activities get on."""
    document = client(ctx).get("status")
    if as_json:
        print_json(document)
        return
    print_status(document)


def print_status(document: dict[str, Any]) -> None:
    count = document["living_leases"]
    rows = [
        ("broker", f"{document['version']}, cluster {document['cluster']}"),
        ("slurmctld", f"asked by {document['slurm']}"),
        ("buying", f"paused: {document['paused']} (`broker resume` ends it)" if document["paused"] else "on"),
        ("machines", f"{count} rented or on their way (`broker lease list`)" if count else "none is rented"),
    ]
    rows += _block("providers", [f"{name}: {health}" for name, health in sorted(document["providers"].items())])
    rows += _block("activities", [_activity(name, each) for name, each in sorted(document["activities"].items())])
    facts(rows)


def _activity(name: str, activity: dict[str, Any]) -> str:
    last = activity["last_success_at"]
    well = "not done yet" if last is None else f"done {age(last)} ago"
    return f"{name}: {well}" + (f"; now failing: {activity['last_error']}" if activity["last_error"] else "")


def _block(name: str, lines: list[str]) -> list[tuple[str, str]]:
    return [(name if number == 0 else "", line) for number, line in enumerate(lines or ["none"])]
