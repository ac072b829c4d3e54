"""The rules of encoding and decoding, on vocabularies small enough to follow by hand."""

from __future__ import annotations

import pytest
from vocabularies import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    bpe_metadata,
    gguf_bytes,
    open_vocabulary,
    spm_metadata,
)

from ruvq import Tokenizer
from ruvq.errors import FileFormatError, UsageError
from ruvq.gguf import GGUFFile

SPM_BASE = 3 + 256  # ids of pieces begin after <unk>, <s>, </s> and the bytes


def piece_texts(tokenizer: Tokenizer, text: str, **options: bool) -> list[bytes]:
    """The bytes of each token of a text."""
    return [tokenizer.token_bytes(i, special=True) for i in tokenizer.encode(text, **options)]


# ---- SentencePiece ----


def test_the_better_score_merges_first_and_the_leftmost_among_equals() -> None:
    pieces = {"a": 0, "b": 0, "c": 0, "ab": -2, "bc": -1, "abc": -3, "aa": -4}
    tokenizer = open_vocabulary(spm_metadata(pieces, add_space_prefix=False))
    assert piece_texts(tokenizer, "abc") == [b"abc"]  # bc first, then a + bc
    assert piece_texts(tokenizer, "abb") == [b"ab", b"b"]
    assert piece_texts(tokenizer, "aaa") == [b"aa", b"a"]


def test_scores_may_have_any_sign_and_minus_zero_is_zero() -> None:
    pieces = {"x": 0, "y": 0, "z": 0, "xy": 5.0, "yz": 7.0, "zx": -0.0, "xz": 0.0}
    tokenizer = open_vocabulary(spm_metadata(pieces, add_space_prefix=False))
    assert piece_texts(tokenizer, "xyz") == [b"x", b"yz"]
    assert piece_texts(tokenizer, "xzx") == [b"xz", b"x"]  # equal scores: the leftmost
    assert piece_texts(tokenizer, "zxz") == [b"zx", b"z"]


def test_characters_without_a_token_become_their_bytes() -> None:
    tokenizer = open_vocabulary(spm_metadata({"▁": 0, "a": 0}, add_space_prefix=False))
    assert tokenizer.encode("aé") == [SPM_BASE + 1, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode(tokenizer.encode("a é 🦙")) == "a é 🦙"


def test_without_byte_tokens_a_run_of_unknown_characters_is_one_unknown_token() -> None:
    tokenizer = open_vocabulary(
        spm_metadata({"▁": 0, "a": 0, "b": 0}, byte_tokens=False, add_space_prefix=False)
    )
    assert tokenizer.encode("aéüb🦙") == [4, 0, 5, 0]


def test_byte_tokens_are_known_by_their_text_where_the_file_has_no_types() -> None:
    metadata = spm_metadata({"a": 0}, add_space_prefix=False)
    del metadata["tokenizer.ggml.token_type"]
    tokenizer = open_vocabulary(metadata)
    assert tokenizer.token_bytes(3 + 0x41) == b"A"
    assert tokenizer.encode("é") == [3 + 0xC3, 3 + 0xA9]


def test_the_space_prefix_comes_before_text_and_goes_when_decoded() -> None:
    pieces = {"▁": -5, "a": 0, "▁a": -1}
    tokenizer = open_vocabulary(spm_metadata(pieces))
    assert piece_texts(tokenizer, "a a") == [b" a", b" a"]
    assert tokenizer.encode("") == []
    assert tokenizer.decode(tokenizer.encode(" a")) == " a"
    ids = tokenizer.encode("a", add_special=True)
    assert ids == [1, SPM_BASE + 2]
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, skip_special=False) == "<s> a"
    assert tokenizer.token_bytes(SPM_BASE + 2) == b" a"


def test_control_tokens_never_come_from_merging_text() -> None:
    pieces = {"<": 0, "s": 0, ">": 0, "<s": -1}
    tokenizer = open_vocabulary(spm_metadata(pieces, add_space_prefix=False))
    assert piece_texts(tokenizer, "<s>") == [b"<s", b">"]
    assert tokenizer.encode("<s>", parse_special=True) == [1]


# ---- BPE ----


def test_lower_ranks_merge_first() -> None:
    tokenizer = open_vocabulary(bpe_metadata(["b c", "a b", "ab c", "a bc"]))
    assert piece_texts(tokenizer, "abc") == [b"abc"]
    assert piece_texts(tokenizer, "abab") == [b"ab", b"ab"]


def test_words_are_cut_before_merging() -> None:
    tokenizer = open_vocabulary(bpe_metadata(["a Ġ", "aĠ b", "Ġ b"]))
    assert piece_texts(tokenizer, "a b") == [b"a", b" b"]


