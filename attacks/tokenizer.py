"""Class 15: vocabularies and merges that are damaged, contradictory or hostile."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attacks.build_gguf import BOOL, F32, I32, STRING, U8, U32, array, gguf, kv
from attacks.case import Case

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
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


def types(values: Sequence[Any], kind: int = I32) -> bytes:
    return array("tokenizer.ggml.token_type", kind, values)


def spm(tokens: Sequence[str] = SPM_TOKENS, **parts: bytes | None) -> bytes:
    """SentencePiece; right unless a part is replaced."""
    right: dict[str, bytes | None] = {"scores": scores([0.0] * len(SPM_TOKENS)), "types": types(SPM_TYPES)}
    return vocabulary("llama", tokens, **{**right, **parts})


def bpe(
    merges: Sequence[str] | bytes | None = MERGES,
    tokens: Sequence[str] = BPE_TOKENS,
    **parts: bytes | None,
) -> bytes:
    """Byte-level BPE; right unless a part is replaced. `merges`: bytes stand for themselves."""
    if merges is not None and not isinstance(merges, bytes):
        merges = array("tokenizer.ggml.merges", STRING, merges)
    return vocabulary("gpt2", tokens, merges=merges, **parts)


def changed(items: Sequence[Any], position: int, item: Any) -> list[Any]:
    return [*items[:position], item, *items[position + 1 :]]


def id_of(name: str, value: Any, kind: int = U32) -> bytes:
    return kv(f"tokenizer.ggml.{name}_token_id", kind, value)


def flag(name: str, value: Any = True, kind: int = BOOL) -> bytes:
    return kv(f"tokenizer.ggml.add_{name}_token", kind, value)


def few(unknown: int) -> bytes:
    """SentencePiece with two tokens, which are neither all bytes nor have an unknown token."""
    return spm(
        ["<0x41>", "b"],
        scores=scores([0.0, 0.0]),
        types=types([BYTE, NORMAL]),
        add=flag("bos", False),
        bos=id_of("bos", 0),
        eos=id_of("eos", 0),
        unknown=id_of("unknown", unknown),
    )


def arrays() -> Iterator[Case]:
    """Kinds, tokens, scores, types and byte tokens."""
    count, last = len(SPM_TOKENS), len(SPM_TOKENS) - 1
    tokens = array("tokenizer.ggml.tokens", STRING, SPM_TOKENS)
    refused: dict[str, tuple[bytes, str]] = {
        "kind-missing": (gguf([tokens]), "no such key"),
        "kind-unknown": (vocabulary("t5", SPM_TOKENS), "'t5'"),
        "tokens-missing": (gguf([kv("tokenizer.ggml.model", STRING, "llama")]), "no such key"),
        "tokens-numbers": (
            gguf([kv("tokenizer.ggml.model", STRING, "llama"), array("tokenizer.ggml.tokens", I32, [1])]),
            "an array of i32",
        ),
        "tokens-one-text": (
            gguf([kv("tokenizer.ggml.model", STRING, "llama"), kv("tokenizer.ggml.tokens", STRING, "abc")]),
            "tokens",
        ),
        "tokens-empty": (vocabulary("llama", [], scores=scores([]), types=types([])), "0 tokens"),
        "token-twice": (spm(changed(SPM_TOKENS, last, "a")), f"'a' again, after token {last - 2}"),
        "special-token-twice": (
            bpe(tokens=[*BPE_TOKENS, "ab"], types=types([NORMAL] * len(BPE_TOKENS) + [CONTROL])),
            "after token 256",
        ),
        "token-of-5000-bytes": (spm(changed(SPM_TOKENS, last, "a" * 5000)), "5000"),
        "scores-integers": (spm(scores=scores([0] * count, I32)), "scores"),
        "scores-one-number": (spm(scores=kv("tokenizer.ggml.scores", F32, 0.0)), "scores"),
        "scores-missing": (spm(scores=None), "scores"),
        "scores-too-few": (spm(scores=scores([0.0] * (count - 1))), "one for each token"),
        "scores-too-many": (spm(scores=scores([0.0] * (count + 1))), "one for each token"),
        "score-nan": (spm(scores=scores(changed([0.0] * count, 3, float("nan")))), "scores[3]"),
        "score-infinite": (spm(scores=scores(changed([0.0] * count, 4, -float("inf")))), "infinity"),
        "types-bytes": (spm(types=types(SPM_TYPES, U8)), "an array of u8"),
        "types-texts": (spm(types=types(["normal"] * count, STRING)), "an array of string"),
        "types-too-few": (spm(types=types(SPM_TYPES[:-1])), "one for each token"),
        "type-unknown": (spm(types=types(changed(SPM_TYPES, 7, 7))), "token_type[7]"),
        "type-negative": (spm(types=types(changed(SPM_TYPES, 7, -1))), "token_type[7]"),
        "byte-token-minus-one": (spm(changed(SPM_TOKENS, 3, "<0x-1>")), "<0x-1>"),
        "byte-token-256": (spm(changed(SPM_TOKENS, 3, "<0x100>")), "<0x100>"),
        "byte-token-without-digits": (spm(changed(SPM_TOKENS, 3, "<0x>")), "'<0x>'"),
        "byte-token-without-brackets": (spm(changed(SPM_TOKENS, 3, "0x0000")), "'0x0000'"),
        "byte-token-twice": (spm(changed(SPM_TOKENS, 3, "<0xfF>")), "<0xFF>"),
        "byte-token-in-a-byte-level-vocabulary": (
            bpe(types=types(changed([NORMAL] * len(BPE_TOKENS), 0, BYTE))),
            "tokens[0]",
        ),
        "neither-all-bytes-nor-an-unknown-token": (few(unknown=5), "unknown_token_id"),
    }
    for name, (data, says) in refused.items():
        yield Case(f"vocabulary-{name}", 15, data, "RQ_E_TOKENIZER", says, "tokenizer")
    yield Case("vocabulary-made-to-collide", 15, colliding(1100), "RQ_E_TOKENIZER", "1024", "tokenizer")


def merges_and_ids() -> Iterator[Case]:
    """Merges, pre-tokenizers, ids and flags."""
    count = len(SPM_TOKENS)
    ids = ("bos", "eos", "eot", "unknown", "padding")
    refused: dict[str, tuple[bytes, str]] = {
        "merges-missing": (bpe(merges=None), "merges"),
        "merges-numbers": (bpe(merges=array("tokenizer.ggml.merges", I32, [1, 2])), "an array of i32"),
        "merge-of-unknown-first": (bpe(["xy b"]), "the first is no token"),
        "merge-of-unknown-second": (bpe(["a xy"]), "the second is no token"),
        "merge-makes-nothing": (bpe(["a b", "b a"]), "merges[1]"),
        "merge-of-one": (bpe(["ab"]), "two tokens"),
        "merge-of-three": (bpe(["a b c"]), "'a b c'"),
        "merge-empty": (bpe(["a b", ""]), "merges[1]"),
        "merge-of-spaces": (bpe(["  "]), "'  '"),
        "merge-into-itself": (bpe([" ab"]), "two tokens"),  # a cycle: ab from nothing and ab
        "merge-into-itself-from-the-right": (bpe(["ab "]), "two tokens"),
        "merge-twice": (bpe(["a b", "c d", "a b"]), "after merge 0"),
        "pre-unknown": (bpe(pre=kv("tokenizer.ggml.pre", STRING, "tekken")), "'tekken'"),
        "pre-empty": (bpe(pre=kv("tokenizer.ggml.pre", STRING, "")), "''"),
        **{
            f"{name}-outside": (spm(SPM_TOKENS, **{name: id_of(name, count)}), f"{name}_token_id")
            for name in ids
        },
        "eos-max": (bpe(eos=id_of("eos", 2**32 - 1)), str(2**32 - 1)),
        "bos-to-add-but-none": (bpe(add=flag("bos")), "add_bos_token"),
        "eos-to-add-but-none": (bpe(add=flag("eos")), "add_eos_token"),
    }
    for name, (data, says) in refused.items():
        yield Case(f"vocabulary-{name}", 15, data, "RQ_E_TOKENIZER", says, "tokenizer")
    # a scalar of another type is the container's own error
    scalars: dict[str, tuple[bytes, str]] = {
        "id-a-text": (bpe(bos=id_of("bos", "1", STRING)), "bos_token_id"),
        "id-negative": (bpe(bos=id_of("bos", -1, I32)), "bos_token_id"),
        "flag-a-number": (spm(add=flag("bos", 1, I32)), "add_bos_token"),
        "kind-a-number": (gguf([kv("tokenizer.ggml.model", U32, 1)]), "tokenizer.ggml.model"),
        "pre-a-number": (bpe(pre=kv("tokenizer.ggml.pre", U32, 1)), "tokenizer.ggml.pre"),
    }
    for name, (data, says) in scalars.items():
        yield Case(f"vocabulary-{name}", 15, data, "RQ_E_VALUE", says, "tokenizer")


def right_ones() -> Iterator[Case]:
    last = len(SPM_TOKENS) - 1
    normal = [NORMAL] * len(BPE_TOKENS)
    accepted = {
        "spm": spm(),
        "bpe": bpe(),
        "types-unsigned": spm(types=types(SPM_TYPES, U32)),
        "types-absent": spm(types=None),
        "types-in-bpe": bpe(types=types(normal)),
        "scores-in-bpe": bpe(scores=scores([0.0] * len(BPE_TOKENS))),
        "merges-out-of-order": bpe(["ab c", "a b"]),
        "merges-none": bpe([]),
        "pre-where-it-means-nothing": spm(pre=kv("tokenizer.ggml.pre", STRING, "anything")),
        "id-signed": bpe(eos=id_of("eos", 5, I32)),
        "byte-in-small-letters": spm(changed(SPM_TOKENS, 258, "<0xff>")),
        "token-of-4096-bytes": spm(changed(SPM_TOKENS, last, "a" * 4096)),
        "holes-that-share-the-empty-text": bpe(
            tokens=[*BPE_TOKENS, "", ""], types=types([*normal, UNUSED, NORMAL])
        ),
        "a-token-of-white-space": bpe(tokens=[*BPE_TOKENS, "    "], types=types([*normal, USER_DEFINED])),
        "one-token": spm(["<unk>"], scores=scores([0.0]), types=types([UNKNOWN])),
        "collisions-below-the-limit": colliding(1000, others=100),
    }
    for name, data in accepted.items():
        yield Case(f"ok-vocabulary-{name}", 0, data, None, stage="tokenizer")


def colliding(count: int, others: int = 0) -> bytes:
    """A vocabulary of which `count` texts share one place of a hash table of 4096 (the hash of vocab.c)."""
    tokens = ["<unk>", *_colliding_texts(1100, 4096, 7)[:count], *(f"other{n}" for n in range(others))]
    types_ = [UNKNOWN, *([NORMAL] * (len(tokens) - 1))]
    return spm(tokens, scores=scores([0.0] * len(tokens)), types=types(types_))


@functools.cache
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


GENERATORS = (arrays, merges_and_ids, right_ones)
