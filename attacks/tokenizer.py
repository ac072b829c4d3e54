"""Class 15: vocabularies and merges that are damaged, contradictory or hostile."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attacks.build_gguf import F32, I32, STRING, U8, U32, array, gguf, kv
from attacks.case import Case

NORMAL, UNKNOWN, CONTROL, _, _, BYTE = range(1, 7)
SPM_TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "ab"]
SPM_TYPES = [UNKNOWN, CONTROL, CONTROL, *([BYTE] * 256), *([NORMAL] * 4)]


def _byte_letters() -> list[str]:
    """The 256 letters that byte-level BPE writes bytes with, in the order of the bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(b) if b in shown else chr(next(hidden)) for b in range(256)]


BPE_TOKENS = [*_byte_letters(), "ab", "abc", "cd"]
MERGES = ["a b", "ab c", "c d"]


def vocabulary(kind: str, tokens: Sequence[str], **parts: bytes | None) -> bytes:
    """A file with nothing but a vocabulary; a part that is None is left out."""
    kvs = [kv("tokenizer.ggml.model", STRING, kind), array("tokenizer.ggml.tokens", STRING, tokens)]
    return gguf([*kvs, *(part for part in parts.values() if part is not None)])


def scores(values: Sequence[Any], kind: int = F32, count: int | None = None) -> bytes:
    return array("tokenizer.ggml.scores", kind, values, count)


def types(values: Sequence[int], kind: int = I32) -> bytes:
    return array("tokenizer.ggml.token_type", kind, values)


def spm(tokens: Sequence[str] = SPM_TOKENS, **parts: bytes | None) -> bytes:
    """SentencePiece; right unless a part is replaced."""
    right: dict[str, bytes | None] = {"scores": scores([0.0] * len(SPM_TOKENS)), "types": types(SPM_TYPES)}
    return vocabulary("llama", tokens, **{**right, **parts})


def bpe(merges: Sequence[str] = MERGES, **parts: bytes | None) -> bytes:
    """Byte-level BPE; right unless a part is replaced."""
    right: dict[str, bytes | None] = {"merges": array("tokenizer.ggml.merges", STRING, merges)}
    return vocabulary("gpt2", BPE_TOKENS, **{**right, **parts})


def changed(items: Sequence[Any], position: int, item: Any) -> list[Any]:
    return [*items[:position], item, *items[position + 1 :]]


def arrays() -> Iterator[Case]:
    count = len(SPM_TOKENS)
    refused: dict[str, tuple[bytes, str]] = {
        "scores-integers": (spm(scores=scores([0] * count, I32)), "scores"),
        "scores-one-number": (spm(scores=kv("tokenizer.ggml.scores", F32, 0.0)), "scores"),
        "scores-missing": (spm(scores=None), "scores"),
        "scores-too-few": (spm(scores=scores([0.0] * (count - 1))), "one for each token"),
        "scores-too-many": (spm(scores=scores([0.0] * (count + 1))), "one for each token"),
        "scores-nan": (spm(scores=scores([float("nan")] * count)), "NaN"),
        "types-bytes": (spm(types=types(SPM_TYPES, U8)), "token_type"),
        "types-too-few": (spm(types=types(SPM_TYPES[:-1])), "one for each token"),
        "types-unknown": (spm(types=types(changed(SPM_TYPES, 7, 7))), "token_type[7]"),
        "tokens-empty": (vocabulary("llama", [], scores=scores([]), types=types([])), "0 tokens"),
        "token-twice": (spm(changed(SPM_TOKENS, count - 1, "a")), "again"),
        "token-of-5000-bytes": (spm(changed(SPM_TOKENS, count - 1, "a" * 5000)), "5000"),
        "byte-token-minus-one": (spm(changed(SPM_TOKENS, 3, "<0x-1>")), "<0x-1>"),
        "byte-token-256": (spm(changed(SPM_TOKENS, 3, "<0x100>")), "<0x100>"),
        "byte-token-twice": (spm(changed(SPM_TOKENS, 3, "<0xfF>")), "<0xFF>"),
        "merge-of-unknown-first": (bpe(["xy b"]), "the first is no token"),
        "merge-of-unknown-second": (bpe(["a xy"]), "the second is no token"),
        "merge-makes-nothing": (bpe(["b a"]), "no token"),
        "merge-of-one": (bpe(["ab"]), "two tokens"),
        "merge-into-itself": (bpe([" ab"]), "two tokens"),  # a cycle: ab from nothing and ab
        "merge-into-itself-from-the-right": (bpe(["ab "]), "two tokens"),
        "merge-twice": (bpe(["a b", "c d", "a b"]), "merges[2]"),
        "kind-unknown": (vocabulary("t5", SPM_TOKENS), "'t5'"),
        "pre-unknown": (bpe(pre=kv("tokenizer.ggml.pre", STRING, "tekken")), "'tekken'"),
        "bos-outside": (spm(bos=kv("tokenizer.ggml.bos_token_id", U32, count)), "bos_token_id"),
        "eos-max": (bpe(eos=kv("tokenizer.ggml.eos_token_id", U32, 2**32 - 1)), "eos_token_id"),
    }
    for name, (data, says) in refused.items():
        yield Case(f"vocabulary-{name}", 15, data, "RQ_E_TOKENIZER", says, "tokenizer")
    yield Case("vocabulary-made-to-collide", 15, colliding(), "RQ_E_TOKENIZER", "1024", "tokenizer")


def right_arrays() -> Iterator[Case]:
    accepted = {
        "spm": spm(),
        "bpe": bpe(),
        "types-unsigned": spm(types=types(SPM_TYPES, U32)),
        "types-absent": spm(types=None),
        "merges-out-of-order": bpe(["ab c", "a b"]),
        "merges-none": bpe([]),
        "byte-in-small-letters": spm(changed(SPM_TOKENS, 258, "<0xff>")),
        "token-of-4096-bytes": spm(changed(SPM_TOKENS, len(SPM_TOKENS) - 1, "a" * 4096)),
    }
    for name, data in accepted.items():
        yield Case(f"ok-vocabulary-{name}", 0, data, None, stage="tokenizer")


@functools.cache
def colliding() -> bytes:
    """A vocabulary whose texts share one place of a hash table of 4096 (the hash of vocab.c)."""
    tokens = ["<unk>", *_colliding_texts(1100, 4096, 7)]
    types_ = [UNKNOWN, *([NORMAL] * (len(tokens) - 1))]
    return spm(tokens, scores=scores([0.0] * len(tokens)), types=types(types_))


def _colliding_texts(count: int, slots: int, slot: int) -> list[str]:
    """Texts of five letters that begin at the same slot of a table of `slots`."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz012345", np.uint8).astype(np.uint64)
    found: list[str] = []
    for first in range(0, 32**5, 2**18):
        numbers = np.arange(first, first + 2**18, dtype=np.uint64)
        digits = [letters[(numbers >> np.uint64(5 * i)) & np.uint64(31)] for i in range(5)]
        value = np.full(len(numbers), 0xCBF29CE484222325, np.uint64)
        for digit in digits:
            value = (value ^ digit) * np.uint64(0x100000001B3)
        value = (value ^ (value >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
        hits = np.flatnonzero((value >> np.uint64(32)) % np.uint64(slots) == slot)
        found += [bytes(int(digit[i]) for digit in digits).decode() for i in hits]
        if len(found) >= count:
            break
    return found[:count]


GENERATORS = (arrays, right_arrays)
