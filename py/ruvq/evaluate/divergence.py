"""How a quantized model's predictions differ from the float model's, token by token.

Kullback-Leibler divergence D(float || quantized) in nats, how often both name the same top token, and the
ratio of the perplexities, all over the windows of docs/formats.md's protocol. Standard errors are taken over
windows: neighbouring tokens are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..runtime.model import Perplexity
from ..runtime.windows import WINDOW, eval_windows

if TYPE_CHECKING:
    import numpy as np

    from ..runtime.model import Model

PERCENTILES = (50, 90, 95, 99, 100)
ROWS = 16  # turned into probabilities at a time: large vocabularies in float64 are large

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Mean:
    """A mean over tokens and its standard error over windows."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Divergence:
    """`kl`: nats a token; `kl_percentiles`: percent → nats; `same_top`: a share of 1; `log_ratio`: of the
    perplexities, quantized over float, as a natural logarithm."""

    tokens: int
    windows: int
    perplexity: Perplexity
    reference: Perplexity
    kl: Mean
    kl_percentiles: dict[int, float]
    same_top: Mean
    log_ratio: Mean

    def as_dict(self) -> dict[str, Any]:
        """For `--json`, without the model's own perplexity."""
        return {
            "reference_perplexity": float(self.reference),
            "reference_stderr": self.reference.stderr,
            "kl_divergence": self.kl.value,
            "kl_stderr": self.kl.stderr,
            "kl_percentiles": {str(p): v for p, v in self.kl_percentiles.items()},
            "same_top_token": self.same_top.value,
            "same_top_stderr": self.same_top.stderr,
            "perplexity_ratio": math.exp(self.log_ratio.value),
            "perplexity_ratio_stderr": math.exp(self.log_ratio.value) * self.log_ratio.stderr,
        }


def mean_over(windows: Sequence[Sequence[float]]) -> Mean:
    """Mean of all numbers; its error by the delta method over windows (tokens, where there is one window)."""
    count = sum(len(w) for w in windows)
    value = math.fsum(x for w in windows for x in w) / count
    if len(windows) == 1:
        windows = [[x] for x in windows[0]]
    if len(windows) < 2:
        return Mean(value, 0.0)
    spread = math.fsum((math.fsum(w) - value * len(w)) ** 2 for w in windows)
    return Mean(value, math.sqrt(spread * len(windows) / (len(windows) - 1)) / count)


def compare_models(
    model: Model,
    reference: Model,
    text: str,
    *,
    window: int = WINDOW,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> Divergence:
    """Runs both models over the windows of `text`. `progress(tokens predicted, in all, perplexity so far)`.

    UsageError when they don't have the same vocabulary, or there is nothing to predict.
    """
    check_same_vocabulary(model, reference)
    size = min(window, model.info.context_tokens, reference.info.context_tokens)
    windows = list(eval_windows(text, model.tokenizer, size, max_tokens))
    total = sum(len(w) - 1 for w in windows)
    figures: tuple[list[list[float]], ...] = ([], [], [], [])
    scores, reference_scores, divergences, agreements = figures
    done, loss = 0, 0.0
    for tokens in windows:
        for figure in figures:
            figure.append([])
        for part in _compare_window(model, reference, tokens):
            for figure, values in zip(figures, part, strict=True):
                figure[-1].extend(values)
        done += len(tokens) - 1
        loss -= math.fsum(scores[-1])
        if progress is not None:
            progress(done, total, math.exp(min(loss / max(done, 1), 700)))
    perplexity = Perplexity.of(scores)  # refuses an empty text
    ratios = [
        [b - a for a, b in zip(s, r, strict=True)] for s, r in zip(scores, reference_scores, strict=True)
    ]
    return Divergence(
        tokens=done,
        windows=len(windows),
        perplexity=perplexity,
        reference=Perplexity.of(reference_scores),
        kl=mean_over(divergences),
        kl_percentiles=_percentiles([x for w in divergences for x in w]),
        same_top=mean_over(agreements),
        log_ratio=mean_over(ratios),
    )


def check_same_vocabulary(model: Model, reference: Model) -> None:
    """UsageError where logits of one can't be compared with the other's."""
    sizes = model.info.vocab_size, reference.info.vocab_size
    same = sizes[0] == sizes[1]
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.pre", "tokenizer.ggml.merges"):
        same = same and _listed(model, key) == _listed(reference, key)
    if not same:
        raise UsageError(
            "the models have different vocabularies",
            subject="--against",
            expected=f"the float model of the same {sizes[0]} tokens",
            actual=f"{sizes[1]} tokens" + (", not the same" if sizes[0] == sizes[1] else ""),
            hint="quantize it from this very model",
        )


def _listed(model: Model, key: str) -> Any:
    value = model.metadata.get(key)
    return value if value is None or isinstance(value, str) else list(value)


def _compare_window(
    model: Model, reference: Model, tokens: Sequence[int]
) -> Iterator[tuple[list[float], list[float], list[float], list[float]]]:
    """Of a few tokens at a time: log-probabilities of both, divergence, same top token (0 or 1)."""
    import numpy as np

    ours, theirs = np.asarray(model.logits(tokens)), np.asarray(reference.logits(tokens))
    for first in range(0, len(tokens) - 1, ROWS):
        last = min(first + ROWS, len(tokens) - 1)
        following = np.asarray(tokens[first + 1 : last + 1])
        q, p = log_softmax(ours[first:last]), log_softmax(theirs[first:last])
        rows = np.arange(last - first)
        divergence = np.maximum(np.sum(np.exp(p) * (p - q), axis=1), 0.0)  # rounding may go below 0
        agreement = np.argmax(q, axis=1) == np.argmax(p, axis=1)
        yield (
            q[rows, following].tolist(),
            p[rows, following].tolist(),
            divergence.tolist(),
            agreement.astype(float).tolist(),
        )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural logarithms of probabilities, float64 (rows, vocab_size)."""
    import numpy as np

    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def _percentiles(values: Sequence[float]) -> dict[int, float]:
    import numpy as np

    return dict(zip(PERCENTILES, np.percentile(values, PERCENTILES).tolist(), strict=True))
