"""The bytes of an export, block by block: a file, a gzipped one, or standard input."""

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from broker.accounting.columns import UnreadableExport

STDIN = Path("-")
BLOCK = 8 << 20
"""Bytes that are worked on at once. Too small: each block has its own overhead; too large: memory."""
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """`path` as bytes, unzipped; `-` is standard input. UnreadableExport: it is not there, not ours to read, or cut off."""
    try:
        if path == STDIN:
            yield _unzipped(cast(BinaryIO, sys.stdin.buffer))
        else:
            with path.open("rb") as raw:
                yield _unzipped(raw)
    except (OSError, EOFError) as exc:
        raise UnreadableExport(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc


def _unzipped(raw: BinaryIO) -> BinaryIO:
    head = raw.peek(2)[:2] if hasattr(raw, "peek") else b""
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if head == _GZIP else raw


def blocks(stream: BinaryIO, size: int = BLOCK) -> Iterator[bytes]:
    """Whole lines in valid UTF-8, each ended by one newline; what is not UTF-8, and NUL, becomes U+FFFD."""
    kept = b""
    first = True
    while read := stream.read(size):
        if first:
            read, first = read.removeprefix(_BOM), False
        cut = read.rfind(b"\n") + 1
        if cut:
            yield _clean(b"".join((kept, memoryview(read)[:cut])))
            kept = read[cut:]
        else:
            kept += read
    if kept:
        yield _clean(kept + b"\n")


def _clean(block: bytes) -> bytes:
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\0" in block:  # no name has one, and PostgreSQL takes none
        block = block.replace(b"\0", "\ufffd".encode())
    return block if block.isascii() else block.decode("utf-8", "replace").encode()
