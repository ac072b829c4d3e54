"""Perplexity by the eval protocol of docs/formats.md, so that figures compare.

Text is split at `<|endoftext|>` where present (else one piece); each piece, without the white space
around it, is tokenized with BOS and cut to windows of 256 tokens (or the model's context if smaller)
without overlap; every token but the first of a window is predicted. Perplexity is exp of the mean
negative log-likelihood, its standard error is taken over windows.

A cap on tokens never cuts a piece: evaluation ends with the piece in which the cap is reached, and in a
text of one piece with the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from ..errors import UsageError

if TYPE_CHECKING:
    from ..runtime.model import Model, Perplexity

WINDOW = 256  # tokens, the first of which is only given
MARK = "<|endoftext|>"


class Encoder(Protocol):
    """What of a tokenizer is used."""

    bos: int | None

    def encode(self, text: str, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Ids of a text."""


Progress = Callable[[int, int, float], None]


def eval_windows(
    text: str, tokenizer: Encoder, window: int = WINDOW, max_tokens: int | None = None
) -> Iterator[list[int]]:
    """The windows to be predicted, as token ids; pieces are tokenized when their turn comes."""
    if window < 2:
        raise UsageError(
            "a window holds two tokens or more", subject="window", expected="2", actual=str(window)
        )
    begin = [] if tokenizer.bos is None else [tokenizer.bos]
    pieces = text.split(MARK)
    limit = max_tokens if max_tokens is not None else 1 << 62
    predicted = 0
    for piece in pieces:
        piece = piece.strip()
        if not piece:
            continue
        if predicted >= limit:
            return
        tokens = begin + tokenizer.encode(piece)
        for first in range(0, len(tokens) - 1, window):
            if len(pieces) == 1 and predicted >= limit:
                return
            part = tokens[first : first + window]
            predicted += len(part) - 1
            yield part


def perplexity(
    model: Model,
    text: str,
    *,
    window: int = WINDOW,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """The perplexity of `model` on `text`: a float with `stderr`, `tokens` (predicted) and `windows`.

    `progress(done, total, current)` is called after each window: tokens predicted, how many there will be,
    and the perplexity so far. UsageError when there is nothing to predict.
    """
    from ..runtime.model import Perplexity as Result

    size = min(window, model.info.context_tokens)
    windows = list(eval_windows(text, model.tokenizer, size, max_tokens))
    total = sum(len(w) - 1 for w in windows)
    scores: list[list[float]] = []
    done, loss = 0, 0.0
    for tokens in windows:
        scores.append(model.score(tokens))
        done += len(tokens) - 1
        loss -= math.fsum(scores[-1])
        if progress is not None:
            progress(done, total, math.exp(loss / done))
    return Result.of(scores)
