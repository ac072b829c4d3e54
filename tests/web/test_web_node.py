"""The binding in Node: memory comes back, and lies above 2 GiB too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


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
