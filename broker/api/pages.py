"""Cursor pagination over a list that is sorted newest first."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime

from broker.services.views import LeaseLine


class BadCursor(ValueError):
    """The cursor is not one that we gave out."""


def page(lines: Sequence[LeaseLine], cursor: str | None, limit: int) -> tuple[list[LeaseLine], str | None]:
    """At most `limit` leases after `cursor`, newest first, and the cursor of the next page (None: this is the last).

    The cursor is the last lease's place in the order, so leases that come and go between two pages are neither
    repeated nor hide others.
    """
    ordered = sorted(lines, key=_place, reverse=True)
    if cursor is not None:
        after = _decode(cursor)
        ordered = [line for line in ordered if _place(line) < after]
    shown = ordered[:limit]
    return shown, _encode(_place(shown[-1])) if len(ordered) > limit else None


def _place(line: LeaseLine) -> tuple[datetime, str]:
    return line.lease.created_at, line.lease.id


def _encode(place: tuple[datetime, str]) -> str:
    return base64.urlsafe_b64encode(f"{place[0].isoformat()} {place[1]}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, _, lease_id = text.partition(" ")
        when = datetime.fromisoformat(at)
    except (ValueError, binascii.Error) as exc:
        raise BadCursor from exc
    if when.tzinfo is None or not lease_id:
        raise BadCursor
    return when, lease_id
