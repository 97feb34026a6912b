"""`broker pause`, `broker resume`."""

import click

from broker.cli.output import json_option, print_json, say
from broker.cli.socket_path import client


@click.command()
@click.option("--reason", required=True, help="Shown by `broker status` and to the owners of waiting jobs.")
@json_option
@click.pass_context
def pause(ctx: click.Context, reason: str, as_json: bool) -> None:
    """Stop all buying. Machines that run are kept, and given back as usual."""
    document = client(ctx).post("pause", body={"reason": reason})
    if as_json:
        print_json(document)
        return
    say(f"Buying is paused: {document['paused']}")
    say("Machines that run are kept. `broker resume` buys again; `broker lease release` gives one back.")


@click.command()
@json_option
@click.pass_context
def resume(ctx: click.Context, as_json: bool) -> None:
    """Buy again."""
    document = client(ctx).post("resume")
    if as_json:
        print_json(document)
        return
    say("Buying is on.")
