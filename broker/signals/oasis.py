"""CAISO OASIS, what its reports share: one address, a CSV in a zip, errors as XML in a zip with status 200."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from broker.core.errors import SignalUnreadable
from broker.signals.bodies import csv_in_zip, csv_rows
from broker.signals.fetch import Ask

URL = "https://oasis.caiso.com/oasisapi/SingleZip"
INTERVAL = timedelta(seconds=6)
"""Between two requests, for all reports together: OASIS answers 429 to more than about one in five seconds."""

_TIMES = ["intervalstarttime_gmt", "intervalendtime_gmt"]


def ask(query: str, run: str, start: datetime, end: datetime, fresh_for: timedelta, **more: str) -> Ask:
    """The report `query` of the market `run` over [`start`, `end`), at most 31 days."""
    return Ask(
        url=URL,
        params={
            "resultformat": "6",
            "queryname": query,
            "market_run_id": run,
            "version": "1",
            "startdatetime": f"{start.astimezone(UTC):%Y%m%dT%H:%M}-0000",
            "enddatetime": f"{end.astimezone(UTC):%Y%m%dT%H:%M}-0000",
            **more,
        },
        fresh_for=fresh_for,
        known_as=f"{URL}/{query}/{run}/{more.get('node', '')}",
    )


def rows(body: bytes, what: str, needed: Sequence[str]) -> list[tuple[datetime, datetime, dict[str, str]]]:
    """Start, end and the row, in no order. SignalUnreadable: not one row, or not this report."""
    found = [
        (_moment(row[_TIMES[0]]), _moment(row[_TIMES[1]]), row)
        for row in csv_rows(csv_in_zip(body, what), what, [*_TIMES, *needed])
    ]
    if not found:
        raise SignalUnreadable(f"{what}: no row in it")
    return found


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return at.astimezone(UTC)
