"""Vocabularies that are damaged, hostile or of an unknown kind: refused with a typed error that names the
place. Beside each class stands something close to it that is fine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from vocabularies import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    bpe_metadata,
    open_vocabulary,
    spm_metadata,
)

from ruvq import RuvqError
from ruvq.errors import FileFormatError, TokenizerError
from ruvq.gguf.values import Typed

KEY = "tokenizer.ggml."
PIECES = {"▁": 0.0, "a": -1.0, "b": -2.0, "ab": -3.0}
MERGES = ["a b", "ab c", "c d"]


def spm(**changes: Any) -> dict[str, Any]:
    """A good SentencePiece vocabulary with some keys replaced; None takes a key away."""
    return changed(spm_metadata(PIECES), changes)


def bpe(**changes: Any) -> dict[str, Any]:
    """A good byte-level vocabulary with some keys replaced; None takes a key away."""
    return changed(bpe_metadata(MERGES, {"<|end|>": CONTROL}), changes)


def changed(metadata: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        if value is None:
            del metadata[KEY + name]
        else:
            metadata[KEY + name] = value
    return metadata


def edited(metadata: dict[str, Any], name: str, edit: Callable[[list[Any]], object]) -> dict[str, Any]:
    """With an array changed in place."""
    value = metadata[KEY + name]
    items = list(value.value) if isinstance(value, Typed) else list(value)
    edit(items)
    metadata[KEY + name] = Typed(items, value.type) if isinstance(value, Typed) else items
    return metadata


def setting(position: int, value: Any) -> Callable[[list[Any]], object]:
    return lambda items: items.__setitem__(position, value)


SPM_SIZE = 3 + 256 + len(PIECES)
BPE_SIZE = 256 + len(MERGES) + 1

# name: (metadata, what the error is about, a part of what was found)
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # the kind
    "no kind": (spm(model=None), "model", "no such key"),
    "an unknown kind": (spm(model="t5"), "model", "'t5'"),
    "an unknown pre-tokenizer": (bpe(pre="gpt-4o"), "pre", "'gpt-4o'"),
    "an empty pre-tokenizer": (bpe(pre=""), "pre", "''"),
    # the tokens
    "no tokens": (spm(tokens=None), "tokens", "no such key"),
    "an empty token list": (
        spm(tokens=Typed([], "string"), scores=Typed([], "f32"), token_type=Typed([], "i32")),
        "tokens",
        "0 tokens",
    ),
    "tokens that are numbers": (spm(tokens=[1, 2, 3]), "tokens", "an array of i32"),
    "tokens that are one string": (spm(tokens="abc"), "tokens", "string"),
    "a token twice": (
        edited(spm(), "tokens", setting(SPM_SIZE - 1, "a")),
        f"tokens[{SPM_SIZE - 1}]",
        f"'a' again, after token {SPM_SIZE - 3}",
    ),
    "a special token twice": (
        edited(bpe(), "tokens", setting(BPE_SIZE - 1, "ab")),
        f"tokens[{BPE_SIZE - 1}]",
        "after token 256",
    ),
    "a token of 5000 bytes": (edited(spm(), "tokens", setting(SPM_SIZE - 1, "a" * 5000)), "tokens", "5000"),
    # scores and types
    "no scores": (spm(scores=None), "scores", "no such key"),
    "scores that are integers": (spm(scores=[0] * SPM_SIZE), "scores", "an array of i32"),
    "scores that are one number": (spm(scores=1.0), "scores", "f32"),
    "too few scores": (edited(spm(), "scores", list.pop), "scores", str(SPM_SIZE - 1)),
    "too many scores": (edited(spm(), "scores", lambda s: s.append(0.0)), "scores", str(SPM_SIZE + 1)),
    "a score that is NaN": (edited(spm(), "scores", setting(3, float("nan"))), "scores[3]", "NaN"),
    "a score that is infinite": (edited(spm(), "scores", setting(4, -float("inf"))), "scores[4]", "infinity"),
    "too few types": (edited(bpe(), "token_type", list.pop), "token_type", str(BPE_SIZE - 1)),
    "types that are strings": (spm(token_type=["normal"] * SPM_SIZE), "token_type", "an array of string"),
    "types of 8 bits": (spm(token_type=Typed([1] * SPM_SIZE, "u8")), "token_type", "an array of u8"),
    "an unknown type": (edited(spm(), "token_type", setting(7, 7)), "token_type[7]", "7"),
    "a negative type": (edited(spm(), "token_type", setting(7, -1)), "token_type[7]", "-1"),
    # byte tokens
    "a byte token of -1": (edited(spm(), "tokens", setting(3, "<0x-1>")), "tokens[3]", "'<0x-1>'"),
    "a byte token of 256": (edited(spm(), "tokens", setting(3, "<0x100>")), "tokens[3]", "'<0x100>'"),
    "a byte token without digits": (edited(spm(), "tokens", setting(3, "<0x>")), "tokens[3]", "'<0x>'"),
    "a byte token in no brackets": (edited(spm(), "tokens", setting(3, "0x0000")), "tokens[3]", "'0x0000'"),
    "a byte twice in two spellings": (
        edited(spm(), "tokens", setting(3, "<0xfF>")),
        "tokens[258]",
        "'<0xFF>'",
    ),
    "a bad byte token in a byte-level vocabulary": (
        edited(bpe(), "token_type", setting(0, BYTE)),
        "tokens[0]",
        "'Ā'",
    ),
    "neither all bytes nor an unknown token": (
        changed(
            {
                KEY + "model": "llama",
                KEY + "tokens": ["<0x41>", "b"],
                KEY + "scores": [0.0, 0.0],
                KEY + "token_type": [BYTE, NORMAL],
                KEY + "add_bos_token": False,
            },
            {"bos_token_id": 0, "eos_token_id": 0, "unknown_token_id": 5},
        ),
        "unknown_token_id",
        "5",
    ),
    # merges
    "no merges": (bpe(merges=None), "merges", "no such key"),
    "merges that are numbers": (bpe(merges=[1, 2]), "merges", "an array of i32"),
    "a merge whose first is unknown": (bpe(merges=["xy b"]), "merges[0]", "'xy b': the first is no token"),
    "a merge whose second is unknown": (bpe(merges=["a xy"]), "merges[0]", "'a xy': the second is no token"),
    "a merge that makes nothing": (
        bpe(merges=["a b", "b a"]),
        "merges[1]",
        "'b a': the two together are no token",
    ),
    "a merge of one token": (bpe(merges=["ab"]), "merges[0]", "'ab'"),
    "a merge with itself through an empty left side": (bpe(merges=[" ab"]), "merges[0]", "' ab'"),
    "a merge with itself through an empty right side": (bpe(merges=["ab "]), "merges[0]", "'ab '"),
    "a merge of two spaces": (bpe(merges=["  "]), "merges[0]", "'  '"),
    "an empty merge": (bpe(merges=["a b", ""]), "merges[1]", "''"),
    "a merge of three": (bpe(merges=["a b c"]), "merges[0]", "'a b c'"),
    "a merge twice": (bpe(merges=["a b", "c d", "a b"]), "merges[2]", "after merge 0"),
    # ids and flags
    **{
        f"{name} outside the vocabulary": (
            spm(**{f"{name}_token_id": SPM_SIZE}),
            f"{name}_token_id",
            str(SPM_SIZE),
        )
        for name in ("bos", "eos", "eot", "unknown", "padding")
    },
    "an id of 2^32 - 1": (bpe(eos_token_id=2**32 - 1), "eos_token_id", str(2**32 - 1)),
    "a BOS to add but none named": (bpe(add_bos_token=True), "add_bos_token", "no such token"),
    "an EOS to add but none named": (bpe(add_eos_token=True), "add_eos_token", "no such token"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_place(name: str) -> None:
    metadata, subject, actual = REFUSED[name]
    with pytest.raises(TokenizerError) as error:
        open_vocabulary(metadata)
    assert error.value.code == "RQ_E_TOKENIZER"
    assert error.value.subject.startswith(KEY + subject)
    assert actual in error.value.actual
    assert error.value.expected
    assert error.value.hint


# a scalar of another type is the container's own error
WRONG_SCALARS: dict[str, dict[str, Any]] = {
    "an id that is a string": bpe(bos_token_id="1"),
    "an id that is negative": bpe(bos_token_id=Typed(-1, "i32")),
    "a flag that is a number": spm(add_bos_token=1),
    "a kind that is a number": spm(model=1),
    "a pre-tokenizer that is a number": bpe(pre=1),
}


@pytest.mark.parametrize("name", WRONG_SCALARS)
def test_scalars_of_another_type_are_refused(name: str) -> None:
    with pytest.raises(FileFormatError) as error:
        open_vocabulary(WRONG_SCALARS[name])
    assert error.value.code == "RQ_E_VALUE"
    assert error.value.expected
    assert error.value.actual


ACCEPTED: dict[str, dict[str, Any]] = {
    "a plain SentencePiece vocabulary": spm(),
    "a plain byte-level vocabulary": bpe(),
    "no types": bpe(token_type=None),
    "no types in SentencePiece": spm(token_type=None),
    "types as unsigned numbers": spm(token_type=Typed(spm()[KEY + "token_type"], "u32")),
    "no pre-tokenizer": bpe(pre=None),
    "any pre-tokenizer where it means nothing": spm(pre="anything"),
    "no merges at all": bpe(merges=Typed([], "string")),
    "merges out of order": bpe(merges=["ab c", "a b"]),
    "an id as a wider number": bpe(eos_token_id=Typed(5, "i32")),
    "bytes in small letters": edited(spm(), "tokens", setting(258, "<0xff>")),
    "holes, which share the empty text": edited(
        edited(bpe(), "tokens", lambda t: t.extend(["", ""])),
        "token_type",
        lambda t: t.extend([UNUSED, NORMAL]),
    ),
    "a token of 4096 bytes": edited(spm(), "tokens", setting(SPM_SIZE - 1, "a" * 4096)),
    "a user-defined token of white space": edited(
        edited(bpe(), "tokens", lambda t: t.append("    ")), "token_type", lambda t: t.append(USER_DEFINED)
    ),
    "a SentencePiece vocabulary too small for the usual ids": {
        KEY + "model": "llama",
        KEY + "tokens": ["<unk>"],
        KEY + "scores": [0.0],
        KEY + "token_type": [2],
    },
    "scores in a byte-level vocabulary": bpe(scores=[0.0] * BPE_SIZE),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    tokenizer = open_vocabulary(ACCEPTED[name])
    assert isinstance(tokenizer.decode(tokenizer.encode("ab, cd é")), str)


def colliding_texts(count: int, slots: int) -> list[str]:
    """Texts that one place of a hash table of `slots` is to hold, found by knowing the hash function."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz012345", np.uint8).astype(np.uint64)
    found: list[str] = []
    for first in range(0, 32**5, 2**18):
        numbers = np.arange(first, first + 2**18, dtype=np.uint64)
        digits = [letters[(numbers >> np.uint64(5 * i)) & np.uint64(31)] for i in range(5)]
        value = np.full(len(numbers), 0xCBF29CE484222325, np.uint64)
        for digit in digits:
            value = (value ^ digit) * np.uint64(0x100000001B3)
        value = (value ^ (value >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
        hits = np.flatnonzero((value >> np.uint64(32)) % np.uint64(slots) == 7)
        found += [bytes(int(digit[i]) for digit in digits).decode() for i in hits]
        if len(found) >= count:
            break
    return found[:count]


def test_a_vocabulary_made_to_collide_is_refused() -> None:
    texts = colliding_texts(1100, 4096)
    assert len(texts) == len(set(texts)) == 1100
    tokens = ["<unk>", *texts]

    def metadata(chosen: list[str]) -> dict[str, Any]:
        return {
            KEY + "model": "llama",
            KEY + "tokens": chosen,
            KEY + "scores": [0.0] * len(chosen),
            KEY + "token_type": [2, *([NORMAL] * (len(chosen) - 1))],
        }

    with pytest.raises(TokenizerError) as error:
        open_vocabulary(metadata(tokens))
    assert "1024" in error.value.actual
    tokenizer = open_vocabulary(metadata([*tokens[:1000], *[f"other{i}" for i in range(100)]]))
    assert tokenizer.token_bytes(1000) == b"other0"


def test_an_unknown_pre_tokenizer_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TokenizerError) as error:
        open_vocabulary(bpe(pre="tekken"))
    for name in ("gpt-2", "llama-bpe", "llama3", "qwen2", "smollm", "starcoder", "default"):
        assert name in error.value.expected
        open_vocabulary(bpe(pre=name))


@pytest.mark.parametrize("bad", [*REFUSED, *WRONG_SCALARS])
def test_nothing_is_half_open(bad: str) -> None:
    """After any refusal the next vocabulary opens and works as ever."""
    metadata = REFUSED[bad][0] if bad in REFUSED else WRONG_SCALARS[bad]
    with pytest.raises(RuvqError):
        open_vocabulary(metadata)
    assert open_vocabulary(spm()).encode("ab", add_special=True)[0] == 1
