"""A minute of the fuzzers, eight seconds each; `make fuzz` runs them for longer."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.mark.slow
def test_a_minute_of_fuzzing_finds_nothing(repository: Path, make: Callable[..., None]) -> None:
    make(*(f"out/fuzz/fuzz_{target}" for target in ("file", "tokenizer", "model", "shards", "adapter")))
    script = repository / "build" / "fuzz.py"
    done = subprocess.run(
        [sys.executable, script, "--seconds", "8"], capture_output=True, text=True, check=False
    )
    results = json.loads(done.stdout.splitlines()[-1])
    assert {target: found["finding"] for target, found in results.items()} == dict.fromkeys(results, "")
    assert done.returncode == 0
    assert len(results) == 8
    assert all(found["executions"] > found.get("corpus", 0) for found in results.values())


def test_without_atheris_the_same_inputs_are_tried_and_a_finding_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import guided

    tried: list[list[bytes]] = [[], []]
    monkeypatch.setattr(guided, "atheris", None)
    monkeypatch.setattr(guided.resource, "setrlimit", lambda *limits: None)
    for inputs in tried:
        monkeypatch.setattr(sys, "argv", ["fuzz", "-runs=50"])
        guided.fuzz(inputs.append, [b"{{ messages }}", b"x"], tmp_path, [b"{% for"])
    assert tried[0] == tried[1]
    assert len(set(tried[0])) > 25
    assert any(b"{% for" in data for data in tried[0])
    assert "Done 50 runs" in capsys.readouterr().out

    def fails(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["fuzz", "-runs=50", f"-artifact_prefix={tmp_path}/found-"])
    with pytest.raises(ZeroDivisionError):
        guided.fuzz(fails, [b"x"], tmp_path)
    (kept,) = tmp_path.glob("found-*")
    assert kept.read_bytes() == guided.mutated(_chance_after_choice(guided.SEED), b"x", ())


def _chance_after_choice(seed: int) -> random.Random:
    """Where the generator stands when the first input was chosen from a corpus of one."""
    chance = random.Random(seed)
    chance.choice([b"x"])
    return chance
