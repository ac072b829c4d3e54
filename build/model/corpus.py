"""The training text as token arrays, and the windows cut from them.

Two streams: the real stories and the sampled ones. A stream is `<|endoftext|>` and a story, again and
again. Batches depend only on the seed and the step, so a run that goes on after a kill sees the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from train_tokenizer import END_OF_TEXT_ID


@dataclass
class Stream:
    tokens: np.ndarray  # (n,) uint16
    starts: np.ndarray  # (stories,) int64: where the separator before each story stands


def make_stream(stories: list[str], tokenizer: Tokenizer) -> Stream:
    encodings = tokenizer.encode_batch(stories, add_special_tokens=False)
    parts, starts, position = [], [], 0
    for encoding in encodings:
        starts.append(position)
        parts.append([END_OF_TEXT_ID, *encoding.ids])
        position += len(parts[-1])
    parts.append([END_OF_TEXT_ID])
    return Stream(np.concatenate([np.array(p, np.uint16) for p in parts]), np.array(starts))


def batch(
    real: Stream, sampled: Stream, real_share: float, rows: int, length: int, seed: int, step: int
) -> torch.Tensor:
    """(rows, length + 1) token windows; half begin where a story begins, half anywhere."""
    rng = np.random.default_rng((seed, step))
    from_real, at_start = rng.random(rows) < real_share, rng.random(rows) < 0.5
    windows = np.empty((rows, length + 1), np.int64)
    for stream, chosen in ((real, from_real), (sampled, ~from_real)):
        last, count = len(stream.tokens) - length - 1, int(chosen.sum())
        begins = np.where(at_start[chosen], rng.choice(stream.starts, count), rng.integers(last, size=count))
        windows[chosen] = stream.tokens[np.minimum(begins, last)[:, None] + np.arange(length + 1)]
    return torch.from_numpy(windows)
