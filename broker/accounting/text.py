"""`sacct -P`: whole lines by the block, odd ones one by one. No row is dropped without a word."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from broker.accounting.bad import BadLine
from broker.accounting.columns import Layout, check, of_header, of_names
from broker.accounting.joined import Numbered, Row, put_together

LINE = "line"
_UNIT = "\x1f"  # one byte, and in no name: what stands between fields where the export's own delimiter is longer


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some rows of an export: the read columns as text, and `line`. `bad`: lines that are in no row."""

    rows: pl.DataFrame
    bad: list[BadLine] = field(default_factory=list)


def pieces(
    source: str, blocks: Iterable[bytes], columns: Sequence[str] | None, needs: Collection[str]
) -> Iterator[Piece]:
    """The rows of the export whose bytes are `blocks`. `columns`: its columns, where it has no header.

    UnreadableExport: its first line is no header, or does not fit `columns`, or it lacks a column.
    """
    reader = _Reader(source, columns, needs)
    for block in blocks:
        yield from reader.take(block)
    yield reader.end()


class _Reader:
    def __init__(self, source: str, columns: Sequence[str] | None, needs: Collection[str]) -> None:
        self._source, self._columns, self._needs = source, columns, needs
        self._layout: Layout | None = None
        self._delimiter = "|"
        self._header: str | None = None
        self._number = 0
        self._run: list[Numbered] = []

    def take(self, block: bytes) -> Iterator[Piece]:
        if self._layout is None:
            block = self._begin(block)
            if self._layout is None:
                return
        layout = self._layout
        block = self._plain(block)
        lines = pl.read_lines(block).to_series()
        first, self._number = self._number + 1, self._number + len(lines)
        numbers = pl.int_range(first, first + len(lines), dtype=pl.UInt32, eager=True).alias(LINE)
        found = lines.str.count_matches(layout.delimiter, literal=True)
        whole = (found >= layout.separators) if layout.last_is_free else (found == layout.separators)
        if self._header is not None:
            again = lines == self._header
            if again.any():
                whole &= ~again
        if whole.all():
            yield from self._settled(self._run)
            self._run = []
            yield Piece(rows=self._parsed(block, layout, numbers))
            return
        for number, line in zip(numbers.filter(~whole).to_list(), lines.filter(~whole).to_list(), strict=True):
            if self._run and self._run[-1][0] != number - 1:
                yield from self._settled(self._run)
                self._run = []
            if line != self._header:
                self._run.append((number, line))
        if whole.any():
            text = "\n".join(lines.filter(whole).to_list()) + "\n"
            yield Piece(rows=self._parsed(text.encode(), layout, numbers.filter(whole)))

    def end(self) -> Piece:
        """What the last lines were."""
        made = list(self._settled(self._run))
        return made[0] if made else Piece(rows=pl.DataFrame())

    def _begin(self, block: bytes) -> bytes:
        """Finds the layout in the first line that says something, and returns the block from the first row on."""
        while block:
            head, _, rest = block.partition(b"\n")
            line = head.decode()
            if not line.strip():
                self._number += 1
                block = rest
                continue
            unquoted = line.replace('"', "")
            names = self._columns
            layout = of_header(self._source, unquoted) if names is None else of_names(self._source, names, line)
            check(self._source, layout, self._needs)
            self._delimiter = layout.delimiter
            self._layout = Layout(
                names=layout.names,
                delimiter=layout.delimiter if len(layout.delimiter) == 1 else _UNIT,
                trailing=layout.trailing,
            )
            named = [name.lower() for name in unquoted.split(layout.delimiter)]
            if tuple(named[: len(layout.names)]) == layout.names:
                self._number += 1
                self._header = self._plain(head + b"\n").decode().removesuffix("\n")
                return rest
            return block
        return b""

    def _plain(self, block: bytes) -> bytes:
        """`block` with one byte between fields and without quotes, which only spreadsheets write."""
        if self._delimiter in {",", ";", "\t"} and b'"' in block:
            rows = csv.reader(io.StringIO(block.decode(), newline=""), delimiter=self._delimiter)
            assert self._layout is not None  # noqa: S101  # `_begin` comes first
            self._layout = Layout(names=self._layout.names, delimiter=_UNIT, trailing=self._layout.trailing)
            return "".join(_UNIT.join(" ".join(cell.split("\n")) for cell in row) + "\n" for row in rows).encode()
        if self._layout is not None and self._layout.delimiter == _UNIT:
            return block.replace(_UNIT.encode(), b" ").replace(self._delimiter.encode(), _UNIT.encode())
        return block

    def _settled(self, run: Sequence[Numbered]) -> Iterator[Piece]:
        if not run or self._layout is None:
            return
        rows: list[Row] = []
        numbers: list[int] = []
        bad: list[BadLine] = []
        for number, row in put_together(self._layout, run):
            if row is None:
                reason = f"not {len(self._layout.names)} fields"
                bad.append(BadLine(source=self._source, number=number, reason=reason))
            else:
                rows.append(row)
                numbers.append(number)
        frame = pl.DataFrame(
            {name: pl.Series(name, [row[name] for row in rows], pl.String) for name in self._layout.read.values()}
        ).with_columns(pl.Series(LINE, numbers, pl.UInt32))
        yield Piece(rows=frame, bad=bad)

    @staticmethod
    def _parsed(block: bytes, layout: Layout, numbers: pl.Series) -> pl.DataFrame:
        names = [f"column_{place}" for place in range(layout.separators + 1)]
        read = {names[place]: name for place, name in layout.read.items()}
        frame = pl.read_csv(
            block,
            has_header=False,
            separator=layout.delimiter,
            quote_char=None,
            schema=dict.fromkeys(names, pl.String),
            columns=list(read),
            empty_string_is_null=False,
            extra_columns="ignore",
        )
        return frame.rename(read).with_columns(numbers)
