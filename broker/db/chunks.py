"""Long lists in pieces that fit into one statement: both databases limit its parameters."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_SIZE = 500

Item = TypeVar("Item")


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """`items` in lists of at most 500."""
    rest = iter(items)
    while chunk := list(islice(rest, _SIZE)):
        yield chunk
