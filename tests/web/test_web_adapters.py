"""LoRA adapters in WebAssembly: native's text and bits in Node and in a page, with threads and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ruvq
from adapters import lora
from engine import tiny

SCALE, TOKENS = 0.75, 48
FORMATS = ["f32", "pi-t2"]

RUN = """const { Model } = await import("/ruvq.js");
async function run(model) {
  let text = "";
  for await (const piece of model.generate("", { temperature: 0, maxTokens: TOKENS })) text += piece;
  return { text, hashes: Array.from(await model.hashes()) };
}
const open = (name, options) => Model.fetch(`/models/${name}.gguf`, { kv: "f32", hashes: true, ...options });
const refused = (promise) => promise.then(() => null, (error) => [error.name, error.message]);
""".replace("TOKENS", str(TOKENS))


@pytest.fixture(scope="module")
def adapter(models: Path, data_dir: Path) -> Path:
    """A random adapter for stories260K, beside the models."""
    pairs = lora.random_pairs(tiny.stories260k(data_dir), 6)
    return lora.write(models / "adapter.gguf", pairs, alpha=3.0)


@pytest.fixture(scope="module")
def native(models: Path, adapter: Path) -> Callable[..., dict[str, Any]]:
    """native(format, scale or None): the native core's greedy text and hashes."""

    def run(name: str, scale: float | None) -> dict[str, Any]:
        with ruvq.Model.open(models / f"{name}.gguf", kv="f32", hashes=True) as model:
            if scale is not None:
                model.load_adapter(adapter, scale)
            return {"text": "".join(model.generate("", TOKENS, temperature=0)), "hashes": model.hashes()}

    return run


@pytest.mark.parametrize("name", FORMATS)
def test_node_gives_the_native_bits(
    name: str, node: Callable[..., Any], models: Path, adapter: Path, native: Callable[..., Any]
) -> None:
    result = node("node_adapter.mjs", models / f"{name}.gguf", adapter, SCALE, TOKENS)
    assert result["plain"] == result["after"] == native(name, None)
    assert result["adapted"] == result["same"] == native(name, SCALE)
    assert result["adapted"]["text"] != result["plain"]["text"]
    assert result["zero"]["text"] == result["plain"]["text"]
    assert result["info"]["name"] == "a test"
    assert result["info"]["bytes"] > 0
    assert (result["grown"], result["left"]) == (0, 0)
    model_given, adapter_given, nan, short = result["refusals"]
    assert model_given[0] == "ModelError"
    assert "is it the model itself" in model_given[1]
    assert adapter_given[0] == "ModelError"
    assert "open the base model" in adapter_given[1]
    assert nan[0] == "UsageError"
    assert "scale" in nan[1]
    assert short[0] == "FileFormatError"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_a_page_gives_the_native_bits(
    name: str, threads: int, page: Any, adapter: Path, native: Callable[..., Any]
) -> None:
    options = f"{{ threads: {threads}, splitAll: true }}"
    result = page.evaluate(
        f"""async () => {{ {RUN}
        const model = await open("{name}", {options});
        const plain = await run(model);
        const phases = new Set();
        const onProgress = ({{ phase }}) => phases.add(phase);
        const adapter = await model.loadAdapter("/models/adapter.gguf", {{ scale: {SCALE}, onProgress }});
        const adapted = await run(model);
        await adapter.setScale(0.25);
        const weaker = await run(model);
        await adapter.unload();
        await adapter.unload();
        const after = await run(model);
        const bytes = await (await fetch("/models/adapter.gguf")).blob();
        await model.loadAdapter(bytes, {{ scale: {SCALE} }});
        const again = await run(model);
        await model.unloadAdapter();
        const late = await refused(adapter.setScale(1));
        const end = await run(model);
        const found = [adapter.name, adapter.bytes, model.info.threads, [...phases]];
        model.dispose();
        return {{ plain, adapted, weaker, after, again, end, late, found }};
        }}"""
    )
    assert result["plain"] == result["after"] == result["end"] == native(name, None)
    assert result["adapted"] == result["again"] == native(name, SCALE)
    assert result["weaker"] == native(name, 0.25)
    assert result["late"][0] == "UsageError"
    assert result["found"][:1] == ["a test"]
    assert result["found"][2] == threads
    assert "download" in result["found"][3]


def test_a_page_refuses_what_does_not_fit(page: Any, models: Path, adapter: Path, data_dir: Path) -> None:
    pairs = lora.random_pairs(tiny.stories260k(data_dir), 2)
    name = "blk.0.attn_q.weight"
    lora.write(models / "deep.gguf", {"blk.9.attn_q.weight": pairs[name]})
    broken = pairs[name][0].copy()
    broken[0, 0] = float("nan")
    lora.write(models / "nan.gguf", pairs, more={f"{name}.lora_a": broken})
    result = page.evaluate(
        f"""async () => {{ {RUN}
        const model = await open("f32");
        const before = await run(model);
        const out = [];
        for (const name of ["f32", "deep", "nan", "none"]) {{
          out.push(await refused(model.loadAdapter(`/models/${{name}}.gguf`, {{ cache: "no-store" }})));
        }}
        out.push(await refused(model.loadAdapter("/models/adapter.gguf", {{ scale: Infinity }})));
        out.push(await refused(model.loadAdapter("/models/adapter.gguf", {{ sha256: "0".repeat(64) }})));
        out.push(await refused(model.loadAdapter("/models/adapter.gguf", {{ signal: AbortSignal.abort() }})));
        out.push(await refused(open("adapter")));
        const after = await run(model);
        model.dispose();
        return {{ before, after, out }};
        }}"""
    )
    names = [error[0] for error in result["out"]]
    assert names == [
        "ModelError", "ModelError", "DataError", "DownloadError",
        "UsageError", "IntegrityError", "AbortError", "ModelError",
    ]  # fmt: skip
    assert "blk.9.attn_q.weight" in result["out"][1][1]
    assert result["before"] == result["after"]


def test_an_adapter_ends_a_generation_that_runs(page: Any, adapter: Path) -> None:
    result = page.evaluate(
        f"""async () => {{ {RUN}
        const model = await open("f32");
        const first = model.generate("", {{ temperature: 0, maxTokens: 500 }});
        let adapted = null;
        for await (const piece of first) if (piece) adapted ??= model.loadAdapter("/models/adapter.gguf");
        await adapted;
        const second = model.generate("", {{ temperature: 0, maxTokens: 8 }});
        for await (const piece of second) void piece;
        model.dispose();
        return [first.stats.finishReason, second.stats.cachedTokens, second.text];
        }}"""
    )
    assert result[0] == "aborted"
    assert result[1] == 0
    assert not result[2].startswith("Once upon a time")
