"""Plots draw what the JSON holds and nothing else; tables go between markers; a profile's shares add up."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "build" / "bench"
sys.path.insert(0, str(BENCH))

from plot import plots  # noqa: E402
from profile_tables import markdown, write_between  # noqa: E402

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


def test_a_profile_accounts_for_the_whole_token() -> None:
    from token_profile import derived

    tensors = [
        {"kind": "ffn_up", "bytes": 1000, "rows": 100, "width": 40},
        {"kind": "ffn_up", "bytes": 1000, "rows": 100, "width": 40},
        {"kind": "output", "bytes": 2000, "rows": 200, "width": 40},
    ]
    measured = {
        "after": {"100": {"token_s": 10.0, "sample_s": 1.0}, "300": {"token_s": 14.0, "sample_s": 1.0}},
        "streamed_s": {"ffn_up": 3.0, "output": 2.0},
        "cached_s": {"ffn_up": 2.5, "output": 1.5},
        "read_bytes_per_s": 8000.0,
    }
    result = derived(tensors, measured)
    pieces = result["pieces_s"]
    assert pieces["attention"] == pytest.approx(2.0)  # 4 s more for 200 more tokens, so 2 s for the first 100
    assert pieces["rest"] == pytest.approx(10 - 5 - 1 - 2)
    assert sum(kind["share"] for kind in result["kinds"].values()) == pytest.approx(0.5)
    assert result["kinds"]["ffn_up"]["operations_per_byte"] == 8
    assert result["bits_per_weight"] == 2
    assert result["roofline_tokens_per_s"] == {
        "reading": 2.0,
        "products_from_cache": 0.25,
        "measured": 0.1,
    }
    text = markdown([{"model": "m.gguf", "host": "native", **measured, **result}])
    assert "| attention | 2000000 | 20.0 % |" in text
    assert "40 %" in text  # of the lower limit


@pytest.mark.slow
def test_the_profile_measures_both_hosts(repository: Path, tmp_path: Path) -> None:
    import json
    import subprocess

    page = tmp_path / "performance.md"
    arguments = [
        "--shape",
        "tiny",
        "--formats",
        "pi-t2",
        "--contexts",
        "16",
        "64",
        "--rounds",
        "2",
        "--tokens",
        "4",
    ]
    command = [sys.executable, "build/bench/token_profile.py", *arguments, "--write", str(page)]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    native, chromium = json.loads(run.stdout)
    assert (native["host"], chromium["host"]) == ("native", "chromium")
    assert native["bytes_per_token"] == chromium["bytes_per_token"] > 0
    assert min(native["read_bytes_per_s"], chromium["read_bytes_per_s"]) > 1e8
    assert "Roofline" in page.read_text()
