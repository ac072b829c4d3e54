"""What steers a generation does the same natively, in Node and in a page: filters, penalties, biases,
log-probabilities, embeddings, and the reuse of what the cache holds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ruvq

PROMPT = "Once upon a time"
BASE: dict[str, Any] = {"max_tokens": 30, "temperature": 1.1, "seed": 7}
CASES: list[dict[str, Any]] = [
    {},
    {"typical_p": 0.5},
    {"mirostat_tau": 2.0, "mirostat_eta": 0.2},
    {"repeat_penalty": 1.4, "penalty_tokens": 16},
    {"presence_penalty": 1.5, "frequency_penalty": 0.5},
    {"logit_bias": {403: -math.inf, 261: 3.0}, "logprobs": 0},
    {"logprobs": 4, "typical_p": 0.9, "top_k": 20, "min_p": 0.01, "repeat_penalty": 1.1},
]


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda m: m[1].upper(), name)


def for_javascript(options: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: null stands for it."""
    out = {camel(name): value for name, value in (BASE | options).items()}
    if "logitBias" in out:
        out["logitBias"] = {str(t): b if math.isfinite(b) else None for t, b in out["logitBias"].items()}
    return out


@pytest.fixture(scope="module")
def native(models: Path) -> dict[str, Any]:
    texts = []
    with ruvq.Model.open(models / "pi-t3.gguf", kv="f32") as model:
        for options in CASES:
            generation = model.generate(PROMPT, **(BASE | options))
            text = "".join(generation)
            reports = [[r.token, r.logprob, [list(t) for t in r.top]] for r in generation.logprobs]
            texts.append({"text": text, "reports": reports, "cached": generation.stats.cached_tokens})
        embedding, plain = model.embed(PROMPT), model.embed(PROMPT, normalize=False)
    return {"texts": texts, "embedding": embedding, "plain": plain}


@pytest.fixture(scope="module")
def in_node(models: Path, node: Callable[..., Any]) -> dict[str, Any]:
    import json

    return node("node_sampling.mjs", models / "pi-t3.gguf", json.dumps([for_javascript(c) for c in CASES]))


def test_every_option_changes_the_text_and_does_so_alike(
    native: dict[str, Any], in_node: dict[str, Any]
) -> None:
    assert in_node["texts"] == native["texts"]
    assert len({entry["text"] for entry in native["texts"]}) == len(CASES)


def test_the_prompt_is_computed_once(native: dict[str, Any]) -> None:
    cached = [entry["cached"] for entry in native["texts"]]
    assert cached[0] == 0
    assert len(set(cached[1:])) == 1
    assert cached[1] > 0


def test_log_probabilities_are_those_of_the_model(native: dict[str, Any], models: Path) -> None:
    *_, alone, four = native["texts"]
    assert all(report[2] == [] for report in alone["reports"])
    tokens = [report[0] for report in four["reports"]]
    with ruvq.Model.open(models / "pi-t3.gguf", kv="f32") as model:
        prompt = model._prompt_tokens(PROMPT)
        scores = model.score(prompt + tokens)[len(prompt) - 1 :]
    assert [report[1] for report in four["reports"]] == scores
    for _, _, top in four["reports"]:
        values = [logprob for _, logprob in top]
        assert len(top) == 4
        assert values == sorted(values, reverse=True)


def test_a_banned_token_never_comes_and_a_favoured_one_does(models: Path) -> None:
    with ruvq.Model.open(models / "pi-t3.gguf", kv="f32") as model:
        plain = model.generate(PROMPT, 20, temperature=0)
        "".join(plain)
        first = plain.tokens[0]
        banned = model.generate(PROMPT, 20, temperature=0, logit_bias={first: -math.inf})
        "".join(banned)
        favoured = model.generate(PROMPT, 20, temperature=0, logit_bias={first: 1000.0})
        "".join(favoured)
    assert first not in banned.tokens
    assert set(favoured.tokens) == {first}


def test_embeddings_are_equal_to_the_bit(native: dict[str, Any], in_node: dict[str, Any]) -> None:
    assert in_node["embedding"] == native["embedding"]
    assert in_node["plain"] == native["plain"]
    length = math.sqrt(math.fsum(x * x for x in native["embedding"]))
    assert length == pytest.approx(1, abs=1e-6)
    norm = math.sqrt(math.fsum(x * x for x in native["plain"]))
    for unit, raw in zip(native["embedding"], native["plain"], strict=True):
        assert unit == pytest.approx(raw / norm, abs=1e-6)


def test_wrong_options_are_typed_errors(in_node: dict[str, Any], models: Path) -> None:
    assert in_node["refused"] == ["UsageError"] * 6
    with ruvq.Model.open(models / "pi-t3.gguf") as model:
        for wrong in (
            {"typical_p": 2.0},
            {"repeat_penalty": 0.0},
            {"logprobs": 257},
            {"logit_bias": {99999: 1.0}},
            {"penalty_tokens": 5000},
            {"no_such_option": 1},
        ):
            with pytest.raises(ruvq.errors.UsageError):
                "".join(model.generate("a", max_tokens=1, **wrong))  # type: ignore[arg-type]


def test_a_page_gives_the_same(page: Any, native: dict[str, Any]) -> None:
    found = page.evaluate(
        """async ([prompt, cases]) => {
          const { Model } = await import("/ruvq.js");
          const model = await Model.fetch("/models/pi-t3.gguf", { kv: "f32" });
          const texts = [];
          for (const options of cases) {
            const logitBias = new Map(Object.entries(options.logitBias ?? {})
              .map(([id, bias]) => [Number(id), bias ?? -Infinity]));
            const run = model.generate(prompt, { ...options, logitBias });
            for await (const piece of run) void piece;
            const reports = run.logprobs.map((r) => [r.id, r.logprob, r.top.map((t) => [t.id, t.logprob])]);
            texts.push({ text: run.text, reports, cached: run.stats.cachedTokens });
          }
          const aborted = new AbortController();
          aborted.abort();
          const stopped = await model.embed(prompt, { signal: aborted.signal }).catch((error) => error.name);
          const embedding = [...await model.embed(prompt)];
          const name = await model.metadata("general.architecture");
          const keys = await model.metadataKeys();
          model.dispose();
          return { texts, embedding, stopped, name, architecture: keys.includes("general.architecture") };
        }""",
        [PROMPT, [for_javascript(c) for c in CASES]],
    )
    assert found["texts"] == native["texts"]
    assert found["embedding"] == native["embedding"]
    assert (found["stopped"], found["name"], found["architecture"]) == ("AbortError", "llama", True)
