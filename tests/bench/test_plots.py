"""Plots draw what the JSON holds and nothing else; tables go between markers."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[2] / "build" / "bench"
sys.path.insert(0, str(BENCH))

from plot import plots  # noqa: E402
from profile_tables import write_between  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def size(parameters: int, threads: int, speed: float) -> dict[str, Any]:
    figure = {"median": speed, "minimum": speed, "maximum": speed}
    entry = {"shape": "x", "host": "chromium", "threads": threads, "parameters": parameters}
    return {**entry, "decode_tokens_per_s": figure}


def scaling(threads: tuple[int, ...]) -> dict[str, Any]:
    sizes = [size(n, t, 1e9 * t / n) for n in (1_000_000, 500_000_000) for t in threads]
    contexts = [
        {"shape": "M", "host": "native", "threads": 1, "context": n, "decode_tokens_per_s": 100 - n / 100}
        for n in (1, 128, 4096)
    ]
    return {"scaling": {"format": "pi-t2", "by_size": sizes, "by_context": contexts}}


def points(svg: str) -> int:
    return len(list(ET.fromstring(svg).iter(f"{SVG}circle")))


def test_every_measured_point_is_drawn_and_stays_inside() -> None:
    drawn = plots(scaling((1, 2)))
    assert set(drawn) == {"scaling-size.svg", "scaling-context.svg", "scaling-threads.svg"}
    assert {name: points(svg) for name, svg in drawn.items()} == {
        "scaling-size.svg": 4,
        "scaling-context.svg": 3,
        "scaling-threads.svg": 2,
    }
    for svg in drawn.values():
        for circle in ET.fromstring(svg).iter(f"{SVG}circle"):
            assert 70 <= float(circle.attrib["cx"]) <= 640 - 180
            assert 40 <= float(circle.attrib["cy"]) <= 400 - 50


def test_more_tokens_a_second_are_drawn_higher() -> None:
    svg = ET.fromstring(plots(scaling((1,)))["scaling-size.svg"])
    small, large = (float(circle.attrib["cy"]) for circle in svg.iter(f"{SVG}circle"))
    assert small < large  # y grows downwards; the small model is the fast one


def test_what_was_not_measured_is_not_drawn() -> None:
    assert set(plots(scaling((1,)))) == {"scaling-size.svg", "scaling-context.svg"}
    assert plots({}) == {}


def test_tables_replace_what_stood_between_their_markers(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- profile -->\nold\n<!-- /profile -->\nafter\n")
    write_between(path, "profile", "new")
    write_between(path, "profile", "newer")
    assert path.read_text() == "before\n<!-- profile -->\n\nnewer\n\n<!-- /profile -->\nafter\n"
    write_between(tmp_path / "fresh.md", "profile", "first")
    assert "<!-- profile -->\n\nfirst\n\n<!-- /profile -->" in (tmp_path / "fresh.md").read_text()
