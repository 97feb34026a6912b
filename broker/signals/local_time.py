"""An operator's wall-clock labels to UTC, on the two odd days of the year too."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

PACIFIC = ZoneInfo("America/Los_Angeles")
CENTRAL = ZoneInfo("America/Chicago")


def day_labels(labels: Sequence[str], day: date, zone: ZoneInfo) -> list[datetime | None]:
    """The moments in UTC of one day's `HH:MM` labels, in their order; None: it is no moment of this day.

    The second pass through an hour is told by the order of rows, never guessed: on the day that has 25 hours CAISO prints
    that hour once, so the second pass is a gap of an hour and nothing is shifted. On the day with 23 hours the labels of
    the missing hour are None. A `00:00` at the end belongs to the next day: None. ValueError: not a label.
    """
    moments: list[datetime | None] = []
    latest: datetime | None = None
    for position, label in enumerate(labels):
        wall = _wall(label, day)
        if position > 0 and wall.time() == time(0):
            moments.append(None)
            continue
        moment = _moment(wall, zone, after=latest)
        moments.append(moment)
        latest = moment or latest
    return moments


def stamps(labels: Sequence[str], layout: str, zone: ZoneInfo) -> list[datetime | None]:
    """The same for labels that carry their date, such as `%m/%d/%Y %H:%M`."""
    moments: list[datetime | None] = []
    latest: datetime | None = None
    for label in labels:
        moment = _moment(datetime.strptime(label, layout), zone, after=latest)
        moments.append(moment)
        latest = moment or latest
    return moments


def hour_ending(day: date, hour: int, zone: ZoneInfo, repeated: bool) -> datetime | None:
    """The end of hour 1…24 by the clock on the wall; `repeated`: the operator says that it is the second pass.

    None: the short day does not have that hour. ValueError: no such hour.
    """
    if not 1 <= hour <= 24:
        raise ValueError(f"hour ending {hour}")
    start = datetime.combine(day, time(hour - 1), zone).replace(fold=1 if repeated else 0)
    begins = start.astimezone(UTC)
    if begins.astimezone(zone).time() != start.time():
        return None
    return begins + timedelta(hours=1)


def nth_hour(day: date, number: int, zone: ZoneInfo) -> datetime:
    """The end of the day's hour `number`, counted from midnight: up to 25 on the long day. ValueError: the day has fewer."""
    midnight = datetime.combine(day, time(0), zone).astimezone(UTC)
    end = midnight + timedelta(hours=number)
    if number < 1 or end > datetime.combine(day + timedelta(days=1), time(0), zone).astimezone(UTC):
        raise ValueError(f"hour {number} of {day}")
    return end


def _moment(wall: datetime, zone: ZoneInfo, after: datetime | None) -> datetime | None:
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None) != wall:
        return None  # the clock jumps over it
    if after is not None and first <= after < second:
        return second
    return first


def _wall(label: str, day: date) -> datetime:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})", label.strip())
    if not found:
        raise ValueError(f"'{label[:20]}' is no time of day")
    return datetime.combine(day, time(int(found[1]), int(found[2])))
