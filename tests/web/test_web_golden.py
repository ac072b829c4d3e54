"""The same file gives the same tokens and the same activations natively, in Node and in a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_formats import FORMATS, GREEDY_TOKENS

GOLDEN_TOKENS = 256
IN_PAGE = """async ([url, open, prompt, options]) => {
  const { Model } = await import("/ruvq.js");
  const model = await Model.fetch(url, open);
  const generation = model.generate(prompt, options);
  for await (const piece of generation) void piece;
  const hashes = open.hashes ? Array.from(await model.hashes()) : null;
  const { text, stats } = generation;
  model.dispose();
  return { text, hashes, stats, info: model.info };
}"""
GREEDY = {"temperature": 0, "maxTokens": GREEDY_TOKENS}


@pytest.fixture
def golden_text(data_dir: Path) -> str:
    text = (data_dir / "stories260K" / "greedy_expected.txt").read_text()
    assert len(text) == 565
    return text


def test_node_writes_the_golden_text(node: Callable[..., Any], models: Path, golden_text: str) -> None:
    options = {"open": {"kv": "f32"}, "generate": {"temperature": 0, "maxTokens": GOLDEN_TOKENS}}
    assert node("node_generate.mjs", models / "f32.gguf", json.dumps(options))["text"] == golden_text


def test_page_writes_the_golden_text(page: Any, golden_text: str) -> None:
    options = {"temperature": 0, "maxTokens": GOLDEN_TOKENS}
    result = page.evaluate(IN_PAGE, ["/models/f32.gguf", {"kv": "f32"}, "", options])
    assert result["text"] == golden_text
    assert result["stats"]["tokens"] == GOLDEN_TOKENS
    assert result["stats"]["finishReason"] == "length"


@pytest.mark.parametrize("name", FORMATS)
def test_native_node_and_page_agree_bit_for_bit(
    name: str, native_run: Callable[[str], dict[str, Any]], node: Callable[..., Any], models: Path, page: Any
) -> None:
    open_options = {"kv": "f32", "hashes": True}
    expected = native_run(name)
    assert expected["text"]
    in_node = node(
        "node_generate.mjs", models / f"{name}.gguf", json.dumps({"open": open_options, "generate": GREEDY})
    )
    in_page = page.evaluate(IN_PAGE, [f"/models/{name}.gguf", open_options, "", GREEDY])
    for result in (in_node, in_page):
        assert result["text"] == expected["text"]
        assert result["hashes"] == expected["hashes"]


def test_scalar_kernels_and_f16_cache_agree_with_node(node: Callable[..., Any], models: Path) -> None:
    results = [
        node(
            "node_generate.mjs",
            models / "pi-t3.gguf",
            json.dumps({"open": {**open_options, "hashes": True}, "generate": GREEDY}),
        )
        for open_options in ({}, {"scalar": True}, {"batch": 1})
    ]
    assert results[0]["hashes"] == results[1]["hashes"] == results[2]["hashes"]


def test_the_same_seed_gives_the_same_text_natively_and_in_the_page(models: Path, page: Any) -> None:
    import ruvq

    with ruvq.Model.open(models / "pi-t3.gguf") as model:
        expected = "".join(
            model.generate("Once upon a time", 80, temperature=1.1, top_p=0.9, top_k=40, seed=7)
        )
    options = {"maxTokens": 80, "temperature": 1.1, "topP": 0.9, "topK": 40, "seed": 7}
    assert page.evaluate(IN_PAGE, ["/models/pi-t3.gguf", {}, "Once upon a time", options])["text"] == expected
