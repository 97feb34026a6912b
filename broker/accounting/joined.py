"""Lines that are no row by themselves: pieces of a row whose text holds line breaks, or rows whose text holds the delimiter.

Only free text can hold either, so there is often just one way to put a row together. Where there are several, and they
disagree in a column that is read, the lines are bad: nothing is guessed.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from math import comb

from broker.accounting.columns import FREE_TEXT, Layout

Numbered = tuple[int, str]
Row = dict[str, str]

# A comment of more lines than that is taken for rubbish; without an end each bad line would be tried with all after it.
_MOST_LINES = 200
_MOST_WAYS = 20_000

_TIME = re.compile(r"(Unknown|None|N/A|\d+|\d{4}-\d\d-\d\dT[^\s]*)?")
_CLOCK = re.compile(r"(UNLIMITED|Partition_Limit|INVALID|[\d:.-]*)")
_NUMBER = re.compile(r"\d*")
_TRES = re.compile(r"([a-z][\w/:.-]*=[^,=\s]*(,[a-z][\w/:.-]*=[^,=\s]*)*)?")
_LOOKS = {
    "jobid": re.compile(r"\d+([_+]\S*)?(\.\S+)?"),
    "jobidraw": re.compile(r"\d+(\.\S+)?"),
    "dbindex": _NUMBER,
    "submit": _TIME,
    "start": _TIME,
    "end": _TIME,
    "suspended": _CLOCK,
    "elapsed": _CLOCK,
    "elapsedraw": _NUMBER,
    "timelimit": _CLOCK,
    "timelimitraw": _CLOCK,
    "state": re.compile(r"[A-Z][A-Z_]*\+?( by \d+)?"),
    "alloctres": _TRES,
    "reqtres": _TRES,
    "alloccpus": _NUMBER,
    "ncpus": _NUMBER,
}
_ONE_LINE = re.compile(r"[^\n]*")


def put_together(layout: Layout, run: Sequence[Numbered]) -> Iterator[tuple[int, Row | None]]:
    """The rows in `run`, lines that follow one another; number and None for each line that is in none of them."""
    at = 0
    while at < len(run):
        number, line = run[at]
        if not line.strip():
            at += 1
            continue
        row, used = _row_at(layout, [text for _, text in run[at : at + _MOST_LINES]])
        yield number, row
        at += used


def _row_at(layout: Layout, lines: Sequence[str]) -> tuple[Row | None, int]:
    """The row that begins with the first of `lines` and how many of them it is."""
    found = 0
    for used, line in enumerate(lines, 1):
        found += line.count(layout.delimiter)
        if found < layout.separators:
            continue
        row = _row(layout, "\n".join(lines[:used]).split(layout.delimiter))
        if row is not None:
            return row, used
        # More delimiters than a row has only get more.
        if found > layout.separators + _spare(layout):
            break
    return None, 1


def _spare(layout: Layout) -> int:
    """How many delimiters too many may be put right."""
    return 16 if FREE_TEXT & set(layout.names) else 0


def _row(layout: Layout, fields: list[str]) -> Row | None:
    if layout.trailing:
        if fields[-1].strip():
            return None
        fields = fields[:-1]
    extra = len(fields) - len(layout.names)
    free = [place for place, name in enumerate(layout.names) if name in FREE_TEXT]
    if extra < 0 or (extra and (not free or comb(extra + len(free) - 1, extra) > _MOST_WAYS)):
        return None
    found: Row | None = None
    for places in combinations_with_replacement(free, extra):
        row = _fitting(layout, fields, places)
        if row is None:
            continue
        if found is not None and found != row:
            return None
        found = row
    return found


def _fitting(layout: Layout, fields: Sequence[str], wider: Sequence[int]) -> Row | None:
    """The read columns, when each place in `wider` holds one delimiter more; None: a column does not look like itself."""
    row: Row = {}
    read = layout.read
    at = 0
    for place, name in enumerate(layout.names):
        if place in read:
            text = fields[at]
            if not _LOOKS.get(name, _ONE_LINE).fullmatch(text):
                return None
            row[name] = text
        elif name not in FREE_TEXT and "\n" in fields[at]:
            return None
        at += 1 + wider.count(place)
    return row
