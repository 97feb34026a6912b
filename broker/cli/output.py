"""Printing: JSON for programs, text and tables of at most 80 columns for people."""

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from broker.cli.words import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")


def print_json(document: dict[str, Any]) -> None:
    """Escaped to ASCII, so that it neither depends on the locale nor steers a terminal."""
    click.echo(json.dumps(document, indent=2))


def say(text: str, indent: str = "", hanging: str | None = None) -> None:
    """A paragraph for people, wrapped; `hanging` indents the lines after the first."""
    for line in printable(text).splitlines() or [""]:
        click.echo(
            textwrap.fill(
                line,
                width=columns(),
                initial_indent=indent,
                subsequent_indent=indent if hanging is None else hanging,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
        indent = indent if hanging is None else hanging


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values below one another; an empty name continues the row above."""
    listed = list(rows)
    width = max((len(name) for name, _ in listed), default=0) + 2
    for name, value in listed:
        say(value, indent=f"{name:<{width}}", hanging=" " * width)


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: frozenset[str] = frozenset(),
    styles: Mapping[str, str] | None = None,
    gap: int = 2,
) -> None:
    """Columns named in `right` are set flush right, `gap` blanks apart; `styles`: cell → style.

    Cells that do not fit are wrapped, never cut.
    """
    _console().print(grid(headings, rows, right, styles, gap))


def grid(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: frozenset[str] = frozenset(),
    styles: Mapping[str, str] | None = None,
    gap: int = 2,
) -> "Table":
    """What `table` prints."""
    from rich.table import Table  # noqa: PLC0415  # 0.04 s that `broker why` need not pay
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell), style=(styles or {}).get(cell, "")) for cell in row))
    return made


@contextmanager
def live() -> "Iterator[Callable[[Table | None, str], None]]":
    """Yields what draws a table, or none, and text below it, over what it drew before."""
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=_console(), auto_refresh=False, vertical_overflow="crop") as screen:

        def draw(drawn: "Table | None", below: str) -> None:
            parts: list[Table | Text] = [] if drawn is None else [drawn]
            screen.update(Group(*parts, Text(printable(below))), refresh=True)

        yield draw


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415

    return Console(file=sys.stdout, width=columns(100), highlight=False)


def columns(most: int = 80) -> int:
    """80, or less on a narrower terminal: lines longer than that are hard to read and to paste. Tables may have more."""
    try:
        return min(most, max(40, os.get_terminal_size(sys.stdout.fileno()).columns))
    except (OSError, ValueError):
        return 80
