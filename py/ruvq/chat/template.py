"""The chat template of a model: found in its metadata, fed with checked messages.

    template = ChatTemplate.choose(file.metadata, special={"bos_token": "<s>", "eos_token": "</s>"})
    text = template.render([{"role": "user", "content": "Hello"}])

What a template sees is what it sees in `transformers`: `messages`, `tools`, `documents`,
`add_generation_prompt`, the texts of the special tokens, and whatever variables the caller adds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import MissingDependencyError, TemplateError, UsageError

__all__ = ["ChatTemplate", "Message", "template_names"]

Message = Mapping[str, Any]
KEY = "tokenizer.chat_template"
DEFAULT = "default"
MAX_DEPTH = 32  # of lists and dicts in a message
_ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")  # it may stand inside a special token: <|user|>


class ChatTemplate:
    """A compiled template. `source`: its Jinja text; `name`: of the variant; `special`: texts of special
    tokens by the names that templates use (`bos_token`, `eos_token`, ...)."""

    def __init__(self, source: str, special: Mapping[str, str] | None = None, name: str = DEFAULT) -> None:
        """Raises TemplateError for a text that is no template, or too long; MissingDependencyError."""
        self.source, self.name, self.special = source, name, dict(special or {})
        self._render = _renderer(source)

    @classmethod
    def choose(
        cls,
        metadata: Mapping[str, Any],
        template: str | None = None,
        *,
        tools: bool = False,
        special: Mapping[str, str] | None = None,
    ) -> ChatTemplate:
        """The template that `template` names or is, or the file's own: with `tools` its variant "tool_use"
        where there is one. TemplateError where there is none: nothing is ever assumed."""
        names = template_names(metadata)
        if template is not None and template not in names:
            if "{{" not in template and "{%" not in template:
                raise TemplateError(
                    "the file has no chat template of this name",
                    subject=template[:60],
                    expected=" or ".join([*names, "the text of a Jinja template"]),
                    hint="ruvq inspect --metadata lists what the file holds",
                )
            return cls(template, special, "given")
        name = template or ("tool_use" if tools and "tool_use" in names else DEFAULT)
        source = metadata.get(names[name]) if name in names else None
        if not isinstance(source, str) or not source:
            raise TemplateError(
                "the file has no chat template",
                subject=KEY,
                expected="a template in the file, or template=",
                actual="none" if not names else "templates named " + ", ".join(names),
                hint="pass template=, the Jinja text of this model's chat_template.jinja or "
                "tokenizer_config.json; another model's would give bad answers",
            )
        return cls(source, special, name)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        change: Callable[[str], str] | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as the model was trained to read it. `change` is applied to every text of
        messages and tools first. Raises UsageError for messages that are none, TemplateError otherwise."""
        given = {
            **self.special,
            "documents": None,
            **{name: plain(value, change, name) for name, value in variables.items()},
            "messages": check_messages(messages, change),
            "tools": plain(tools, change, "tools") if tools else None,
            "add_generation_prompt": add_generation_prompt,
        }
        return self._render(given)


def _renderer(source: str) -> Callable[[Mapping[str, Any]], str]:
    """What renders this template: Jinja2, or in Pyodide what `ruvq.browser.templates` has loaded."""
    try:
        from . import sandbox
    except ImportError as error:
        if sys.platform == "emscripten":
            from ..browser import templates

            if templates.loaded():
                return lambda variables: templates.render(source, variables)
        raise MissingDependencyError(
            "rendering chat templates needs Jinja2",
            subject="jinja2",
            actual=str(error),
            hint='install it (in Pyodide: await micropip.install("jinja2")), or use stream_chat there',
        ) from error
    compiled = sandbox.compile_template(source)
    return lambda variables: sandbox.render(compiled, variables)


def template_names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Names of the templates of a file → their metadata keys."""
    found = {DEFAULT: KEY} if KEY in metadata else {}
    listed = metadata.get("tokenizer.chat_templates", ())
    for name in listed if isinstance(listed, Sequence) and not isinstance(listed, str) else ():
        if f"{KEY}.{name}" in metadata:
            found[str(name)] = f"{KEY}.{name}"
    return found


def check_messages(messages: Any, change: Callable[[str], str] | None = None) -> list[dict[str, Any]]:
    """A copy of the messages in plain dicts. UsageError says which one is wrong, and how."""
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence) or not messages:
        raise UsageError(
            "there are no messages",
            subject="messages",
            expected='a list like [{"role": "user", "content": "Hello"}]',
            actual="an empty list"
            if isinstance(messages, Sequence) and not messages
            else repr(messages)[:60],
        )
    out = []
    for number, message in enumerate(messages):
        subject = f"messages[{number}]"
        role = message.get("role") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or not _ROLE.match(role):
            raise UsageError(
                "a message has no usable role",
                subject=subject,
                expected="a role such as system, user, assistant or tool",
                actual=repr(message if role is None else role)[:60],
            )
        if "content" not in message and not message.get("tool_calls"):
            raise UsageError(
                "a message has no content", subject=subject, expected="content", actual=", ".join(message)
            )
        body = {key: value for key, value in message.items() if key != "role"}
        out.append({"role": role, **plain(body, change, subject)})
    return out


def plain(value: Any, change: Callable[[str], str] | None, subject: str, depth: int = 0) -> Any:
    """A copy in plain lists and dicts, with `change` applied to its texts. UsageError for anything that JSON
    couldn't hold."""
    if isinstance(value, str):
        return change(value) if change else str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < MAX_DEPTH and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            (change(key) if change else str(key)): plain(v, change, subject, depth + 1)
            for key, v in value.items()
        }
    if depth < MAX_DEPTH and isinstance(value, (list, tuple)):
        return [plain(v, change, subject, depth + 1) for v in value]
    raise UsageError(
        "messages hold only what JSON can hold",
        subject=subject,
        expected=f"texts, numbers, lists and dicts with texts as keys, {MAX_DEPTH} deep at most",
        actual=type(value).__name__,
    )
