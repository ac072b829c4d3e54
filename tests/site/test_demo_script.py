"""`make demo`'s script: quantizes a float model, drives the page with both hosts, ends with one JSON line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def run_demo(data_dir: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    source = data_dir / "stories260K"
    command = [sys.executable, str(ROOT / "build" / "demo.py"), "--source", str(source / "stories260K.bin")]
    command += [
        "--tokenizer",
        str(source / "tok512.bin"),
        "--models",
        str(folder / "models"),
        "--site",
        str(folder / "site"),
    ]
    path = os.pathsep.join([str(ROOT / "py"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "HEADLESS": "1", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.slow
def test_the_demo_ends_with_one_json_line_and_is_quick_the_second_time(
    data_dir: Path, tmp_path: Path
) -> None:
    done = run_demo(data_dir, tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["text"].startswith("Once upon a time")
    assert len(result["text"]) > 100
    assert set(result["tokens_per_second"]) == {"javascript", "pyodide"}
    assert all(speed > 0 for speed in result["tokens_per_second"].values())
    assert result["format"] == "pi-t2"
    assert 2 < result["bits_per_weight"] < 2.5
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").glob("*.gguf")}
    assert len(made) == 2
    again = run_demo(data_dir, tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["text"] == result["text"]
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_without_a_browser_it_says_what_to_install(data_dir: Path, tmp_path: Path) -> None:
    done = run_demo(data_dir, tmp_path, RUVQ_CHROMIUM="no-such-browser")
    assert done.returncode != 0
    assert "no-such-browser" in done.stderr
    assert "chromium" in done.stderr
    assert "Traceback" not in done.stderr
