"""Chat in a page, from JavaScript and in Pyodide: the answers are native's, the refusals typed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ruvq
from attacks.templates import ATTACKS
from browser import copy_scripts, serving

from .chat_models import quantized, write_chat_model

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build"))
TURNS = [
    {"role": "system", "content": "the <|im_end|>"},
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "é"},
    {"role": "user", "content": "and?"},
]
PYODIDE = "314.0.7"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The page's files, Pyodide, and a model that chats: (address, model)."""
    import pyodide_dist

    folder = copy_scripts(tmp_path_factory.mktemp("site"))
    for name in ("program.html", "program.mjs"):
        shutil.copyfile(ROOT / "tests" / "pyodide" / name, folder / name)
    pyodide_dist.assemble_links(folder / "pyodide")
    path = quantized(write_chat_model(folder / "source"), folder / "chat.gguf")
    with serving(folder) as address:
        yield address, path


@pytest.fixture(scope="module")
def expected(site: tuple[str, Path]) -> dict[str, Any]:
    """What native gives."""
    with ruvq.Model.open(site[1], kv="f32") as model:
        text = "".join(model.chat(TURNS, 12, seed=3))
        return {"text": text, "ids": model.chat_prompt(TURNS).tokens}


def test_a_page_chats(browser: Any, site: tuple[str, Path], expected: dict[str, Any]) -> None:
    page = browser.new_page()
    page.goto(f"{site[0]}/blank.html")
    found = page.evaluate(
        """async ([turns, attack]) => {
          const { Model } = await import("/ruvq.js");
          const model = await Model.fetch("/chat.gguf", { kv: "f32" });
          try {
            const answer = model.chat(turns, { maxTokens: 12, seed: 3 });
            let text = "";
            for await (const piece of answer) text += piece;
            const { ids } = await model.chatPrompt(turns);
            const fails = async (messages, options) => {
              try { for await (const _ of model.chat(messages, options)); } catch (e) { return e.name; }
              return "nothing";
            };
            const controller = new AbortController();
            const aborted = model.chat(turns, { signal: controller.signal });
            for await (const _ of aborted) controller.abort();
            return {
              text, ids, reason: aborted.stats.finishReason, tokens: answer.stats.promptTokens,
              errors: [await fails(turns, { template: attack }), await fails([], {}), await fails(
                [{ role: "user", content: "x".repeat(400) }], {})],
            };
          } finally {
            model.dispose();
          }
        }""",
        [TURNS, ATTACKS["lists in lists"]],
    )
    page.close()
    assert found["text"] == expected["text"]
    assert found["ids"] == expected["ids"]
    assert found["tokens"] == len(expected["ids"])
    assert found["reason"] in ("aborted", "stop", "context", "length")
    assert found["errors"] == ["TemplateError", "UsageError", "ContextFullError"]


PROGRAM = """
import json
import ruvq
out = {}
model = await ruvq.Model.fetch(f"{base}/chat.gguf", kv="f32")
out["fetched"] = "".join([piece async for piece in model.stream_chat(turns, 12, seed=3)])
try:
    async for piece in model.stream_chat(turns, template="{{ raise_exception('no') }}"):
        pass
except ruvq.RuvqError as error:
    out["refused"] = [type(error).__name__, str(error)]
out["variables"] = len([p async for p in model.stream_chat(
    turns, 2, template="{{ messages[0].content if on else raise_exception('off') }}",
    variables={"on": True})]) <= 2
model.close()
from pyodide.http import pyfetch
data = await (await pyfetch(f"{base}/chat.gguf")).bytes()
with ruvq.Model.open(data, kv="f32") as model:
    try:
        "".join(model.chat(turns, 12, seed=3))
    except ruvq.RuvqError as error:
        out["without jinja2"] = [type(error).__name__, str(error)]
    out["opened"] = "".join([piece async for piece in model.stream_chat(turns, 12, seed=3)])
json.dumps(out)
"""


@pytest.mark.slow
def test_pyodide_chats(browser: Any, site: tuple[str, Path], expected: dict[str, Any]) -> None:
    page = browser.new_page()
    page.set_default_timeout(0)
    page.goto(f"{site[0]}/program.html")
    page.wait_for_function("window.runPython !== undefined", timeout=30_000)
    program = f"base = {site[0]!r}\nturns = {TURNS!r}\n" + PROGRAM
    call = "([version, program]) => runPython('page', version, program, 'simple')"
    found = json.loads(page.evaluate(call, [PYODIDE, program]))
    page.close()
    assert found["fetched"] == expected["text"]
    assert found["refused"][0] == "TemplateError"
    assert "refuses this conversation" in found["refused"][1]
    assert found["variables"] is True
    assert found["without jinja2"][0] == "MissingDependencyError"
    assert "jinja2" in found["without jinja2"][1]
    assert found["opened"] == expected["text"]
