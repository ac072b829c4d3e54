"""SentencePiece's tokenizer.model: the few fields needed of its protocol buffer, read without a library.

ModelProto: 1 = pieces {1 = text, 2 = score, 3 = type}, 2 = trainer {3 = kind, 40..43 = unknown, begin, end,
padding id}, 3 = normalizer {2 = character map, 3 = add a space first, 4 = squeeze spaces}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, RuvqError, TokenizerError
from .files import read_tokenizer
from .tokenizers import CONTROL, NORMAL, USER_DEFINED, TokenizerSpec, chat_template_of

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BPE = 2
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TRAINER_KIND = 3
_TRAINER_IDS = {"unknown": (40, 0), "bos": (41, 1), "eos": (42, 2), "padding": (43, -1)}
_CHARACTER_MAP, _SPACE_FIRST, _SQUEEZE = 2, 3, 4
_KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}


def from_sentencepiece(path: Path, settings: dict[str, Any], config: dict[str, Any]) -> TokenizerSpec:
    """Reads a tokenizer.model of kind BPE; tokens that tokenizer_config.json adds come after its pieces.

    Raises StorageError, FileFormatError, TokenizerError.
    """
    raw = memoryview(read_tokenizer(path))
    try:
        return _spec(raw, str(path), settings)
    except RuvqError:
        raise
    except (_MalformedError, TypeError, ValueError, struct.error) as error:
        raise FileFormatError(
            "not a SentencePiece model, or damaged",
            subject=str(path),
            expected="the protocol buffer of a SentencePiece model",
            actual=str(error),
            hint="download the tokenizer again",
        ) from error


def _spec(raw: memoryview, subject: str, settings: dict[str, Any]) -> TokenizerSpec:
    tokens: list[bytes] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(raw):
        if number == _PIECES:
            piece = dict(_fields(_message(value)))
            text = bytes(_message(piece.get(1, memoryview(b""))))
            text.decode("utf-8")
            tokens.append(text)
            scores.append(struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0)
            types.append(int(piece.get(3, NORMAL)))
        elif number == _TRAINER:
            trainer = dict(_fields(_message(value)))
        elif number == _NORMALIZER:
            normalizer = dict(_fields(_message(value)))
    kind = trainer.get(_TRAINER_KIND, 1)
    if kind != _BPE or not tokens:
        raise TokenizerError(
            "this kind of SentencePiece model is not supported",
            subject=subject,
            expected="a BPE model with pieces",
            actual=f"{_KINDS.get(kind, kind)}, {len(tokens)} pieces",
        )
    ids = {name: _signed(trainer.get(number, absent)) for name, (number, absent) in _TRAINER_IDS.items()}
    _add_tokens(settings, tokens, scores, types, subject)
    notes = []
    if len(normalizer.get(_CHARACTER_MAP, b"")):
        notes.append("the tokenizer's character normalisation is not applied: write text in NFKC")
    if normalizer.get(_SQUEEZE, 1):
        notes.append("runs of spaces are kept, where SentencePiece itself would squeeze them")
    return TokenizerSpec(
        model="llama",
        pre="default",
        tokens=tokens,
        types=types,
        scores=scores,
        **{name: value if value >= 0 else None for name, value in ids.items()},  # type: ignore[arg-type]
        add_bos=bool(settings.get("add_bos_token", True)) and ids["bos"] >= 0,
        add_eos=bool(settings.get("add_eos_token", False)) and ids["eos"] >= 0,
        add_space_prefix=bool(normalizer.get(_SPACE_FIRST, 1)),
        chat_template=chat_template_of(settings),
        notes=tuple(notes),
    )


def _add_tokens(
    settings: dict[str, Any], tokens: list[bytes], scores: list[float], types: list[int], subject: str
) -> None:
    """`added_tokens_decoder` of tokenizer_config.json: {id: {content, special}}."""
    added = settings.get("added_tokens_decoder")
    entries = {int(k): v for k, v in added.items()} if isinstance(added, dict) else {}
    for token, entry in sorted(entries.items()):
        text = str(entry.get("content", "")).encode()
        if token == len(tokens):
            tokens.append(text)
            scores.append(0.0)
            types.append(CONTROL if entry.get("special") else USER_DEFINED)
        elif token > len(tokens) or tokens[token] != text:
            raise TokenizerError(
                "tokenizer_config.json and tokenizer.model don't belong together",
                subject=f"{subject}, token {token}",
                expected=repr(tokens[token].decode())
                if token < len(tokens)
                else f"ids from {len(tokens)} on",
                actual=repr(text.decode()),
            )


# ---- protocol buffers ----


class _MalformedError(Exception):
    """The bytes are no protocol buffer of the expected form."""


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            raise _MalformedError("it ends inside a number")
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
    raise _MalformedError("a number has more than 10 bytes")


def _fields(raw: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, int or bytes) of a message."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(raw, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise _MalformedError(f"field {key >> 3} has the unknown wire type {wire}")
        if length > len(raw) - at:
            raise _MalformedError(f"field {key >> 3} is longer than the file")
        yield key >> 3, raw[at : at + length]
        at += length


def _message(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise _MalformedError("a number where a message should be")
    return value


def _signed(value: int) -> int:
    """An int32, which is stored as 64 bits when negative."""
    return value - (1 << 64) if value >= 1 << 63 else value
