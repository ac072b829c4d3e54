"""Is this the vocabulary that the file was made with, and do its texts still give the same ids?

`ruvq.tokenizer.fingerprint` is the SHA-256 of all tokenizer.ggml values, `ruvq.tokenizer.tests` a JSON list
of texts with their ids. The converter writes both; whoever opens a vocabulary compares, in a few
milliseconds. A tokenizer that is slightly off ruins a model's answers without any error, so a difference is
one.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError

if TYPE_CHECKING:
    from ..gguf import GGUFFile
    from .tokenizer import Tokenizer

FINGERPRINT_KEY = "ruvq.tokenizer.fingerprint"
TESTS_KEY = "ruvq.tokenizer.tests"
MAX_TESTS_BYTES = 64 * 1024

TEXTS = (
    "Once upon a time, there was a little girl.",
    " leading and trailing spaces  and   runs ",
    "Numbers 7, 42, 1234567890 and 3.14159; dates like 2024-02-29.",
    "It's they'll we've I'd DON'T",
    "def f(x):\n\treturn x ** 2  # two spaces\n\n\nprint(f(3))\n",
    "Größe, façade, naïve, Übermut, señor",
    "Привет, мир! Γειά σου",
    "你好，世界。日本語のテキスト 한국어",
    "🙂👩‍👩‍👧 emoji ✓ → ∑",
    "https://example.org/a?b=c&d=%20 <tag attr='x'/> {\"json\": [1, null]}",
)


def fingerprint(file: GGUFFile) -> str:
    """SHA-256, in hexadecimal, over key, type and bytes of every tokenizer.ggml value, sorted by key."""
    sha = hashlib.sha256()
    for key in sorted(k for k in file.metadata if k.startswith("tokenizer.ggml.")):
        kind, raw = file.metadata.raw(key)
        sha.update(f"{key}\0{kind}\0{len(raw)}\0".encode())
        sha.update(raw)
    return sha.hexdigest()


def record(file: GGUFFile, tokenizer: Tokenizer) -> dict[str, Any]:
    """The two metadata keys for a file with this vocabulary."""
    tests = [[text, tokenizer.encode(text)] for text in TEXTS]
    return {
        FINGERPRINT_KEY: fingerprint(file),
        TESTS_KEY: json.dumps(tests, ensure_ascii=False, separators=(",", ":")),
    }


def check(file: GGUFFile, tokenizer: Tokenizer) -> None:
    """TokenizerError when what the file records of its vocabulary isn't so; nothing where it records
    nothing."""
    recorded = file.metadata.get(FINGERPRINT_KEY)
    if recorded is not None and recorded != (found := fingerprint(file)):
        raise TokenizerError(
            "the vocabulary isn't the one that the file was made with",
            subject=FINGERPRINT_KEY,
            expected=str(recorded)[:64],
            actual=found,
            hint="a tool changed the file's tokenizer; convert the model again",
        )
    for text, ids in _tests(file.metadata.get(TESTS_KEY)):
        if (got := tokenizer.encode(text)) != ids:
            raise TokenizerError(
                "a text gives other tokens than when the file was made",
                subject=f"{TESTS_KEY}: {text[:40]!r}",
                expected=str(ids)[:200],
                actual=str(got)[:200],
                hint="convert the model again with this version of ruvq",
            )


def _tests(recorded: Any) -> list[tuple[str, list[int]]]:
    if recorded is None:
        return []
    try:
        if len(recorded) > MAX_TESTS_BYTES:
            raise ValueError(f"{len(recorded)} characters")
        tests = json.loads(recorded)
        if not all(isinstance(text, str) and all(type(i) is int for i in ids) for text, ids in tests):
            raise ValueError("entries of another kind")
    except (ValueError, TypeError, RecursionError) as error:
        raise TokenizerError(
            "the tokenizer's test strings can't be read",
            subject=TESTS_KEY,
            expected=f"JSON, a list of texts with their ids, at most {MAX_TESTS_BYTES} characters",
            actual=str(error)[:100],
        ) from error
    return [(text, list(ids)) for text, ids in tests]
