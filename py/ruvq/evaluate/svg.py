"""Plots as SVG elements inside a page: lines, points with names, bars. Colours are the page's variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 34, 46
COLOURS = 8  # --c0 to --c7 of the page

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points with an entry in the legend. `names`: a text beside each; `line`: joined; `bars`: from y = 0."""

    name: str
    points: Sequence[Point]
    names: Sequence[str] = ()
    line: bool = True
    bars: bool = False


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers inside the range, at most so many."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _Axes:
    """Where values lie in the picture."""

    def __init__(self, series: Sequence[Series]) -> None:
        xs = [x for s in series for x, _ in s.points]
        ys = [y for s in series for _, y in s.points] + ([0.0] if any(s.bars for s in series) else [])
        self.x, self.y = _range(xs), _range(ys)
        self.wide, self.high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at_x(self, value: float) -> float:
        """Pixels from the left."""
        return LEFT + self.wide * (value - self.x[0]) / (self.x[1] - self.x[0])

    def at_y(self, value: float) -> float:
        """Pixels from the top."""
        return TOP + self.high * (1 - (value - self.y[0]) / (self.y[1] - self.y[0]))


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or max(abs(high), 1) * 0.1
    return low if low == 0 else low - room, high + room


def plot(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """An <svg> element; an empty text where there is nothing to draw. What isn't finite is left out."""
    shown = [
        Series(s.name, *_finite(s), line=s.line, bars=s.bars)
        for s in series
        if any(math.isfinite(y) for _, y in s.points)
    ]
    if not shown:
        return ""
    axes = _Axes(shown)
    out = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
        *_grid(axes, x_label, y_label),
    ]
    for number, one in enumerate(shown):
        colour = f"var(--c{number % COLOURS})"
        out += _bars(axes, one, colour) if one.bars else _marks(axes, one, colour)
        row = TOP + 12 + 20 * number
        out.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{row - 9}" width="11" height="11" fill="{colour}"/>')
        out.append(_text(WIDTH - RIGHT + 30, row + 1, one.name, "start"))
    return "\n".join([*out, "</svg>"])


def _finite(series: Series) -> tuple[list[Point], list[str]]:
    kept = [i for i, (_, y) in enumerate(series.points) if math.isfinite(y)]
    return [series.points[i] for i in kept], [series.names[i] for i in kept] if series.names else []


def _grid(axes: _Axes, x_label: str, y_label: str) -> list[str]:
    out = []
    for mark in ticks(*axes.x):
        x = axes.at_x(mark)
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + axes.high}"/>')
        out.append(_text(x, TOP + axes.high + 17, f"{mark:g}", "middle"))
    for mark in ticks(*axes.y):
        y = axes.at_y(mark)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + axes.wide}"/>')
        out.append(_text(LEFT - 7, y + 4, f"{mark:g}", "end"))
    out.append(_text(LEFT + axes.wide / 2, HEIGHT - 8, x_label, "middle"))
    middle = TOP + axes.high / 2
    out.append(
        f'<text transform="translate(15 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return out


def _marks(axes: _Axes, series: Series, colour: str) -> list[str]:
    places = [(axes.at_x(x), axes.at_y(y)) for x, y in series.points]
    out = []
    if series.line and len(places) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    if series.names or len(places) < 64:
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}"/>' for x, y in places]
    for (x, y), name in zip(places, series.names, strict=False):
        out.append(_text(x + 6, y - 5, name, "start"))
    return out


def _bars(axes: _Axes, series: Series, colour: str) -> list[str]:
    width = axes.wide / (axes.x[1] - axes.x[0])
    if len(series.points) > 1:
        width *= series.points[1][0] - series.points[0][0]
    bottom = axes.at_y(0)
    return [
        f'<rect x="{axes.at_x(x) - width / 2:.2f}" y="{axes.at_y(y):.2f}" width="{width:.2f}" '
        f'height="{bottom - axes.at_y(y):.2f}" fill="{colour}"/>'
        for x, y in series.points
        if y > 0
    ]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
