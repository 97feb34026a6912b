"""Options that several commands have."""

from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/broker/broker.toml"),
    envvar="BROKER_CONFIG",
    show_default=True,
    help="The configuration file (or BROKER_CONFIG).",
)


class TimeZone(click.ParamType[tzinfo]):
    """A zone of the IANA table, as Europe/Berlin."""

    name = "ZONE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        try:
            return ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder there, as Europe
            self.fail(f"there is no time zone '{value}'; write one as Europe/Berlin or UTC", param, ctx)
