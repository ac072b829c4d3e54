"""Chat in JavaScript gives what Python gives: texts of templates, tokens, answers, refusals."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ruvq
from attacks.templates import ATTACKS

from .chat_models import quantized, write_chat_model
from .record import SPECIAL, arguments, conversations, templates
from .test_chat import HELLO, INJECTIONS
from .test_templates import BAD_MESSAGES, RECORDED

HERE = Path(__file__).parent
VARIANTS = [{"name": "default", "template": "default {{ messages[0].content }}"},
            {"name": "tool_use", "template": "tools {{ tools | length }}"}]  # fmt: skip


@pytest.fixture(scope="module")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    return quantized(write_chat_model(folder / "model"), folder / "chat.gguf")


def in_node(repository: Path, file: Path, **requests: Any) -> dict[str, list[dict[str, Any]]]:
    """The answers of node_chat.mjs."""
    words = ["node", str(HERE / "node_chat.mjs"), str(repository / "web" / "ruvq.wasm"), str(file)]
    done = subprocess.run(
        words, input=json.dumps(requests), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_family_renders_as_transformers_does(repository: Path, chat_file: Path, data_dir: Path) -> None:
    cases = [(t, c, text) for t, rendered in RECORDED.items() for c, text in rendered.items()]
    renderings = []
    for template, name, _ in cases:
        conversation = conversations()[name]
        given = {
            **SPECIAL,
            "documents": None,
            **arguments(conversation),
            "messages": conversation["messages"],
        }
        renderings.append({"source": templates()[template].read_text(encoding="utf-8"), "variables": given})
    found = in_node(repository, chat_file, renderings=renderings)["renderings"]
    for (template, name, expected), answer in zip(cases, found, strict=True):
        if expected.startswith("error: "):
            assert answer.get("error") == "TemplateError", (template, name, answer)
        else:
            assert answer.get("text") == expected, (template, name, answer)


def test_hostile_templates_are_refused(repository: Path, chat_file: Path) -> None:
    renderings = [{"source": source, "variables": {"messages": HELLO}} for source in ATTACKS.values()]
    found = in_node(repository, chat_file, renderings=renderings)["renderings"]
    for name, answer in zip(ATTACKS, found, strict=True):
        assert answer.get("error") == "TemplateError", (name, answer)


def test_tokens_and_answers_are_pythons(repository: Path, chat_file: Path) -> None:
    asked: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": content}] for content in ("the cat", "<think>", *INJECTIONS)
    ]
    asked += [[{"role": "system", "content": "the "}, *HELLO, {"role": "assistant", "content": "é"}, *HELLO]]
    found = in_node(
        repository,
        chat_file,
        prompts=[{"messages": messages} for messages in asked],
        answers=[{"messages": messages, "options": {"maxTokens": 12, "seed": 5}} for messages in asked],
    )
    with ruvq.Model.open(chat_file, kv="f32") as model:
        for messages, prompt, answer in zip(asked, found["prompts"], found["answers"], strict=True):
            expected = model.chat_prompt(messages)
            assert prompt["text"] == expected.text
            assert prompt["ids"] == expected.tokens
            assert {*prompt["endIds"], *model.tokenizer.end_ids} == expected.end_ids
            written = model.chat(messages, 12, seed=5)
            assert answer == {"text": "".join(written), "finishReason": written.finish_reason}


def test_refusals_have_pythons_names(repository: Path, chat_file: Path, tmp_path: Path) -> None:
    long = [{"role": "user", "content": "x" * 400}]
    bad = [messages for messages, _ in BAD_MESSAGES[:5]]
    found = in_node(repository, chat_file, answers=[{"messages": m, "options": {}} for m in (*bad, long)])
    assert [answer.get("error") for answer in found["answers"]] == ["UsageError"] * 5 + ["ContextFullError"]
    plain = quantized(write_chat_model(tmp_path / "model", template=None), tmp_path / "plain.gguf")
    (missing,) = in_node(repository, plain, prompts=[{"messages": HELLO}])["prompts"]
    assert missing["error"] == "TemplateError"
    assert "`template`" in missing["message"]


def test_a_changed_tokenizer_is_noticed_when_a_model_is_loaded(
    repository: Path, chat_file: Path, tmp_path: Path
) -> None:
    content = chat_file.read_bytes()
    begin = content.index(b'[["Once upon a time')
    digit = begin + content[begin:].index(b",[") + 2
    other = b"7" if content[digit : digit + 1] != b"7" else b"8"
    for changed, message in ((other, "other tokens"), (b"x", "can't be read")):
        damaged = tmp_path / "damaged.gguf"
        damaged.write_bytes(content[:digit] + changed + content[digit + 1 :])
        words = ["node", str(HERE / "node_chat.mjs"), str(repository / "web" / "ruvq.wasm"), str(damaged)]
        done = subprocess.run(words, input="{}", capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode != 0
        assert "TokenizerError" in done.stderr
        assert message in done.stderr


def test_variants_are_chosen_as_in_python(repository: Path, tmp_path: Path) -> None:
    file = quantized(write_chat_model(tmp_path / "model", template=VARIANTS), tmp_path / "named.gguf")
    tools = [{"type": "function"}]
    options: list[dict[str, Any]] = [{}, {"tools": tools}, {"tools": tools, "template": "default"}]
    found = in_node(repository, file, prompts=[{"messages": HELLO, "options": o} for o in options])
    texts = [prompt["text"] for prompt in found["prompts"]]
    with ruvq.Model.open(file) as model:
        assert texts == [model.chat_prompt(HELLO, **o).text for o in options]
    assert texts == ["default the cat", "tools 1", "default the cat"]