def test_a_llama_3_word_that_is_a_token_needs_no_merges() -> None:
    special = {"hello": NORMAL, "bos": CONTROL}
    tokenizer = open_vocabulary(bpe_metadata([], special, pre="llama-bpe", bos_token_id=257))
    assert piece_texts(tokenizer, "hello") == [b"hello"]
    assert tokenizer.encode("a", add_special=True)[0] == 257  # and this family adds BOS by default
    other = open_vocabulary(bpe_metadata([], special, pre="qwen2", bos_token_id=257))
    assert len(other.encode("hello", add_special=True)) == 5


def test_a_byte_that_the_vocabulary_lacks_is_left_out() -> None:
    metadata = bpe_metadata(["a b"])
    index = metadata["tokenizer.ggml.tokens"].index("q")
    metadata["tokenizer.ggml.tokens"][index] = "qq"
    tokenizer = open_vocabulary(metadata)
    assert piece_texts(tokenizer, "aqb") == [b"ab"]
    assert tokenizer.encode("q") == []


# ---- special tokens ----


def test_special_tokens_are_text_unless_asked_for() -> None:
    special = {"<|end|>": CONTROL, "<|en": CONTROL, "[USER]": USER_DEFINED, "??": UNKNOWN}
    tokenizer = open_vocabulary(bpe_metadata([], special))
    assert len(tokenizer.encode("<|end|>")) == 7
    assert tokenizer.encode("[USER]") == [258]
    assert tokenizer.encode("<|end|><|en|??[USER", parse_special=True) == [
        256, 257, ord("|"), 259, ord("["), *b"USER"
    ]  # fmt: skip


def test_of_special_tokens_the_longest_at_the_leftmost_place_is_taken() -> None:
    special = {"ab": USER_DEFINED, "abcd": USER_DEFINED, "bcde": USER_DEFINED}
    tokenizer = open_vocabulary(bpe_metadata([], special))
    assert tokenizer.encode("abcde") == [257, ord("e")]
    assert tokenizer.encode("abcbcde") == [256, ord("c"), 258]


def test_after_a_special_token_text_gets_its_space_again() -> None:
    pieces = {"▁": -5, "a": 0, "▁a": -1}
    tokenizer = open_vocabulary(spm_metadata(pieces, {"<x>": CONTROL}))
    assert piece_texts(tokenizer, "a<x>a", parse_special=True) == [b" a", b"<x>", b" a"]


def test_special_tokens_are_silent_unless_asked_for() -> None:
    special = {"<|end|>": CONTROL, "[U]": USER_DEFINED, "pad": UNUSED}
    tokenizer = open_vocabulary(bpe_metadata([], special))
    ids = [*tokenizer.encode("a"), 256, 257, 258]
    assert tokenizer.decode(ids) == "a[U]"
    assert tokenizer.decode(ids, skip_special=False) == "a<|end|>[U]pad"


def test_bos_and_eos_are_added_as_the_file_says() -> None:
    special = {"<b>": CONTROL, "<e>": CONTROL}
    ids = {"bos_token_id": 256, "eos_token_id": 257}
    plain = open_vocabulary(bpe_metadata([], special, **ids))
    both = open_vocabulary(bpe_metadata([], special, **ids, add_bos_token=True, add_eos_token=True))
    a = ord("a")
    assert plain.encode("a", add_special=True) == [a]
    assert both.encode("a", add_special=True) == [256, a, 257]
    assert both.encode("", add_special=True) == [256, 257]
    assert both.encode("a") == [a]
    assert both.end_ids == (257,)


def test_the_end_of_a_turn_is_known_by_name_where_the_file_does_not_say() -> None:
    special = {"<|endoftext|>": CONTROL, "<|im_end|>": CONTROL}
    named = open_vocabulary(bpe_metadata([], special, eos_token_id=256))
    assert (named.eos, named.eot, named.end_ids) == (256, 257, (256, 257))
    given = open_vocabulary(bpe_metadata([], special, eos_token_id=256, eot_token_id=256))
    assert given.eot == 256
    assert open_vocabulary(bpe_metadata()).end_ids == ()


# ---- bytes that are no text, and streams ----


@pytest.mark.parametrize(
    ("text", "same_as"),
    [("\ud83e\udd99", "🦙"), ("a\ud83eb", "a\ufffdb"), ("\udc00", "\ufffd"), ("a\0b", "a\0b")],
)
def test_surrogates_are_joined_or_replaced(text: str, same_as: str) -> None:
    tokenizer = open_vocabulary(bpe_metadata())
    assert tokenizer.decode(tokenizer.encode(text)) == same_as


