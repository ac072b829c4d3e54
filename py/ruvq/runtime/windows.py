"""The windows of text that perplexity is taken over (docs/formats.md, "Eval protocol")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..errors import UsageError

WINDOW = 256  # tokens, the first of which is only given
MARK = "<|endoftext|>"


class Encoder(Protocol):
    """What of a tokenizer is used."""

    bos: int | None

    def encode(self, text: str, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Ids of a text."""


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
