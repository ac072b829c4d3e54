"""Small GGUF files with nothing but a vocabulary, well-formed or not, and tokenizers opened from them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ruvq import Tokenizer
from ruvq.gguf.values import Typed

_IDS = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "string": 8}
_CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "bool": "?"}
_ARRAY = 9
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any, kind: str) -> bytes:
    return _text(value) if kind == "string" else struct.pack("<" + _CODES[kind], value)


def _typed(value: Any) -> Typed:
    if isinstance(value, Typed):
        return value
    first = value[0] if isinstance(value, (list, tuple)) else value
    kinds = {
        bool: "bool",
        int: "i32" if isinstance(value, (list, tuple)) else "u32",
        float: "f32",
        str: "string",
    }
    return Typed(value, kinds[type(first)])


def gguf_bytes(metadata: Mapping[str, Any]) -> bytes:
    """A GGUF v3 file without tensors."""
    out = [b"GGUF", struct.pack("<IQQ", 3, 0, len(metadata) + 1)]
    for key, raw in {"general.architecture": "llama", **metadata}.items():
        value = _typed(raw)
        kind = _IDS[value.type]
        if value.is_array:
            items = b"".join(_value(v, value.type) for v in value.value)
            out.append(_text(key) + struct.pack("<IIQ", _ARRAY, kind, len(value.value)) + items)
        else:
            out.append(_text(key) + struct.pack("<I", kind) + _value(value.value, value.type))
    data = b"".join(out)
    return data + b"\0" * (-len(data) % 32)


def open_vocabulary(metadata: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer of this metadata."""
    return Tokenizer.from_gguf(gguf_bytes(metadata))


def byte_characters() -> list[str]:
    """GPT-2's printable character of each byte, written the way its authors describe it."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in own]
    return [chr(b) if b in own else chr(256 + others.index(b)) for b in range(256)]


def bpe_metadata(
    merges: Sequence[str] = (), special: Mapping[str, int] | None = None, pre: str = "gpt-2", **keys: Any
) -> dict[str, Any]:
    """A byte-level vocabulary: the 256 bytes, what the merges make, and special tokens {text: type}."""
    special = special or {}
    tokens = [*byte_characters(), *dict.fromkeys(m.replace(" ", "") for m in merges), *special]
    types = [NORMAL] * (len(tokens) - len(special)) + list(special.values())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": Typed(list(merges), "string"),
        **{f"tokenizer.ggml.{k}": v for k, v in keys.items()},
    }


def spm_metadata(
    pieces: Mapping[str, float],
    special: Mapping[str, int] | None = None,
    byte_tokens: bool = True,
    **keys: Any,
) -> dict[str, Any]:
    """A SentencePiece vocabulary: reserved tokens, bytes, `special` {text: type}, `pieces` {text: score}."""
    special = special or {}
    reserved = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    reserved |= {f"<0x{b:02X}>": BYTE for b in range(256)} if byte_tokens else {}
    reserved |= special
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*reserved, *pieces],
        "tokenizer.ggml.scores": [0.0] * len(reserved) + [float(s) for s in pieces.values()],
        "tokenizer.ggml.token_type": [*reserved.values(), *([NORMAL] * len(pieces))],
        **{f"tokenizer.ggml.{k}": v for k, v in keys.items()},
    }
