"""A GGUF file's header as bytes (docs/container.md): counts, metadata, tensor infos.

Needs nothing but Python, so that a tab writes the same bytes as the desktop. What can't be a GGUF file is
left to the core's parser.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from ..core import CONSTANTS
from ..errors import UsageError
from .values import ARRAY, CODES, STRING, TYPE_IDS, Typed

_MAGIC, _VERSION = b"GGUF", 3

TensorEntry = tuple[str, Sequence[int], int, int]  # name, stored shape (outermost first), ggml type, offset


def string(text: str) -> bytes:
    """A length of 8 bytes and the text in UTF-8. UsageError for text that has none (lone surrogates)."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("a text can't be stored as UTF-8", subject=repr(text)[:60]) from error
    return struct.pack("<Q", len(data)) + data


def value(key: str, entry: Typed) -> bytes:
    """A metadata value with its type. UsageError where the value doesn't fit it."""
    kind = TYPE_IDS[entry.type]
    if entry.is_array and not entry.value:
        raise UsageError("an empty array can't be stored", subject=key, hint="leave the key out")
    items = entry.value if entry.is_array else [entry.value]
    head = struct.pack("<IIQ", ARRAY, kind, len(items)) if entry.is_array else struct.pack("<I", kind)
    try:
        if kind == STRING:
            return head + b"".join(map(string, items))
        return head + struct.pack(f"<{len(items)}{CODES[kind]}", *items)
    except (struct.error, OverflowError, AttributeError, TypeError) as error:
        raise UsageError(
            "a metadata value doesn't fit its type", subject=key, expected=entry.type, actual=str(error)
        ) from error


def header(metadata: Iterable[tuple[str, Typed]], tensors: Sequence[TensorEntry]) -> bytes:
    """Everything before the data, without the padding that follows it."""
    pairs = [string(key) + value(key, entry) for key, entry in metadata]
    counts = struct.pack("<IQQ", _VERSION, len(tensors), len(pairs))
    return b"".join([_MAGIC, counts, *pairs, *map(_tensor, tensors)])


def _tensor(entry: TensorEntry) -> bytes:
    name, shape, ggml_type, offset = entry
    assert len(shape) <= CONSTANTS["RQ_MAX_DIMS"]
    dims: list[Any] = list(reversed(shape))
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, ggml_type, offset)