@pytest.mark.parametrize(
    "raw",
    [
        b"a\xff\xfeb",
        b"\xc3",
        b"\xe2\x96",
        b"\xf0\x9f\xa6",
        b"\xed\xa0\x80",
        b"\xf0\x9f\xa6a\x80",
        b"\xc0\xaf",
        b"\xf5\x80",
    ],
)
def test_bytes_that_are_no_utf_8_are_replaced_as_python_replaces_them(raw: bytes) -> None:
    tokenizer = open_vocabulary(bpe_metadata())
    library, text, size = tokenizer._core, raw.decode("utf-8", "replace"), len(raw)
    capacity, memory = 4 * size + 5, tokenizer._memory.address
    scratch = library.alloc(library.call("rq_tokenize_scratch", size))
    with library.place(raw) as at, library.alloc(4 * capacity) as ids, scratch:
        room = (ids.address, capacity, scratch.address, scratch.end)
        count = library.call("rq_tokenize", memory, at.address, size, 0, *room)
        got = memoryview(library.read(ids.address, 4 * count)).cast("i").tolist()
    assert got == tokenizer.encode(text)
    assert tokenizer.decode(got) == text


def test_a_stream_gives_whole_characters_only() -> None:
    tokenizer = open_vocabulary(bpe_metadata())
    stream = tokenizer.stream()
    ids = tokenizer.encode("aé🦙!")
    assert [stream.push(i) for i in ids] == ["a", "", "é", "", "", "", "🦙", "!"]
    assert stream.flush() == ""


def test_a_stream_cut_in_the_middle_of_a_character_ends_with_a_replacement() -> None:
    tokenizer = open_vocabulary(bpe_metadata())
    llama = tokenizer.encode("🦙")
    stream = tokenizer.stream()
    assert [stream.push(i) for i in llama[:3]] == ["", "", ""]
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""
    assert [stream.push(i) for i in [*llama[:2], *tokenizer.encode("a")]] == ["", "", "\ufffda"]


def test_a_stream_and_decode_agree() -> None:
    tokenizer = open_vocabulary(spm_metadata({"▁": -5, "a": 0, "▁a": -1}))
    ids = tokenizer.encode("a é a")
    stream = tokenizer.stream(at_start=True)
    assert "".join(stream.push(i) for i in ids) + stream.flush() == tokenizer.decode(ids) == "a é a"
    running = tokenizer.stream()
    assert "".join(running.push(i) for i in ids) == " a é a"


def test_ids_outside_the_vocabulary_are_refused() -> None:
    tokenizer = open_vocabulary(bpe_metadata())
    for token in (-1, 256, 2**31 - 1):
        with pytest.raises(UsageError) as error:
            tokenizer.decode([token])
        assert (error.value.expected, error.value.actual) == ("0 to 255", str(token))


def test_a_tokenizer_outlives_the_file_it_came_from() -> None:
    with GGUFFile.open(gguf_bytes(bpe_metadata(["a b"]))) as file:
        tokenizer = Tokenizer.from_gguf(file)
    assert piece_texts(tokenizer, "abab") == [b"ab", b"ab"]


def test_a_header_is_enough() -> None:
    raw = gguf_bytes(bpe_metadata(["a b"]))
    assert len(raw) > 3000
    assert piece_texts(Tokenizer.from_header(raw, len(raw)), "ab") == [b"ab"]
    with pytest.raises(FileFormatError) as error:
        Tokenizer.from_header(raw[:2000], len(raw))
    assert error.value.actual == "2000 bytes of it"


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(UsageError):
        Tokenizer.from_gguf(42)


# ---- size ----


@pytest.mark.parametrize("kind", ["spm", "bpe"])
@pytest.mark.parametrize("pattern", ["a", "ab", "abcdefgh"])
def test_a_word_of_a_megabyte_takes_no_quadratic_time(kind: str, pattern: str) -> None:
    # with merges for every power of two every symbol takes part in about twenty merges
    texts = ["ab" * 2**i for i in range(8)] + ["a" * 2**i for i in range(1, 9)]
    if kind == "spm":
        pieces = dict.fromkeys("abcdefgh", 0.0) | {t: -float(i) for i, t in enumerate(texts)}
        tokenizer = open_vocabulary(spm_metadata(pieces, add_space_prefix=False))
    else:
        merges = [f"{t[: len(t) // 2]} {t[len(t) // 2 :]}" for t in texts]
        tokenizer = open_vocabulary(bpe_metadata(merges))
    word = pattern * (2**20 // len(pattern))
    ids = tokenizer.encode(word)  # quadratic work would be 10**12 steps, which no time limit of a test allows
    assert tokenizer.decode(ids) == word
    assert len(ids) == {"a": 2**20 // 256, "ab": 2**20 // 256, "abcdefgh": 2**20 * 7 // 8}[pattern]


def test_a_text_above_the_limit_is_refused() -> None:
    tokenizer = open_vocabulary(bpe_metadata())
    with pytest.raises(UsageError) as error:
        tokenizer.encode("a" * (2**24 + 1))
    assert error.value.expected == "at most 16777216 bytes"


def test_byte_tokens_decode_to_their_bytes() -> None:
    tokenizer = open_vocabulary(spm_metadata({"a": 0}, {"<0x>": USER_DEFINED}))
    assert [tokenizer.token_bytes(3 + b) for b in (0, 65, 255)] == [b"\0", b"A", b"\xff"]
