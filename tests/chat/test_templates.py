"""Templates render as `transformers` renders them (recorded.json is made by record.py); hostile ones are
refused."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from attacks.templates import ATTACKS
from ruvq.chat import ChatTemplate
from ruvq.chat.template import template_names
from ruvq.errors import TemplateError, UsageError

from .record import SPECIAL, arguments, conversations, ruvq_text, templates

HERE = Path(__file__).parent
RECORDED: dict[str, dict[str, str]] = json.loads((HERE / "recorded.json").read_text(encoding="utf-8"))
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("name", RECORDED)
def test_every_family_renders_as_transformers_does(name: str, data_dir: Path) -> None:
    source = templates()[name].read_text(encoding="utf-8")
    for conversation, expected in RECORDED[name].items():
        found = ruvq_text(source, conversations()[conversation])
        if expected.startswith("error: "):
            assert found.startswith("error: "), conversation
        else:
            assert found == expected, conversation


def test_every_template_and_conversation_is_recorded() -> None:
    assert set(RECORDED) == set(templates())
    for rendered in RECORDED.values():
        assert set(rendered) == set(conversations())
    texts = [text for rendered in RECORDED.values() for text in rendered.values()]
    assert sum(not text.startswith("error: ") for text in texts) > 60


def test_a_refusal_says_what_the_template_says() -> None:
    gemma = templates()["gemma"].read_text(encoding="utf-8")
    with pytest.raises(TemplateError, match="System role not supported"):
        ChatTemplate(gemma, SPECIAL).render([{"role": "system", "content": "x"}])


def test_the_date_is_todays() -> None:
    text = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}{{ messages[0].content }}").render(HELLO)
    assert text in {f"{day:%Y-%m-%d}Hello" for day in (datetime.now(),)}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_template_is_refused(name: str) -> None:
    with pytest.raises(TemplateError) as refused:
        ChatTemplate(ATTACKS[name]).render(HELLO)
    assert refused.value.expected or refused.value.actual


def test_long_conversations_are_not_over_rejected() -> None:
    turns: list[dict[str, Any]] = []
    for number in range(200):
        turns.append({"role": "user", "content": f"{number} " + "word " * 100})
        turns.append({"role": "assistant", "content": "answer " * 100})
    turns.append({"role": "user", "content": "x" * 100_000})
    for name in ("qwen3", "llama3", "mistral"):
        source = templates()[name].read_text(encoding="utf-8")
        assert "x" * 100_000 in ChatTemplate(source, SPECIAL).render(turns)


# ---- which template ----


def test_a_file_without_a_template_says_what_to_pass() -> None:
    with pytest.raises(TemplateError, match="template=") as missing:
        ChatTemplate.choose({})
    assert missing.value.subject == "tokenizer.chat_template"


def test_variants_are_chosen_by_name_and_by_tools() -> None:
    metadata = {
        "tokenizer.chat_template": "plain {{ messages | length }}",
        "tokenizer.chat_templates": ["tool_use", "rag", "gone"],
        "tokenizer.chat_template.tool_use": "tools {{ tools | length }}",
        "tokenizer.chat_template.rag": "rag {{ messages | length }}",
    }
    assert list(template_names(metadata)) == ["default", "tool_use", "rag"]
    assert ChatTemplate.choose(metadata).name == "default"
    assert ChatTemplate.choose(metadata, tools=True).name == "tool_use"
    assert ChatTemplate.choose(metadata, "rag", tools=True).render(HELLO) == "rag 1"
    assert ChatTemplate.choose(metadata, "own {{ messages[0].role }}").render(HELLO) == "own user"
    with pytest.raises(TemplateError, match="no chat template of this name"):
        ChatTemplate.choose(metadata, "gone")


BAD_MESSAGES = [
    ([], "an empty list"),
    ("Hello", "'Hello'"),
    ([{"content": "x"}], "messages[0]"),
    ([{"role": "user|><|system", "content": "x"}], "user|>"),
    ([{"role": "user", "content": "x"}, {"role": "user"}], "messages[1]"),
    ([{"role": "user", "content": object()}], "JSON"),
    ([{"role": "user", "content": {1: 2}}], "JSON"),
]


@pytest.mark.parametrize(("messages", "found"), BAD_MESSAGES)
def test_messages_that_are_none_are_named(messages: Any, found: str) -> None:
    with pytest.raises(UsageError) as refused:
        ChatTemplate("{{ messages }}").render(messages)
    assert found in str(refused.value)


def test_arguments_reach_the_template() -> None:
    given = arguments(conversations()["thinking off"])
    assert given["enable_thinking"] is False
    text = ChatTemplate("{{ enable_thinking }} {{ add_generation_prompt }}").render(HELLO, **given)
    assert text == "False True"
