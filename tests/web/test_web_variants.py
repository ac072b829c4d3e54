"""The builds of the engine module: the best that works on a host is taken, silently, and its name is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "node_variants.mjs"
RELAXED = "--experimental-wasm-relaxed-simd"


def run(*flags: str) -> dict[str, Any]:
    done = subprocess.run(["node", *flags, SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    if flags and "bad option" in done.stderr:
        pytest.skip("this Node has no such flag any more")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_build_that_does_not_validate_is_not_tried() -> None:
    found = run()
    if found["relaxed"]:
        assert found["tried"][0] == "relaxed-simd"
        return
    assert found["tried"] == ["simd128"]
    assert found["single"] == [["simd128", "https://host/a/ruvq.wasm?1"]]


def test_a_build_that_fails_its_self_test_gives_way_to_the_next() -> None:
    """Node 20 computes one relaxed instruction in another way than ruvq needs: the self-test sees it."""
    found = run(RELAXED)
    assert found["relaxed"]
    assert found["tried"][0] == "relaxed-simd"
    assert found["variant"] == found["tried"][-1]


def test_builds_lie_beside_each_other_under_their_names() -> None:
    found = run(RELAXED)
    assert found["single"] == [
        ["relaxed-simd", "https://host/a/ruvq-relaxed.wasm?1"],
        ["simd128", "https://host/a/ruvq.wasm?1"],
    ]
    assert found["threads"] == [
        ["relaxed-simd", "https://host/ruvq-threads-relaxed.wasm"],
        ["simd128", "https://host/ruvq-threads.wasm"],
    ]
    assert found["other"] == [["given", "https://host/my-ruvq.wasm"]]
    assert found["module"] == ["given"]
