"""Small SVG charts: points and lines on two axes, nothing else."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BELOW, _ABOVE = 780, 420, 70, 210, 50, 30
_COLOURS = ("#1b6ca8", "#c1440e", "#3a7d44", "#7b4b94", "#8a6d1f", "#444444")

Point = tuple[float, float, str]


def chart(
    path: Path, title: str, x: str, y: str, series: Sequence[tuple[str, Sequence[Point]]], *, joined: bool = False,
    notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write a chart; each point is (x, y, its label, may be empty), each series has its colour and a line if `joined`.

    `notes` stand where the names of the series would be.
    """
    points = [point for _, each in series for point in each]
    xs, ys = _scale([p[0] for p in points]), _scale([p[1] for p in points])

    def at(px: float, py: float) -> tuple[float, float]:
        return (
            _LEFT + (px - xs[0]) / (xs[-1] - xs[0]) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BELOW - (py - ys[0]) / (ys[-1] - ys[0]) * (_HEIGHT - _BELOW - _ABOVE),
        )

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for tick in xs:
        px, py = at(tick, ys[0])
        out.append(f'<line x1="{px:.1f}" y1="{py:.1f}" x2="{px:.1f}" y2="{_ABOVE}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{px:.1f}" y="{py + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in ys:
        px, py = at(xs[0], tick)
        out.append(f'<line x1="{px:.1f}" y1="{py:.1f}" x2="{_WIDTH - _RIGHT}" y2="{py:.1f}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{px - 6:.1f}" y="{py + 4:.1f}" text-anchor="end">{tick:g}</text>')
    out.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x)}</text>')
    out.append(f'<text transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>')
    for number, (name, each) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [at(px, py) for px, py, _ in each]
        if joined:
            line = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>' for px, py in placed]
        for (px, py), label in _together(placed, [label for _, _, label in each]):
            out.append(f'<text x="{px + 6:.1f}" y="{py - 5:.1f}" font-size="11">{escape(label)}</text>')
        if notes:
            continue
        out.append(f'<circle cx="{_WIDTH - _RIGHT + 14}" cy="{_ABOVE + 14 + 18 * number}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{_WIDTH - _RIGHT + 24}" y="{_ABOVE + 18 + 18 * number}">{escape(name)}</text>')
    for number, note in enumerate(notes):
        out.append(f'<text x="{_WIDTH - _RIGHT + 12}" y="{_ABOVE + 12 + 18 * number}">{escape(note)}</text>')
    path.write_text("\n".join([*out, "</svg>", ""]))


def _together(placed: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[tuple[tuple[float, float], str]]:
    """Labels of points that lie upon one another, as one."""
    found: list[tuple[tuple[float, float], str]] = []
    for at, label in zip(placed, labels, strict=True):
        near = next((i for i, (other, _) in enumerate(found) if math.dist(at, other) < 14), None)
        if near is None:
            found.append((at, label))
        else:
            found[near] = (found[near][0], f"{found[near][1]}, {label}")
    return [each for each in found if each[1].strip(", ")]


def _scale(values: Sequence[float]) -> list[float]:
    """Round numbers around `values`, four to eight of them."""
    low, high = min(values), max(values)
    rough = (high - low or abs(high) or 1.0) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.floor(low / step + 1e-9)
    return [round((first + number) * step, 10) for number in range(math.ceil(high / step - 1e-9) - first + 1)]
