"""Tokens of a rendered conversation, in which only the template can place a special token.

A user may write "<|im_end|>". Were the rendered text simply tokenized with its special tokens, that user
would end a turn and begin one in another role. So texts of special tokens inside messages are broken by a
guard, a character that occurs nowhere else, before the template sees them; the rendered text is cut at the
special tokens that are whole, which are the template's own; and the guards are taken out of what lies
between, which is tokenized as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import TemplateError
from .template import ChatTemplate, Message

if TYPE_CHECKING:
    from ..runtime.tokenizer import Tokenizer

__all__ = ["ChatPrompt", "chat_prompt", "special_texts", "special_tokens"]

_UNKNOWN, _CONTROL = 2, 3  # tokenizer.ggml.token_type of tokens that text can't give
_GUARDS = range(0xE000, 0xF8FF)  # private use: a text has few of them, if any
_PROBE = "ruvq0probe"


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation ready to be continued.

    `text`: what the template wrote; `tokens`: its ids; `end_ids`: ids that end the answer; `stops`: texts
    that end it, where the end of a turn is no token of the vocabulary.
    """

    text: str
    tokens: list[int]
    end_ids: frozenset[int]
    stops: tuple[str, ...]


def special_tokens(tokenizer: Tokenizer, types: Sequence[int] | None) -> dict[str, int]:
    """Texts of the tokens that text can't give (control, unknown) → ids. `types`: the file's
    tokenizer.ggml.token_type, without which all of the vocabulary is looked at."""
    if types is not None:
        ids: Iterable[int] = (i for i, kind in enumerate(types) if kind in (_UNKNOWN, _CONTROL))
    else:
        ids = (i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i))
    texts = ((tokenizer.token_bytes(i, special=True).decode("utf-8", "replace"), i) for i in ids)
    return {text: i for text, i in texts if text}


def special_texts(tokenizer: Tokenizer) -> dict[str, str]:
    """The texts of the tokenizer's special tokens by the names that templates use."""
    ids = {
        "bos_token": tokenizer.bos,
        "eos_token": tokenizer.eos,
        "unk_token": tokenizer.unknown,
        "pad_token": tokenizer.padding,
    }
    return {
        name: tokenizer.token_bytes(i, special=True).decode("utf-8", "replace")
        for name, i in ids.items()
        if i is not None
    }


def chat_prompt(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    special: Mapping[str, int],
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> ChatPrompt:
    """Renders a conversation and makes tokens of it. `special`: what `special_tokens` gives.

    BOS is there where the template puts it, and nowhere else. Raises UsageError, TemplateError.
    """
    guard = _unused((messages, tools, variables, template.source))
    text = template.render(
        messages,
        tools=tools,
        add_generation_prompt=add_generation_prompt,
        change=_guarding(special, guard),
        **variables,
    )
    ends, stops = turn_end(template, special, variables)
    return ChatPrompt(
        text.replace(guard, ""),
        tokenize(tokenizer, special, text, guard),
        frozenset((*tokenizer.end_ids, *ends)),
        stops,
    )


def tokenize(tokenizer: Tokenizer, special: Mapping[str, int], text: str, guard: str) -> list[int]:
    """Ids of a text: whole special tokens (the longest at the leftmost place), and text between them."""
    ids: list[int] = []
    last = 0
    for match in _pattern(special).finditer(text) if special else ():
        ids += tokenizer.encode(text[last : match.start()].replace(guard, ""))
        ids.append(special[match[0]])
        last = match.end()
    return ids + tokenizer.encode(text[last:].replace(guard, ""))


def turn_end(
    template: ChatTemplate, special: Mapping[str, int], variables: Mapping[str, Any]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """What the template writes behind an answer: the id of a special token, or else a text."""
    probe = [{"role": "user", "content": _PROBE + "1"}, {"role": "assistant", "content": _PROBE + "2"}]
    try:
        text = template.render(probe, add_generation_prompt=False, **variables)
    except TemplateError:  # it takes only conversations of another kind: the vocabulary's own ends remain
        return (), ()
    after = text.rpartition(_PROBE + "2")[2].strip()
    match = _pattern(special).match(after) if special else None
    if match:
        return (special[match[0]],), ()
    return (), ((after,) if after else ())


def test_render(template: ChatTemplate) -> None:
    """Raises TemplateError unless the template renders a first message, and keeps its words."""
    text = template.render([{"role": "user", "content": _PROBE}])
    if _PROBE not in text:
        raise TemplateError(
            "the template drops the user's message",
            expected="the words of the message in the rendered text",
            actual=repr(text[:80]),
        )


# ---- guards ----


def _pattern(special: Mapping[str, int]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(t) for t in sorted(special, key=len, reverse=True)))


def _unused(values: Any) -> str:
    """A character that no text in `values` has."""
    seen: set[str] = set()
    _collect(values, seen)
    for code in _GUARDS:
        if chr(code) not in seen:
            return chr(code)
    raise TemplateError("the messages use every character of private use", hint="leave one of them out")


def _collect(value: Any, seen: set[str], depth: int = 0) -> None:
    if isinstance(value, str):
        seen.update(c for c in value if "\ue000" <= c <= "\uf8ff")
    elif depth < 40 and isinstance(value, Mapping):
        for pair in value.items():
            _collect(pair, seen, depth + 1)
    elif depth < 40 and isinstance(value, (list, tuple)):
        for part in value:
            _collect(part, seen, depth + 1)


def _guarding(special: Mapping[str, int], guard: str) -> Callable[[str], str]:
    """Breaks special tokens in a text, and ends of it that could be a part of one beside template text."""
    longer = {text: i for text, i in special.items() if len(text) > 1}
    if not longer:
        return str
    whole = _pattern(longer)
    tails = tuple({text[k:] for text in longer for k in range(1, len(text) - 1)})
    heads = tuple({text[:k] for text in longer for k in range(2, len(text))})

    def change(text: str) -> str:
        while whole.search(text):
            text = whole.sub(lambda match: match[0][0] + guard + match[0][1:], text)
        begin, end = len(text) - len(text.lstrip()), len(text.rstrip())
        if text.endswith(heads, begin, end):
            text = text[: end - 1] + guard + text[end - 1 :]
        if text.startswith(tails, begin):
            text = text[: begin + 1] + guard + text[begin + 1 :]
        return text

    return change
