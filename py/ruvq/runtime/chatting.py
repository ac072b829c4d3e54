"""Chat for ruvq.Model: messages in, an answer out, with the file's own template.

    for piece in model.chat([{"role": "user", "content": "Hello"}], temperature=0):
        print(piece, end="", flush=True)

The template, the special tokens and the ends of a turn are those of the file; nothing is assumed where it has
none. What the KV cache holds of the conversation so far isn't computed again.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..chat import ChatPrompt, ChatTemplate, chat_prompt
from ..chat.prompt import special_texts, special_tokens
from ..errors import ContextFullError

if TYPE_CHECKING:
    from ..chat.template import Message
    from .engine import ModelInfo
    from .generation import Generation
    from .tokenizer import Tokenizer

__all__ = ["Chatting"]

Tools = Sequence[Mapping[str, Any]]


class Chatting:
    """What Model has for conversations."""

    if TYPE_CHECKING:
        info: ModelInfo

        @property
        def tokenizer(self) -> Tokenizer: ...

        @property
        def metadata(self) -> Mapping[str, Any]: ...

        def generate(self, *args: Any, **options: Any) -> Generation: ...

    _special: dict[str, int] | None = None
    _templates: dict[Any, ChatTemplate] | None = None  # compiled, by what chose them

    def chat(
        self,
        messages: Sequence[Message],
        max_tokens: int | None = None,
        *,
        tools: Tools | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Generation:
        """The assistant's answer to `messages`, dicts with "role" and "content": an iterator of pieces of
        text, as `generate` gives one, which ends at the end of the turn.

        `max_tokens`: of the answer; None: as many as the context leaves. `tools`: JSON schemas, for templates
        that know them. `template`: the text of a Jinja template or the name of one in the file, instead of
        the file's own. `variables`: what else the template asks for, {"enable_thinking": False} for one.
        `options`: those of `generate` (temperature, seed, stop, ...). A special token that is written out in
        a message is text: only the template places special tokens. Raises TemplateError (no template, or it
        refuses), UsageError, ContextFullError when the conversation leaves no room for an answer.
        """
        prompt = self.chat_prompt(messages, tools=tools, template=template, variables=variables)
        left = self.info.context_tokens - len(prompt.tokens)
        if left < 1:
            raise ContextFullError(
                "the conversation has outgrown the context",
                subject="messages",
                expected=f"at most {self.info.context_tokens - 1} tokens, and room for an answer",
                actual=f"{len(prompt.tokens)} tokens",
                hint="leave out the oldest turns, or open the model with a longer context",
                code="RQ_E_CONTEXT",
            )
        stop = options.pop("stop", None)
        stops = [stop] if isinstance(stop, str) else list(stop or ())
        wanted = left if max_tokens is None else max_tokens
        generation = self.generate(prompt.tokens, wanted, stop=[*stops, *prompt.stops], **options)
        generation.end_at(prompt.end_ids)
        return generation

    def stream_chat(
        self, messages: Sequence[Message], max_tokens: int | None = None, **options: Any
    ) -> AsyncIterator[str]:
        """`chat` for `async for`: the event loop gets a turn before every token, and may cancel there. The
        Generation is in `last`. Works in Pyodide without Jinja2."""
        if sys.platform != "emscripten":
            return self.chat(messages, max_tokens, **options)
        return self._stream_in_pyodide(messages, max_tokens, options)

    async def _stream_in_pyodide(
        self, messages: Sequence[Message], max_tokens: int | None, options: dict[str, Any]
    ) -> AsyncIterator[str]:
        from ..browser import templates

        await templates.load()
        async for piece in self.chat(messages, max_tokens, **options):
            yield piece

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Tools | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> ChatPrompt:
        """What `chat` would let the model continue: `text`, `tokens`, `end_ids`, `stops`. To see what a
        template makes of a conversation, and to count its tokens. Raises as `chat` does."""
        chosen = self._chat_template(template, bool(tools))
        assert self._special is not None
        return chat_prompt(
            chosen,
            self.tokenizer,
            self._special,
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            **(variables or {}),
        )

    def _chat_template(self, template: str | None, tools: bool) -> ChatTemplate:
        if self._special is None:
            types = self.metadata.get("tokenizer.ggml.token_type")
            self._special = special_tokens(self.tokenizer, types)
            self._templates = {}
        assert self._templates is not None
        if (template, tools) not in self._templates:
            special = special_texts(self.tokenizer)
            self._templates[template, tools] = ChatTemplate.choose(
                self.metadata, template, tools=tools, special=special
            )
        return self._templates[template, tools]
