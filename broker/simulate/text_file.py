"""The lines of a file, gzipped or not."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from broker.simulate.trace import Unreadable

_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """`path` as text (UTF-8, broken bytes replaced). Unreadable: it is not there, not ours to read, or cut off."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP
        if zipped:
            with gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as text:
                yield text
        else:
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
                yield text
    except (OSError, EOFError) as exc:
        raise Unreadable(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
