"""Texts to batches of tokens, with the reasoning steps that some records mark.

A text file has pieces separated by <|endoftext|>; a .jsonl file has records with `text`, `question` and
`answer` (GSM8K's format: a step is a line of the answer before "####"), or `prompt` and `completion`; a field
`reasoning`, or <think> markers in the text, name the steps instead. Every piece begins with BOS.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StorageError, TokenizerError, UsageError
from ..gguf.writer import write_gguf
from ..runtime.tokenizer import Tokenizer
from ..runtime.windows import MARK
from ..sources import Source

PAIRS = (("question", "answer"), ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"))
NO_STEP = -1
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)


@dataclass(frozen=True)
class Record:
    """One text, and the (first, last) characters of each of its reasoning steps."""

    text: str
    steps: tuple[tuple[int, int], ...] = ()


def _lines(text: str, first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Spans of the lines between two places that aren't blank."""
    out, at = [], first
    for line in text[first:last].split("\n"):
        if line.strip():
            out.append((at, at + len(line)))
        at += len(line) + 1
    return tuple(out)


def _marked(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(
        span for found in _THINK.finditer(text) for span in _lines(text, found.start(1), found.end(1))
    )


def record_of(fields: Any, where: str) -> Record:
    """A record from its fields; UsageError, which names the place, where they aren't known."""
    if isinstance(fields, dict):
        if isinstance(fields.get("text"), str):
            text = fields["text"]
            return Record(text, _reasoning(fields, text) or _marked(text))
        for first, second in PAIRS:
            if isinstance(fields.get(first), str) and isinstance(fields.get(second), str):
                text = f"{fields[first]}\n{fields[second]}"
                begin = len(fields[first]) + 1
                end = text.rfind("####")
                steps = _reasoning(fields, text) or _marked(text)
                if not steps and end > begin:
                    steps = _lines(text, begin, end)
                return Record(text, steps)
    expected = "text, or " + ", ".join("+".join(pair) for pair in PAIRS)
    actual = (
        f"an object with {', '.join(list(fields)[:6])}" if isinstance(fields, dict) else type(fields).__name__
    )
    raise UsageError(
        "a record lacks the fields that are trained on", subject=where, expected=expected, actual=actual,
        hint="rename the fields, or give plain text",
    )  # fmt: skip


def _reasoning(fields: dict[str, Any], text: str) -> tuple[tuple[int, int], ...]:
    span = fields.get("reasoning")
    if not isinstance(span, str) or span not in text:
        return ()
    at = text.index(span)
    return _lines(text, at, at + len(span))


def read_records(paths: Sequence[str | Path]) -> list[Record]:
    """All records of the files. StorageError, UsageError (no text, no JSON, other fields)."""
    out: list[Record] = []
    for path in map(Path, paths):
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise StorageError(
                "the text can't be read", subject=str(path), actual=error.strerror or str(error),
                hint="check the path",
            ) from error  # fmt: skip
        if path.suffix not in (".jsonl", ".ndjson"):
            out += [
                Record(piece.strip(), _marked(piece.strip())) for piece in text.split(MARK) if piece.strip()
            ]
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                out.append(
                    record_of(_parsed(line, f"{path.name}, line {number}"), f"{path.name}, line {number}")
                )
    if not out:
        raise UsageError("there is no text to train on", subject="text", expected="at least one piece")
    return out


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError("a record isn't JSON", subject=where, actual=str(error)) from error


def tokenizer_of(source: Source) -> Tokenizer:
    """The source's vocabulary as the engine reads it."""
    with tempfile.TemporaryDirectory(prefix="ruvq-") as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_gguf(path, source.architecture, source.tokenizer.metadata(), [])
        return Tokenizer.from_gguf(path)


@dataclass(frozen=True)
class Stream:
    """Pieces one after the other: `tokens` and `steps`, (n,) int64: the reasoning step that a token belongs
    to, or NO_STEP; `nbytes` of text."""

    tokens: np.ndarray
    steps: np.ndarray
    nbytes: int = 0

    def windows(self, size: int, *, seed: int | None = None, fixed: bool = False) -> np.ndarray:
        """First tokens of windows of `size`; with a seed in random order and, unless `fixed`, from a random
        offset on."""
        end = max(1, len(self.tokens) - size + 1)
        if seed is None:
            return np.arange(0, end, size)
        random = np.random.default_rng(seed)
        offset = 0 if fixed else int(random.integers(min(size, end)))
        return random.permutation(np.arange(offset, end, size))


def _token_steps(record: Record, ids: Sequence[int], tokenizer: Tokenizer, first: int) -> Iterator[int]:
    """The step of each token: the one in which the token ends."""
    edges = [
        (len(record.text[:a].encode()), len(record.text[:b].encode()), first + i)
        for i, (a, b) in enumerate(record.steps)
    ]
    at = -1 if tokenizer.kind == "spm" and tokenizer.add_space_prefix else 0
    for token in ids:
        at += len(tokenizer.token_bytes(token))
        yield next((number for a, b, number in edges if a < at <= b), NO_STEP)


def tokenize(records: Sequence[Record], tokenizer: Tokenizer, vocab_size: int) -> Stream:
    """The records as one stream. TokenizerError when an id lies outside the model's vocabulary."""
    tokens: list[int] = []
    steps: list[int] = []
    count = 0
    for record in records:
        if tokenizer.bos is not None:
            tokens.append(tokenizer.bos)
            steps.append(NO_STEP)
        ids = tokenizer.encode(record.text)
        tokens += ids
        steps += list(_token_steps(record, ids, tokenizer, count)) if record.steps else [NO_STEP] * len(ids)
        count += len(record.steps)
    if tokens and max(tokens) >= vocab_size:
        raise TokenizerError(
            "the tokenizer belongs to another model", expected=f"ids below {vocab_size}",
            actual=f"id {max(tokens)}", hint="give the model's own tokenizer",
        )  # fmt: skip
    nbytes = sum(len(r.text.encode()) for r in records)
    return Stream(np.array(tokens, np.int64), np.array(steps, np.int64), nbytes)


class Batches:
    """Batches of windows, a function of seed and number alone, so that a resumed run sees the same ones.

    `fixed`: every epoch has the same windows, so that a teacher's logits can be kept.
    """

    def __init__(self, stream: Stream, size: int, batch: int, seed: int, *, fixed: bool = False) -> None:
        if len(stream.tokens) < 2:
            raise UsageError("the text is too short", subject="text", expected="two tokens", actual="fewer")
        self.stream, self.batch, self.seed, self.fixed = stream, batch, seed, fixed
        self.size = min(size, len(stream.tokens))
        self.per_epoch = max(1, (len(stream.tokens) - self.size) // self.size // batch)
        self._epoch: tuple[int, np.ndarray] | None = None

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and steps of batch `number`: each (batch, size)."""
        epoch, index = divmod(number, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            seed = (self.seed * 1_000_003 + epoch) % 2**64
            self._epoch = epoch, self.stream.windows(self.size, seed=seed, fixed=self.fixed)
        starts = np.take(self._epoch[1], range(index * self.batch, (index + 1) * self.batch), mode="wrap")
        places = starts[:, None] + np.arange(self.size)
        return self.stream.tokens[places], self.stream.steps[places]
