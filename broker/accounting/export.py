"""One export, from its bytes to its runs; and several, as one."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import BinaryIO

import polars as pl

from broker.accounting.bad import BadLine
from broker.accounting.columns import UnreadableExport
from broker.accounting.document import piece_of_document
from broker.accounting.source import blocks, opened
from broker.accounting.text import LINE, Piece, pieces
from broker.accounting.typed import SCHEMA, typed

# Pieces that wait for their turn. More of them are more memory, and the other core has enough to do with two.
_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was read. `rows`: of jobs and of steps, whole or bad; `runs`: as `typed.SCHEMA`, one a row, with its `line`."""

    runs: pl.DataFrame
    rows: int
    steps: int
    bad: tuple[BadLine, ...]
    has_allocation: bool
    """AllocTRES was there to be read; without it nothing is known of GPUs."""


def read(
    path: Path, *, columns: Sequence[str] | None = None, zone: tzinfo | None = None, needs: Collection[str] = ()
) -> Export:
    """The export in `path`, text or JSON, gzipped or not; `-`: standard input.

    `columns`: its columns, where it has no header; `zone`: whose wall clock its times are, where they are not seconds
    (None: UTC); `needs`: columns that a text export must have beside the usual. UnreadableExport: it cannot be opened, or
    is no export of sacct.
    """
    with opened(path) as stream:
        return _read(str(path), stream, columns, zone, needs)


def joined(exports: Iterable[Export]) -> Export:
    """Several exports, row by row: what is in two of them is there twice (`history.current` tells them apart)."""
    found = list(exports)
    return Export(
        runs=pl.concat([export.runs for export in found]) if found else pl.DataFrame(schema=SCHEMA | {LINE: pl.UInt32}),
        rows=sum(export.rows for export in found),
        steps=sum(export.steps for export in found),
        bad=tuple(line for export in found for line in export.bad),
        has_allocation=any(export.has_allocation for export in found),
    )


def _read(
    source: str, stream: BinaryIO, columns: Sequence[str] | None, zone: tzinfo | None, needs: Collection[str]
) -> Export:
    lines = blocks(stream)
    first = next(lines, b"")
    if not first.strip():
        raise UnreadableExport(f"{source} is empty: sacct wrote nothing, not even a header")
    found: Iterator[Piece]
    if first.lstrip()[:1] == b"{":
        found = iter([piece_of_document(source, b"".join((first, *lines)))])
    else:
        found = pieces(source, _chained(first, lines), columns, needs)
    runs: list[pl.DataFrame] = []
    bad: list[BadLine] = []
    rows = steps = 0
    has_allocation = False
    for piece, (made, wrong, skipped) in _worked(source, found, zone):
        has_allocation |= "alloctres" in piece.rows.columns
        rows += piece.rows.height + len(piece.bad)
        steps += skipped
        bad += [*piece.bad, *wrong]
        runs.append(made)
    return Export(
        runs=pl.concat(runs) if runs else pl.DataFrame(schema=SCHEMA | {LINE: pl.UInt32}),
        rows=rows,
        steps=steps,
        bad=tuple(sorted(bad, key=lambda line: line.number)),
        has_allocation=has_allocation,
    )


_Typed = tuple[pl.DataFrame, list[BadLine], int]


def _worked(source: str, found: Iterable[Piece], zone: tzinfo | None) -> Iterator[tuple[Piece, _Typed]]:
    """Each piece and what was made of it, by a second thread: polars works outside the interpreter's lock."""
    waiting: deque[tuple[Piece, Future[_Typed]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for piece in found:
            waiting.append((piece, pool.submit(typed, source, piece.rows, zone)))
            while len(waiting) > _AHEAD:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _chained(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
