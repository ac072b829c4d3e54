"""A minute of the fuzzers, twenty seconds each; `make fuzz` runs them for longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_minute_of_fuzzing_finds_nothing(repository: Path) -> None:
    programs = [f"out/fuzz/fuzz_{target}" for target in ("file", "tokenizer", "model")]
    built = subprocess.run(["make", *programs], cwd=repository, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    script = repository / "build" / "fuzz.py"
    done = subprocess.run(
        [sys.executable, script, "--seconds", "20"], capture_output=True, text=True, check=False
    )
    results = json.loads(done.stdout.splitlines()[-1])
    assert {target: found["finding"] for target, found in results.items()} == dict.fromkeys(results, "")
    assert done.returncode == 0
    assert len(results) == 3
    assert all(found["executions"] > found["corpus"] for found in results.values())
