"""Small SVG charts: points and lines on two axes, nothing else."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 720, 420, 70, 50, 30
_COLOURS = ("#1b6ca8", "#c1440e", "#3a7d44", "#7b4b94", "#8a6d1f", "#444444")

Point = tuple[float, float, str]


def chart(
    path: Path, title: str, x: str, y: str, series: Sequence[tuple[str, Sequence[Point]]], *, joined: bool = False
) -> None:
    """Write a chart; each point is (x, y, its label, may be empty), each series has its colour and a line if `joined`."""
    points = [point for _, each in series for point in each]
    xs, ys = _scale([p[0] for p in points]), _scale([p[1] for p in points])

    def at(px: float, py: float) -> tuple[float, float]:
        return (
            _LEFT + (px - xs[0]) / (xs[-1] - xs[0]) * (_WIDTH - _LEFT - 150),
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
        out.append(f'<line x1="{px:.1f}" y1="{py:.1f}" x2="{_WIDTH - 150}" y2="{py:.1f}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{px - 6:.1f}" y="{py + 4:.1f}" text-anchor="end">{tick:g}</text>')
    out.append(f'<text x="{(_LEFT + _WIDTH - 150) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x)}</text>')
    out.append(f'<text transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>')
    for number, (name, each) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [at(px, py) for px, py, _ in each]
        if joined:
            line = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for (px, py), (_, _, label) in zip(placed, each, strict=True):
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>')
            if label:
                out.append(f'<text x="{px + 6:.1f}" y="{py - 5:.1f}" font-size="11">{escape(label)}</text>')
        out.append(f'<circle cx="{_WIDTH - 138}" cy="{_ABOVE + 14 + 18 * number}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{_WIDTH - 128}" y="{_ABOVE + 18 + 18 * number}">{escape(name)}</text>')
    path.write_text("\n".join([*out, "</svg>", ""]))


def _scale(values: Sequence[float]) -> list[float]:
    """Five or so round numbers around `values`."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    step = 10.0 ** len(str(int(span))) if span >= 1 else 1.0
    while span / step < 4:
        step /= 2 if str(step / 2).strip("0.")[:1] in {"1", "5", "2"} else 2.5
    first = low // step
    ticks = [first * step]
    while ticks[-1] < high:
        ticks.append((first + len(ticks)) * step)
    return ticks
