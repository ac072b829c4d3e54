"""The second browser: stock Firefox ESR, driven by WebDriver BiDi. The golden run, native's bits in every
format with either SIMD, threads, abort and typed errors, as in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_formats import FORMATS, GREEDY_TOKENS

from firefox import firefox_page

WRITE = """async (url, open, generate) => {
  const { Model } = await import("/ruvq.js");
  const model = await Model.fetch(url, open);
  const generation = model.generate("", { temperature: 0, ...generate });
  for await (const piece of generation) void piece;
  const hashes = open.hashes ? Array.from(await model.hashes()) : null;
  model.dispose();
  return { text: generation.text, hashes, stats: generation.stats, info: model.info };
}"""
STOP = """async (url) => {
  const { Model } = await import("/ruvq.js");
  const model = await Model.fetch(url);
  const stop = new AbortController();
  const generation = model.generate("", { temperature: 0, maxTokens: 500, signal: stop.signal });
  for await (const piece of generation) if (piece) stop.abort();
  model.dispose();
  return [generation.stats.finishReason, generation.text.length > 0];
}"""
REFUSED = """async (urls) => {
  const { Model, RuvqError } = await import("/ruvq.js");
  return Promise.all(urls.map((url) => Model.fetch(url).then(
    () => "nothing", (error) => [error instanceof RuvqError, error.name, error.code])));
}"""
DIAGNOSE = 'async () => (await import("/ruvq.js")).diagnose()'

Firefox = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def firefox(site: str) -> Firefox:
    """firefox((function, *args), ...): their values, one after the other in one page. A browser for each
    call."""

    def run(*steps: tuple[Any, ...]) -> list[Any]:
        with firefox_page() as page:
            page.goto(f"{site}/blank.html")
            values = [page.evaluate(f"(args) => ({function})(...args)", args) for function, *args in steps]
            assert page.call("report")["problems"] == []
        return values

    return run


def test_firefox_writes_the_golden_text(firefox: Firefox, data_dir: Path) -> None:
    golden = (data_dir / "stories260K" / "greedy_expected.txt").read_text()
    report, result = firefox((DIAGNOSE,), (WRITE, "/models/f32.gguf", {"kv": "f32"}, {"maxTokens": 256}))
    assert report["usable"]
    assert report["threads"]
    assert report["missingHeaders"] == []
    assert result["text"] == golden
    assert result["stats"]["finishReason"] == "length"


@pytest.mark.slow
def test_firefox_agrees_with_native_bit_for_bit(
    firefox: Firefox, native_run: Callable[[str], dict[str, Any]]
) -> None:
    """Every format with one thread and two, each SIMD variant by itself."""
    wasm = {"relaxed-simd": "/ruvq-relaxed.wasm", "simd128": "/ruvq.wasm"}
    runs = [(name, threads, variant) for name in FORMATS for threads, variant in
            ((1, "relaxed-simd"), (1, "simd128"), (2, None))]  # fmt: skip
    steps = []
    for name, threads, variant in runs:
        options: dict[str, Any] = {"kv": "f32", "hashes": True, "threads": threads, "splitAll": True}
        if variant:
            options["wasmURL"] = {variant: wasm[variant]}
        steps.append((WRITE, f"/models/{name}.gguf", options, {"maxTokens": GREEDY_TOKENS}))
    for (name, threads, variant), found in zip(runs, firefox(*steps), strict=True):
        assert {key: found[key] for key in ("text", "hashes")} == native_run(name), (name, threads, variant)
        assert found["info"]["threads"] == threads
        assert variant in (None, found["info"]["engineVariant"])


def test_firefox_stops_when_told_to(firefox: Firefox) -> None:
    assert firefox((STOP, "/models/pi-t3.gguf")) == [["aborted", True]]


def test_firefox_gives_typed_errors(firefox: Firefox) -> None:
    urls = ["/fault/html", "/models/none.gguf", "/fault/cut?file=models/f32.gguf", "/ruvq.wasm"]
    [[html, missing, cut, module]] = firefox((REFUSED, urls))
    assert html == [True, "DownloadError", "RQ_E_MAGIC"]
    assert missing[:2] == [True, "DownloadError"]
    assert cut[:2] == [True, "DownloadError"]
    assert module == [True, "DownloadError", "RQ_E_MAGIC"]
