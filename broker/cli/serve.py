"""`broker serve`."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/broker/broker.toml"),
    envvar="BROKER_CONFIG",
    show_default=True,
    help="The configuration file (or BROKER_CONFIG).",
)
def serve(config_path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    from broker.daemon import run  # noqa: PLC0415  # imports half the world

    run(config_path)
