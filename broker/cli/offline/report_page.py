"""The report as one HTML file: no script, nothing loaded, its plots inside. Every name in it is escaped by the template."""

from dataclasses import dataclass
from typing import Any

from broker.templating import render

_MOST_BARS = 20
_MOST_ROWS = 1000
_WIDTH = 460.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a plot; widths in the plot's own units."""

    name: str
    y: int
    inner: float
    outer: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """`rest`: how many groups have no bar."""

    title: str
    inner: str
    outer: str
    bars: tuple[Bar, ...]
    height: int
    rest: int


def page(found: dict[str, Any]) -> str:
    """The page of a report's JSON document."""
    return render("report/report.html", report=found, rows=found["by"][:_MOST_ROWS], plots=_plots(found))


def _plots(found: dict[str, Any]) -> list[Plot]:
    by, groups = found["by_what"], found["by"]
    made = []
    if found["gpus_accounted"] and found["gpu_seconds_held"]:
        made.append(
            _plot(
                f"GPU-hours by {by}",
                "ran",
                "held",
                [(g[by], g["gpu_hours_ran"], g["gpu_hours_held"], f"{g['gpu_hours_held']:.1f} h") for g in groups],
            )
        )
    if found["cost"] is not None:
        cost = [(g[by], float(g["cost"] or 0), float(g["cost"] or 0)) for g in groups]
        made.append(
            _plot(f"Cost by {by}, {found['currency']}", "cost", "", [(n, i, o, f"{o:.2f}") for n, i, o in cost])
        )
    if found["kwh"]:
        made.append(
            _plot(
                f"Energy by {by}, kWh", "energy", "", [(g[by], g["kwh"], g["kwh"], f"{g['kwh']:.1f}") for g in groups]
            )
        )
    return made


def _plot(title: str, inner: str, outer: str, groups: list[tuple[str, float, float, str]]) -> Plot:
    shown = [group for group in groups if group[2] > 0][:_MOST_BARS]
    most = max((group[2] for group in shown), default=1.0)
    bars = tuple(
        Bar(
            name=name,
            y=place * 24,
            inner=round(_WIDTH * low / most, 1),
            outer=round(_WIDTH * high / most, 1),
            label=label,
        )
        for place, (name, low, high, label) in enumerate(shown)
    )
    return Plot(
        title=title, inner=inner, outer=outer, bars=bars, height=max(24, 24 * len(bars)), rest=len(groups) - len(shown)
    )
