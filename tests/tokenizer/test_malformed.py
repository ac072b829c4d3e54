"""Vocabularies of attacks/tokenizer.py, which are damaged, hostile or of an unknown kind: refused with a
typed error that names the place. Beside them stand some that are fine."""

from __future__ import annotations

import pytest
from vocabularies import bpe_metadata, open_vocabulary

from attacks import tokenizer
from attacks.case import Case
from ruvq import GGUFFile, RuvqError, Tokenizer
from ruvq.errors import TokenizerError

CASES = [case for generate in tokenizer.GENERATORS for case in generate()]
REFUSED = [case for case in CASES if case.code]
MERGES = ["a b", "ab c", "c d"]


def opened(data: bytes) -> Tokenizer:
    with GGUFFile.open(data) as file:
        return Tokenizer.from_gguf(file)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_with_its_place_and_nothing_is_half_open(case: Case) -> None:
    with pytest.raises(RuvqError) as error:
        opened(case.data)
    assert error.value.code == case.code
    assert error.value.subject.startswith("tokenizer.ggml.")
    assert error.value.expected
    assert error.value.actual
    assert case.says in str(error.value)
    if case.code == "RQ_E_TOKENIZER":
        assert error.value.hint
    assert opened(tokenizer.spm()).encode("ab")


@pytest.mark.parametrize("case", [case for case in CASES if not case.code], ids=lambda case: case.name)
def test_accepted(case: Case) -> None:
    found = opened(case.data)
    assert isinstance(found.decode(found.encode("ab, cd é")), str)


def test_texts_that_collide_below_the_limit_keep_their_ids() -> None:
    assert opened(tokenizer.colliding(1000, others=100)).token_bytes(1001) == b"other0"


def test_an_unknown_pre_tokenizer_is_answered_with_the_known_ones() -> None:
    def with_pre(name: str) -> Tokenizer:
        return open_vocabulary(bpe_metadata(MERGES, {}) | {"tokenizer.ggml.pre": name})

    with pytest.raises(TokenizerError) as error:
        with_pre("tekken")
    for name in ("gpt-2", "llama-bpe", "llama3", "qwen2", "smollm", "starcoder", "default"):
        assert name in error.value.expected
        with_pre(name)
