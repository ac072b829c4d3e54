"""The soak's verdict on made-up samples, and its short form: a minute of it in Chromium."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import browser

import soak  # isort: skip

LEVEL = 180e6  # bytes, of a renderer


def noisy(count: int, rise: float, seed: int = 1) -> list[float]:
    """`count` samples that rise by `rise` bytes each, with 3 MB of noise."""
    generator = random.Random(seed)
    return [LEVEL + rise * i + generator.gauss(0, 3e6) for i in range(count)]


@pytest.mark.parametrize("count", [40, 3000])
def test_noise_a_warm_up_and_single_jumps_are_no_growth(count: int) -> None:
    values = noisy(count, 0)
    values[: count // 8] = [value / 2 for value in values[: count // 8]]
    values[count // 2] += 500e6
    values[-1] += 500e6
    assert abs(soak.growth(values)) < soak.MOST_GROWTH["renderer"]
    assert soak.verdict({"renderer": values})["grew"] == []


@pytest.mark.parametrize(("count", "leak"), [(40, 400e3), (3000, 5e3)])
def test_a_small_leak_in_every_cycle_is_found(count: int, leak: float) -> None:
    found = soak.verdict({"renderer": noisy(count, leak), "heap": [LEVEL] * count})
    assert found["grew"] == ["renderer"]
    assert found["memory"]["renderer"]["growth"] == pytest.approx(0.8 * count * leak, rel=0.3)


def test_a_line_has_its_slope_and_a_point_has_none() -> None:
    assert soak.slope([3.0, 5.0, 7.0, 9.0]) == 2
    assert soak.slope([3.0]) == 0


@pytest.mark.slow
def test_a_minute_of_loading_writing_aborting_and_disposing_does_not_grow(tmp_path: Path) -> None:
    """`make soak` does the same for two hours. In a process of its own: Playwright runs once a thread."""

    report = tmp_path / "soak.json"
    script = browser.ROOT / "build" / "soak.py"
    done = subprocess.run(
        [sys.executable, script, "--minutes", "1", "--json", report],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    result = json.loads(report.read_text())
    assert result["state"] == "steady"
    assert result["cycles"] >= soak.FEWEST_SAMPLES
    assert result["stopped"] > 0
    assert set(result["memory"]) == set(soak.MOST_GROWTH)
