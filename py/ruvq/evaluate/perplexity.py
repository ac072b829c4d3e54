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
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..runtime.windows import MARK, WINDOW, Encoder, eval_windows

if TYPE_CHECKING:
    from ..runtime.model import Model, Perplexity

__all__ = ["MARK", "WINDOW", "Encoder", "eval_windows", "perplexity"]

Progress = Callable[[int, int, float], None]


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
            progress(done, total, math.exp(min(loss / done, 700)))
    return Result.of(scores)
