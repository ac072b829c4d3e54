"""The binding in Node: memory comes back; hostile files are refused by the same codes as natively."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruvq import errors

ATTACKS = Path(__file__).resolve().parent.parent / "gguf" / "attacks.py"
MEMORY_LIMIT = 64 << 20  # bytes: no file of the corpus may make the engine take more


def test_twenty_loads_and_disposals_do_not_grow_the_engine(node: Callable[..., Any], models: Path) -> None:
    result = node("node_memory.mjs", models / "f32.gguf", ", there")
    assert len(result["held"]) == 20
    assert set(result["held"]) == {result["held"][0]}
    assert result["refused"] == 60
    # the file is held once: file, index, vocabulary, KV cache, activations and stack
    assert result["held"][0] < 3 * result["fileBytes"]


def test_addresses_above_two_gibibytes_give_the_same_activations(
    node: Callable[..., Any], models: Path, native_run: Callable[[str], dict[str, Any]]
) -> None:
    result = node("node_high_memory.mjs", models / "pi-t3.gguf")
    assert result["address"] > 2**31
    assert {key: result[key] for key in ("text", "hashes")} == native_run("pi-t3")
    assert result["refused"]["name"] == "MemoryLimitError"
    assert result["refused"]["subject"] == "five gibibytes"
    assert "5120" in result["refused"]["expected"]


def test_the_corpus_of_hostile_files_is_refused_by_the_same_codes(
    node: Callable[..., Any], tmp_path: Path
) -> None:
    subprocess.run([sys.executable, str(ATTACKS), str(tmp_path)], check=True, timeout=120)
    answer = node("node_attacks.mjs", tmp_path)
    results = answer["results"]
    assert len(results) > 100
    wrong = [(r["file"], r["code"], r["found"]) for r in results if r["code"] != r["found"]]
    assert wrong == []
    for result in results:
        if result["found"] is None:
            continue
        assert result["typed"], result["file"]
        assert result["name"] == errors.for_code(result["found"]).__name__
        assert result["says"] in result["message"], result["file"]
    assert answer["memoryBytes"] < MEMORY_LIMIT
