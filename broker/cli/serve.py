"""`broker serve`."""

from pathlib import Path

import click

from broker.cli.options import config_option


@click.command()
@config_option
def serve(config_path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    from broker.daemon import run  # noqa: PLC0415  # imports half the world

    run(config_path)
