"""Generating text: one token at a time, in whole characters, stoppable at every token.

A Generation is an iterator of pieces of text and, in `async for`, an asynchronous one that gives the
event loop a turn after every step. Its attributes tell how it went.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ContextFullError, UsageError

if TYPE_CHECKING:
    from .engine import Sampling
    from .model import Model

__all__ = ["Generation", "Stats", "StopFilter", "TokenReport"]


@dataclass
class Stats:
    """Counts and seconds of one generation; the time that the consumer takes between pieces isn't counted."""

    prompt_tokens: int = 0  # of the prompt, BOS included
    cached_tokens: int = 0  # of those, still in the KV cache from before
    prompt_seconds: float = 0.0
    decode_tokens: int = 0  # drawn
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of decoding; 0 before the first token."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds > 0 else 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Of the part of the prompt that was computed."""
        computed = self.prompt_tokens - self.cached_tokens
        return computed / self.prompt_seconds if self.prompt_seconds > 0 else 0.0


@dataclass(frozen=True)
class TokenReport:
    """How likely a token was: natural logarithms of probabilities, before biases and penalties."""

    token: int
    logprob: float
    top: list[tuple[int, float]]  # the likeliest tokens, the best first


class StopFilter:
    """Passes text on up to the first of the stop strings, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [s for s in stops if s]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What can be shown by now."""
        if self.stopped:
            return ""
        held = self._held + text
        found = [at for at in (held.find(s) for s in self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        keep = max((_overlap(held, s) for s in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0


class Generation:
    """Text being generated. Iterate over it, or `async for`; `close()` ends it early.

    Attributes: `finish_reason` (None while running; "stop": end token or stop string, "length": max_tokens,
    "context": the context is full, "aborted": closed early), `tokens` (ids drawn, the end token included),
    `logprobs` (a TokenReport for each of them, where asked for), `text` (all pieces so far), `stats`,
    `sampling` (with the seed that was used).
    """

    def __init__(
        self,
        model: Model,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str],
        at_start: bool,
        logprobs: int | None = None,
    ) -> None:
        self.sampling = sampling
        self.finish_reason: str | None = None
        self.tokens: list[int] = []
        self.logprobs: list[TokenReport] = []
        self._reports = logprobs
        self.text = ""
        self.stats = Stats(prompt_tokens=len(prompt))
        self._model = model
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._filter = StopFilter(stop)
        self._stream = model.tokenizer.stream(at_start=at_start)
        self._ends = frozenset(model.tokenizer.end_ids)
        self._events = self._run()

    def end_at(self, ids: Iterable[int]) -> None:
        """More ids that end the text; before it is first read."""
        self._ends |= frozenset(ids)

    # ---- the work, one step at a time: yields "" where nothing can be shown yet ----

    def _run(self) -> Iterator[str]:
        model, stats = self._model, self.stats
        engine = model._engine_for(self)
        engine.start_sampling(self.sampling)
        started = time.perf_counter()
        stats.cached_tokens = model._begin(self._prompt)
        waiting = 1
        while waiting:
            waiting = model._step()
            stats.prompt_seconds += time.perf_counter() - started
            yield ""
            engine = model._engine_for(self)
            started = time.perf_counter()
        if self._max_tokens == 0:
            self.finish_reason = "length"
        while self.finish_reason is None:
            started = time.perf_counter()
            if self.tokens:
                model._append(self.tokens[-1])
            token = engine.sample(model._recent(self.sampling))
            self.tokens.append(token)
            if self._reports is not None:
                top = engine.top_log_probabilities(self._reports) if self._reports else []
                self.logprobs.append(TokenReport(token, engine.log_probability(token), top))
            stats.decode_tokens += 1
            piece = "" if token in self._ends else self._filter.push(self._stream.push(token))
            self.finish_reason = self._finished(token, engine.position)
            if self.finish_reason is not None:
                piece += self._rest()
            stats.decode_seconds += time.perf_counter() - started
            yield piece
            engine = model._engine_for(self)

    def _finished(self, token: int, position: int) -> str | None:
        if token in self._ends or self._filter.stopped:
            return "stop"
        if len(self.tokens) >= self._max_tokens:
            return "length"
        return "context" if position >= self._model.info.context_tokens else None

    def _rest(self) -> str:
        """What the filters still hold when it ends without a stop string."""
        return self._filter.push(self._stream.flush()) + self._filter.flush()

    def _advance(self) -> str | None:
        """The next event, None at the end."""
        try:
            piece = next(self._events)
        except StopIteration:
            return None
        except BaseException:
            self.finish_reason = self.finish_reason or "aborted"
            raise
        self.text += piece
        return piece

    def close(self) -> None:
        """Ends it; the model can be used for something else. Nothing happens when it has ended."""
        if self.finish_reason is None:
            self.finish_reason = "aborted"
        self._events.close()  # type: ignore[attr-defined]

    # ---- both kinds of iteration ----

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> str:
        while True:
            piece = self._advance()
            if piece is None:
                raise StopIteration
            if piece:
                return piece

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> str:
        while True:
            await asyncio.sleep(0)  # lets the page draw, and cancellation in
            piece = self._advance()
            if piece is None:
                raise StopAsyncIteration
            if piece:
                return piece

    async def aclose(self) -> None:
        """`close`, for asynchronous code."""
        self.close()


def check_prompt(tokens: Sequence[int], context: int) -> None:
    """Raises when there is nothing to continue or no room for it."""
    if not tokens:
        raise UsageError(
            "nothing to continue: the prompt is empty and the vocabulary has no token for the beginning",
            subject="prompt",
            expected="at least one token",
            actual="none",
            hint="give a prompt",
        )
    if len(tokens) > context:
        raise ContextFullError(
            "the prompt is longer than the context",
            subject="prompt",
            expected=f"at most {context} tokens",
            actual=f"{len(tokens)} tokens",
            hint="shorten the prompt, or open the model with a longer context",
            code="RQ_E_CONTEXT",
        )
