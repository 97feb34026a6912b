"""Hours and values as bars of text, a line an hour."""

from collections.abc import Sequence
from datetime import datetime

from broker.cli.output import columns

_MOST_LINES = 72


def plot(values: Sequence[tuple[datetime, float]]) -> list[str]:
    """`Wed 14:00   213 ██████`, in the reader's own zone; the lowest hour of each day is marked."""
    shown = values[:_MOST_LINES]
    if not shown:
        return []
    most = max(value for _, value in shown)
    days: dict[object, float] = {}
    for at, value in shown:
        day = at.astimezone().date()
        days[day] = min(days.get(day, value), value)
    width = columns() - 26
    lines = []
    for at, value in shown:
        local = at.astimezone()
        bar = "█" * (round(width * value / most) if most > 0 and value > 0 else 0)
        mark = " lowest" if value == days[local.date()] else ""
        lines.append(f"{local:%a %H:%M} {value:6.0f} {bar}{mark}")
    if len(values) > len(shown):
        lines.append(f"… and {len(values) - len(shown)} more hours; --json has them")
    return lines
