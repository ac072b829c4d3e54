"""llama2.c's tok*.bin: the longest token's length (i32), then of each token score (f32), length (i32), bytes.

The vocabulary is SentencePiece's with U+2581 written as a space; ids 0, 1, 2 are unknown, begin and end.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from ..errors import FileFormatError, TokenizerError
from .files import read_tokenizer
from .tokenizers import BYTE, CONTROL, NORMAL, UNKNOWN, TokenizerSpec

_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>\Z")
_RESERVED = (b"<unk>", b"<s>", b"</s>")


def from_llama2c(path: Path) -> TokenizerSpec:
    """Reads a tok*.bin. Raises StorageError, FileFormatError, TokenizerError."""
    raw = read_tokenizer(path)
    texts, scores = _entries(raw, str(path))
    tokens, types = list(_RESERVED), [UNKNOWN, CONTROL, CONTROL]
    for text in texts[len(_RESERVED) :]:
        is_byte = _BYTE_TOKEN.match(text) is not None
        tokens.append(text if is_byte else text.replace(b" ", "\u2581".encode()))
        types.append(BYTE if is_byte else NORMAL)
    return TokenizerSpec(
        model="llama",
        pre="default",
        tokens=tokens,
        types=types,
        scores=scores,
        unknown=0,
        bos=1,
        eos=2,
        add_bos=True,
        add_space_prefix=True,
    )


def _entries(raw: bytes, subject: str) -> tuple[list[bytes], list[float]]:
    """Texts and scores of all tokens, every length checked."""
    longest = struct.unpack_from("<i", raw)[0] if len(raw) >= 4 else 0
    texts: list[bytes] = []
    scores: list[float] = []
    at = 4
    while at < len(raw):
        score, length = struct.unpack_from("<fi", raw, at) if at + 8 <= len(raw) else (0.0, -1)
        at += 8
        if not 0 <= length <= max(longest, 8) or at + length > len(
            raw
        ):  # reserved tokens have line ends added
            raise FileFormatError(
                "not a llama2.c tokenizer, or cut off",
                subject=f"{subject}, token {len(texts)}",
                expected=f"a length of 0 to {max(longest, 8)} inside the file",
                actual=str(length),
            )
        texts.append(raw[at : at + length])
        scores.append(score)
        at += length
    if len(texts) <= len(_RESERVED) or texts[0].strip() != _RESERVED[0]:
        raise TokenizerError(
            "not a llama2.c tokenizer",
            subject=subject,
            expected="tokens that begin with <unk>, <s>, </s>",
            actual=f"{len(texts)} tokens" + (f", the first {texts[0]!r}" if texts else ""),
        )
    return texts, scores
