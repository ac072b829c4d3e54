"""The public API in a page: sources, stopping, stop texts, tokens, disposal, bad options, isolation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import ISOLATION, serving

OPEN = """const { Model, diagnose } = await import("/ruvq.js");
const model = await Model.fetch("/models/f32.gguf");"""


def run(page: Any, body: str) -> Any:
    """Runs JavaScript with `model`, stories260K in f32; disposes of it afterwards."""
    return page.evaluate(
        "async () => {"
        + OPEN
        + "try { return await (async () => {"
        + body
        + "})(); } finally { model.dispose(); } }"
    )


@pytest.mark.parametrize(
    "made",
    [
        "await answer.blob()",
        "await answer.arrayBuffer()",
        "new Uint8Array(await answer.arrayBuffer())",
        "new File([await answer.blob()], 'model.gguf')",
    ],
)
def test_models_open_from_everything_that_holds_bytes(page: Any, made: str) -> None:
    result = run(
        page,
        f"""const answer = await fetch("/models/f32.gguf");
        const opened = await Model.open({made});
        let text = "";
        for await (const piece of opened.generate("", {{ temperature: 0, maxTokens: 8 }})) text += piece;
        opened.dispose();
        return text;""",
    )
    assert result.startswith("Once upon a time")


def test_anything_else_is_a_usage_error(page: Any) -> None:
    error = run(page, 'return Model.open("model.gguf").catch((e) => [e.name, e.actual, e.hint]);')
    assert error[:2] == ["UsageError", "String"]
    assert "Model.fetch" in error[2]


def test_an_abort_keeps_the_text_so_far(page: Any) -> None:
    result = run(
        page,
        """const controller = new AbortController();
        const generation = model.generate("", { temperature: 0, maxTokens: 500, signal: controller.signal });
        let pieces = 0;
        for await (const piece of generation) if (piece && ++pieces === 5) controller.abort();
        return { text: generation.text, pieces, stats: generation.stats };""",
    )
    assert result["stats"]["finishReason"] == "aborted"
    assert result["text"].startswith("Once upon a time")
    assert 5 <= result["stats"]["tokens"] < 500


def test_leaving_the_loop_stops_the_engine_and_the_model_can_be_used_again(page: Any) -> None:
    result = run(
        page,
        """for await (const piece of model.generate("", { temperature: 0, maxTokens: 500 })) if (piece) break;
        const first = model.stats;
        let text = "";
        for await (const piece of model.generate("", { temperature: 0, maxTokens: 8 })) text += piece;
        return { first, text };""",
    )
    assert result["first"]["finishReason"] == "aborted"
    assert result["first"]["tokens"] < 500
    assert result["text"].startswith("Once upon a time")


def test_a_new_generation_ends_the_one_before(page: Any) -> None:
    result = run(
        page,
        """const read = async (generation) => {
          for await (const piece of generation) void piece;
          return generation;
        };
        const first = read(model.generate("", { temperature: 0, maxTokens: 500 }));
        const second = read(model.generate("", { temperature: 0, maxTokens: 8 }));
        return [(await first).stats.finishReason, (await second).text];""",
    )
    assert result[0] == "aborted"
    assert result[1].startswith("Once upon a time")


def test_a_stop_text_ends_it_and_is_not_given(page: Any) -> None:
    result = run(
        page,
        """const options = { temperature: 0, maxTokens: 100, stop: [" girl named", "never"] };
        const generation = model.generate("", options);
        for await (const piece of generation) void piece;
        return [generation.text, generation.stats.finishReason];""",
    )
    assert result == ["Once upon a time, there was a little", "stop"]


def test_tokens_and_text_belong_together(page: Any) -> None:
    ids, text, special = run(
        page,
        """const ids = await model.tokenize("Once upon a time, 日本 🙂");
        return [ids, await model.detokenize(ids), await model.tokenize("a", { special: true })];""",
    )
    assert text == "Once upon a time, 日本 🙂"
    assert special[0] == 1
    assert all(isinstance(i, int) for i in ids)


@pytest.mark.parametrize(
    ("options", "subject"),
    [("{ maxTokens: -1 }", "maxTokens"), ("{ temperature: NaN }", "temperature"), ("{ topP: 2 }", "topP"),
     ("{ topK: 0.5 }", "topK"), ("{ seed: 'x' }", "seed")],
)  # fmt: skip
def test_options_out_of_range_are_named(page: Any, options: str, subject: str) -> None:
    error = run(
        page,
        f"""try {{ for await (const piece of model.generate("a", {options})) void piece; }}
        catch (e) {{ return [e.name, e.subject]; }}""",
    )
    assert error == ["UsageError", subject]


def test_a_prompt_longer_than_the_context_is_a_typed_error(page: Any) -> None:
    error = run(
        page,
        """try { for await (const piece of model.generate("word ".repeat(2000))) void piece; }
        catch (e) { return [e.name, e.code]; }""",
    )
    assert error == ["ContextFullError", "RQ_E_CONTEXT"]


def test_a_full_context_ends_the_text(page: Any) -> None:
    stats = run(
        page,
        """const small = await Model.fetch("/models/f32.gguf", { context: 16 });
        for await (const piece of small.generate("", { temperature: 0 })) void piece;
        small.dispose();
        return small.stats;""",
    )
    assert (stats["finishReason"], stats["tokens"]) == ("context", 16)


def test_info_and_stats_tell_what_ran(page: Any) -> None:
    info, stats, load = run(
        page,
        """for await (const piece of model.generate("Once", { maxTokens: 4, seed: 5n })) void piece;
        return [model.info, model.stats, model.loadSeconds];""",
    )
    assert info["parameters"] == 260032
    assert info["bitsPerWeight"] == 32
    assert (info["architecture"], info["tokenizer"], info["context"]) == ("llama", "spm", 512)
    assert (stats["tokens"], stats["seed"]) == (4, "5")
    assert stats["tokensPerSecond"] > 0
    assert stats["timeToFirstToken"] > 0
    assert load["all"] == pytest.approx(load["engine"] + load["transfer"] + load["open"])
    assert min(load.values()) > 0


def assert_no_workers(page: Any) -> None:
    """Chromium takes two seconds to end a thread that sleeps inside the engine."""
    deadline = time.monotonic() + 10
    while page.workers and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert page.workers == []


def test_after_dispose_the_model_refuses_and_its_worker_is_gone(page: Any) -> None:
    error = run(page, "model.dispose(); model.dispose(); return model.tokenize('a').catch((e) => e.name);")
    assert error == "UsageError"
    assert_no_workers(page)


def test_twenty_models_one_after_the_other_leave_no_worker(page: Any) -> None:
    page.evaluate(
        """async () => {
          const { Model } = await import("/ruvq.js");
          for (let i = 0; i < 20; i += 1) (await Model.fetch("/models/pi-t3.gguf")).dispose();
        }"""
    )
    assert_no_workers(page)


# ---- cross-origin isolation ----


@pytest.fixture(params=[ISOLATION, ISOLATION[:1], ISOLATION[1:]], ids=["neither", "no-opener", "no-embedder"])
def open_site(request: pytest.FixtureRequest, site_folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    with serving(site_folder, without=request.param) as url:
        yield url, request.param


def test_without_isolation_it_works_and_diagnose_names_the_missing_header(
    browser: Any, open_site: tuple[str, tuple[str, ...]]
) -> None:
    url, missing = open_site
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}/blank.html")
    report = run(
        page,
        """let text = "";
        for await (const piece of model.generate("", { temperature: 0, maxTokens: 8 })) text += piece;
        return { text, ...(await diagnose()) };""",
    )
    context.close()
    assert report["text"].startswith("Once upon a time")
    assert report["usable"]
    assert not report["threads"]
    assert [header.split(":")[0] for header in report["missingHeaders"]] == list(missing)
    assert all(name in report["advice"][0] for name in missing)


def test_with_isolation_diagnose_has_nothing_to_say(page: Any) -> None:
    report = run(page, "return diagnose();")
    assert report["crossOriginIsolated"]
    assert report["threads"]
    assert report["simd"]
    assert report["missingHeaders"] == []
    assert report["cores"] >= 1
