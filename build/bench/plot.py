"""Draws the benchmark's scaling as plain SVG files, from its JSON and nothing else.

    python build/bench/plot.py                                    docs/bench/latest.json → docs/bench/*.svg
    python build/bench/plot.py --json FILE --out FOLDER

scaling-size.svg: tokens a second against parameters; scaling-context.svg: against the length of the text;
scaling-threads.svg: against threads. Axes are logarithmic (threads: linear); what was not measured is not
drawn.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 180, 40, 50
COLOURS = ("#1b6ca8", "#c2571a", "#2f7d4f", "#8a3ffc", "#b3261e", "#555555")
Points = list[tuple[float, float]]


def _number(value: float) -> str:
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:g}"


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten with 2 and 5 between, inside the range; every second power where it is wide."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]


def _range(values: list[float]) -> tuple[float, float]:
    return min(values) / 1.2, max(values) * 1.2


def draw(title: str, x_label: str, series: dict[str, Points], linear_x: bool = False) -> str:
    """An SVG of lines with points: name → [(x, y)], y in tokens a second on a logarithmic axis."""
    xs = [x for points in series.values() for x, _ in points]
    low_y, high_y = _range([y for points in series.values() for _, y in points])
    low_x, high_x = (min(xs) - 0.2, max(xs) + 0.2) if linear_x else _range(xs)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    scale: Callable[[float], float] = (lambda v: v) if linear_x else math.log

    def at_x(value: float) -> float:
        return LEFT + plot_width * (scale(value) - scale(low_x)) / (scale(high_x) - scale(low_x))

    def at_y(value: float) -> float:
        part = (math.log(value) - math.log(low_y)) / (math.log(high_y) - math.log(low_y))
        return TOP + plot_height * (1 - part)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" fill="#222222">{escape(title)}</text>',
    ]
    for mark in sorted(set(xs)) if linear_x else _ticks(low_x, high_x):
        x = at_x(mark)
        out.append(f'<path d="M{x:.1f} {TOP}V{TOP + plot_height}" stroke="#e3e3e3"/>')
        out.append(_text(x, TOP + plot_height + 18, _number(mark), "middle"))
    for mark in _ticks(low_y, high_y):
        y = at_y(mark)
        out.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + plot_width}" stroke="#e3e3e3"/>')
        out.append(_text(LEFT - 8, y + 4, _number(mark), "end"))
    out.append(_text(LEFT + plot_width / 2, HEIGHT - 10, x_label, "middle"))
    out.append(
        f'<text transform="translate(18 {TOP + plot_height / 2}) rotate(-90)" text-anchor="middle" '
        'fill="#222222">tokens a second</text>'
    )
    for position, (name, points) in enumerate(series.items()):
        colour = COLOURS[position % len(COLOURS)]
        places = [(at_x(x), at_y(y)) for x, y in sorted(points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        row = TOP + 12 + 20 * position
        out.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{row - 9}" width="12" height="12" fill="{colour}"/>')
        out.append(_text(WIDTH - RIGHT + 34, row + 2, name, "start"))
    return "\n".join([*out, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'


def _median(figure: Any) -> float:
    return figure["median"] if isinstance(figure, dict) else figure


def _series(
    entries: list[dict[str, Any]], x: str, name: Callable[[dict[str, Any]], str]
) -> dict[str, Points]:
    series: dict[str, Points] = {}
    for entry in entries:
        series.setdefault(name(entry), []).append((entry[x], _median(entry["decode_tokens_per_s"])))
    return series


def _host(entry: dict[str, Any]) -> str:
    host = {"native": "native", "chromium": "Chromium"}[entry["host"]]
    return f"{host}, {entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"


def plots(report: dict[str, Any]) -> dict[str, str]:
    """File name → SVG, of what the report has."""
    scaling = report.get("scaling", {})
    sizes, contexts = scaling.get("by_size", []), scaling.get("by_context", [])
    kind = scaling.get("format", "")
    drawn = {}
    if sizes:
        title = f"Decoding by size, {kind}"
        drawn["scaling-size.svg"] = draw(title, "parameters", _series(sizes, "parameters", _host))
    if contexts:
        title = f"Decoding by length of the text, {kind}, shape {contexts[0]['shape']}"
        drawn["scaling-context.svg"] = draw(title, "tokens before", _series(contexts, "context", _host))
    if len({entry["threads"] for entry in sizes}) > 1:
        largest = max(entry["parameters"] for entry in sizes)
        chosen = [entry for entry in sizes if entry["parameters"] == largest]
        series = _series(chosen, "threads", lambda e: _host(e).split(",")[0])
        title = f"Decoding by threads, {kind}, {_number(round(largest, -6))} parameters"
        drawn["scaling-threads.svg"] = draw(title, "threads", series, linear_x=True)
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "bench" / "latest.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    if not options.json.exists():
        raise SystemExit(f"{options.json} is not there: `make bench` writes it")
    drawn = plots(json.loads(options.json.read_text()))
    if not drawn:
        raise SystemExit(f"{options.json} has no scaling: run the benchmark without --no-scaling")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn.items():
        (options.out / name).write_text(svg)
        print(options.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
