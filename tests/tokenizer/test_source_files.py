"""Tokenizer files of source models: what they become, and what is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vocabularies import byte_characters, gguf_bytes

from ruvq import Tokenizer
from ruvq.errors import FileFormatError, RuvqError, StorageError, TokenizerError
from ruvq.sources.tokenizers import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    TokenizerSpec,
    load_tokenizer,
)

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
MARKS = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]


def byte_level(**changes: Any) -> dict[str, Any]:
    """A small byte-level tokenizer.json; keys of "model" with model__ in front."""
    texts = [*byte_characters(), "ab", "abc"]
    content: dict[str, Any] = {
        "added_tokens": [{"id": 258, "content": "<|end|>", "special": True}],
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL,
        "post_processor": None,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(texts)}, "merges": ["a b", "ab c"]},
    }
    for name, value in changes.items():
        place = content["model"] if name.startswith("model__") else content
        place[name.removeprefix("model__")] = value
    return content


def byte_fallback(**changes: Any) -> dict[str, Any]:
    """A small tokenizer.json of Llama 2's kind."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "a", "b", "ab", "▁a", "▁ab"]
    merges = [["a", "b"], ["▁", "a"], ["▁", "ab"], ["▁a", "b"]]
    return byte_level(
        **{
            "added_tokens": [{"id": i, "content": texts[i], "special": True} for i in range(3)],
            "normalizer": {"type": "Sequence", "normalizers": MARKS},
            "pre_tokenizer": None,
            "model__vocab": {t: i for i, t in enumerate(texts)},
            "model__merges": merges,
            "model__byte_fallback": True,
            "model__unk_token": "<unk>",
            **changes,
        }
    )


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., TokenizerSpec]:
    """Loads a tokenizer.json's content, with a tokenizer_config.json beside it."""

    def loaded(
        content: Any, settings: Any = None, vocab_size: int | None = None, config: Any = None
    ) -> TokenizerSpec:
        (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        if settings is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        return load_tokenizer(tmp_path, vocab_size, config)

    return loaded


Load = Callable[..., TokenizerSpec]


def opened(spec: TokenizerSpec) -> Tokenizer:
    return Tokenizer.from_gguf(gguf_bytes(spec.metadata()))


# ---- tokenizer.json ----


def test_merges_in_both_forms(load: Load) -> None:
    pairs = load(byte_level(model__merges=[["a", "b"], ["ab", "c"]]))
    assert pairs.merges == load(byte_level()).merges == [b"a b", b"ab c"]
    assert opened(pairs).encode("abcab") == [257, 256]


@pytest.mark.parametrize(
    ("pre", "name"),
    [
        (BYTE_LEVEL, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}, "gpt-2"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
            },
            "smollm",
        ),
    ],
)
def test_pre_tokenizers_are_known_by_their_structure(load: Load, pre: Any, name: str) -> None:
    assert load(byte_level(pre_tokenizer=pre)).pre == name


def split(pattern: str, behavior: str = "Isolated") -> dict[str, Any]:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, {**BYTE_LEVEL, "use_regex": False}]}


@pytest.mark.parametrize(
    "pre",
    [
        None,
        {"type": "Whitespace"},
        {**BYTE_LEVEL, "add_prefix_space": True},
        {**BYTE_LEVEL, "use_regex": False},
        {"type": "Sequence", "pretokenizers": []},
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, BYTE_LEVEL]},
        {"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}, BYTE_LEVEL]},
        split(r"\s+"),
        split(r"\s+", "Removed"),
    ],
)
def test_unknown_pre_tokenizers_are_refused_with_what_was_found(load: Load, pre: Any) -> None:
    with pytest.raises(TokenizerError) as error:
        load(byte_level(pre_tokenizer=pre))
    assert error.value.actual == json.dumps(pre)
    assert "ByteLevel" in error.value.expected


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"model__type": "Unigram"},
        {"model__dropout": 0.1},
        {"model__end_of_word_suffix": "</w>"},
        {"model__ignore_merges": True},
        {"model__vocab": {}},
        {"model__merges": None},
        {"model__merges": ["a b c"]},
        {"model__merges": [["a"]]},
        {"model__merges": [["a", ""]]},
        {"model__vocab": {"a": 0, "b": 0}},
        {"model__vocab": {"a": -1}},
        {"model__vocab": {"a": 10**9}},
        {"model__vocab": {"a": "0"}},
        {"added_tokens": [{"id": 0, "content": "other", "special": True}]},
        {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>"}}]}},
    ],
)
def test_what_cannot_be_represented_is_refused(load: Load, changes: dict[str, Any]) -> None:
    with pytest.raises(RuvqError) as error:
        load(byte_level(**changes))
    assert isinstance(error.value, (TokenizerError, FileFormatError))
    assert error.value.actual


def test_types_of_tokens(load: Load) -> None:
    added = [
        {"id": 258, "content": "<|end|>", "special": True},
        {"id": 260, "content": "    ", "special": False},
        {"id": 256, "content": "ab", "special": False},
    ]
    spec = load(byte_level(added_tokens=added))
    assert [spec.types[i] for i in (0, 256, 257, 258, 259, 260)] == [
        NORMAL, USER_DEFINED, NORMAL, CONTROL, UNUSED, USER_DEFINED
    ]  # fmt: skip
    assert spec.tokens[259] == b"[PAD259]"


def test_normalisation_to_nfc_is_noted(load: Load) -> None:
    assert load(byte_level(normalizer={"type": "NFC"})).notes == (
        "the tokenizer's normalisation is not applied: write text in NFC",
    )


def test_special_tokens_come_from_the_settings_then_from_the_models_configuration(load: Load) -> None:
    settings = {"eos_token": {"content": "<|end|>"}, "bos_token": None, "pad_token": "<|end|>"}
    spec = load(byte_level(), settings, None, {"bos_token_id": 3, "eos_token_id": [5, 6], "pad_token_id": 7})
    assert (spec.bos, spec.eos, spec.padding, spec.unknown) == (3, 258, 258, None)
    assert load(byte_level(), {}, None, {"eos_token_id": [5, 6]}).eos == 5


def test_bos_and_eos_come_from_the_template_or_the_settings(load: Load) -> None:
    named = {"bos_token": "ab", "eos_token": "abc"}
    text, first, last = (
        {"Sequence": {"id": "A"}},
        {"SpecialToken": {"id": "ab"}},
        {"SpecialToken": {"id": "abc"}},
    )

    def adds(single: list[Any] | None, settings: dict[str, Any]) -> tuple[bool, bool]:
        post = {"type": "TemplateProcessing", "single": single} if single is not None else BYTE_LEVEL
        spec = load(byte_level(post_processor=post), settings)
        return spec.add_bos, spec.add_eos

    assert adds([first, text], named) == (True, False)
    assert adds([first, text, last], named) == (True, True)
    assert adds([text], {**named, "add_bos_token": True}) == (False, False)
    assert adds(None, {**named, "add_bos_token": True}) == (True, False)
    assert adds(None, named) == (False, False)
    with pytest.raises(TokenizerError):
        adds([last, text], named)


def test_chat_templates(load: Load, tmp_path: Path) -> None:
    assert load(byte_level()).chat_template is None
    assert load(byte_level(), {"chat_template": "one"}).chat_template == "one"
    several = [{"name": "tool", "template": "x"}, {"name": "default", "template": "two"}]
    assert load(byte_level(), {"chat_template": several}).chat_template == "two"
    (tmp_path / "chat_template.jinja").write_text("three", encoding="utf-8")
    spec = load(byte_level(), {"chat_template": "one"})
    assert spec.metadata()["tokenizer.chat_template"] == "three"


def test_byte_fallback_becomes_sentencepiece_with_scores_from_ranks(load: Load) -> None:
    spec = load(byte_fallback(), {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
    assert (spec.model, spec.bos, spec.eos, spec.unknown) == ("llama", 1, 2, 0)
    assert (spec.add_bos, spec.add_space_prefix) == (True, True)
    assert (spec.types[0], spec.types[1], spec.types[3], spec.types[259]) == (UNKNOWN, CONTROL, BYTE, NORMAL)
    tokenizer = opened(spec)
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("ab é")] == [b" ab", b" ", b"\xc3", b"\xa9"]


def test_tokens_whose_merges_lie_mingled_get_one_score(load: Load) -> None:
    spec = load(byte_fallback(model__merges=[["a", "b"], ["▁", "ab"], ["▁", "a"], ["▁a", "b"]]))
    assert spec.scores is not None
    assert list(spec.scores[-3:]) == [0.0, -1.0, -1.0]  # ab, then ▁a and ▁ab


@pytest.mark.parametrize(
    ("pre", "prefix"),
    [
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}, True),
        ({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}, False),
    ],
)
def test_spaces_written_by_a_metaspace(load: Load, pre: Any, prefix: bool) -> None:
    assert load(byte_fallback(normalizer=None, pre_tokenizer=pre)).add_space_prefix is prefix


def test_without_prepend_there_is_no_space_prefix(load: Load) -> None:
    assert load(byte_fallback(normalizer=MARKS[1])).add_space_prefix is False


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": None},
        {"normalizer": {"type": "Lowercase"}},
        {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "split": False}},
        {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "split": True}},
        {
            "model__merges": [["a", "b"], ["▁", "a"], ["▁", "ab"]]
        },  # "▁a" + "b" would merge here, but not there
    ],
)
def test_byte_fallback_that_is_not_sentencepiece_is_refused(load: Load, changes: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError):
        load(byte_fallback(**changes))


# ---- the size ----


def test_the_vocabulary_is_padded_to_the_models_rows(load: Load) -> None:
    spec = load(byte_level(), None, 300)
    assert spec.vocab_size == 300
    assert spec.tokens[299] == b"[PAD299]"
    assert spec.types[259:] == [UNUSED] * 41
    assert spec.notes == ("the vocabulary is padded with 41 unused tokens",)
    assert opened(spec).encode("[PAD299]", parse_special=True) != [299]
    assert load(byte_fallback(), None, 300).scores is not None


@pytest.mark.parametrize("rows", [258, 324, 32000])
def test_a_tokenizer_of_another_model_is_refused(load: Load, rows: int) -> None:
    with pytest.raises(TokenizerError) as error:
        load(byte_level(), None, rows)
    assert error.value.actual == "259 tokens"
    assert str(rows) in error.value.expected


def test_the_real_tokenizers_fit_their_models_and_no_others(data_dir: Path) -> None:
    for path, rows in (("tok_smollm2_135m", 49152), ("tok_gpt2", 50257), ("stories260K", 512)):
        assert load_tokenizer(data_dir / path, rows).vocab_size == rows
        with pytest.raises(TokenizerError):
            load_tokenizer(data_dir / path, 32000)


# ---- which file ----


def test_files_and_folders_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        load_tokenizer(tmp_path)
    with pytest.raises(StorageError):
        load_tokenizer(tmp_path / "missing.json")
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(StorageError) as error:
        load_tokenizer(tmp_path)
    assert "merges.txt" in error.value.expected
    for name, text in (("a.json", "{}"), ("b.json", '{"a": "b"}'), ("c.txt", "x")):
        (tmp_path / name).write_text(text)
        with pytest.raises(TokenizerError):
            load_tokenizer(tmp_path / name)
    (tmp_path / "d.json").write_text("<html>")
    with pytest.raises(FileFormatError):
        load_tokenizer(tmp_path / "d.json")


# ---- llama2.c ----


def llama2c(entries: list[tuple[bytes, float]], longest: int = 7) -> bytes:
    parts = [struct.pack("<fi", score, len(text)) + text for text, score in entries]
    return struct.pack("<i", longest) + b"".join(parts)


RESERVED = [(b"<unk>", 0.0), (b"\n<s>\n", 0.0), (b"\n</s>\n", 0.0)]


def test_llama2c_spaces_become_sentencepiece_marks(tmp_path: Path) -> None:
    path = tmp_path / "tok.bin"
    path.write_bytes(llama2c([*RESERVED, (b"<0x41>", 0.0), (b" a", -1.0), (b"<0x>", -2.0)]))
    spec = load_tokenizer(path)
    assert spec.tokens == [b"<unk>", b"<s>", b"</s>", b"<0x41>", "▁a".encode(), b"<0x>"]
    assert spec.types == [UNKNOWN, CONTROL, CONTROL, BYTE, NORMAL, NORMAL]
    assert spec.scores == [0.0, 0.0, 0.0, 0.0, -1.0, -2.0]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\7\0\0",
        llama2c([]),
        llama2c(RESERVED),
        llama2c([(b"a", 0.0)] * 5),
        llama2c([*RESERVED, (b"abc", 0.0)])[:-1],
        llama2c([*RESERVED, (b"abc", 0.0)]) + b"\0\0\0",
        llama2c([*RESERVED, (b"a" * 20, 0.0)]),
        llama2c(RESERVED) + struct.pack("<fi", 0.0, -1),
        llama2c(RESERVED) + struct.pack("<fi", 0.0, 2**31 - 1),
    ],
)
def test_damaged_llama2c_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "tok.bin"
    path.write_bytes(raw)
    with pytest.raises(RuvqError) as error:
        load_tokenizer(path)
    assert isinstance(error.value, (TokenizerError, FileFormatError))


# ---- SentencePiece ----


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, raw: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def piece(text: str, score: float, kind: int | None = None) -> bytes:
    raw = message(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
    return message(1, raw + (b"" if kind is None else number(3, kind)))


PIECES = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("▁", -1) + piece("a", -2)
TRAINER = message(2, number(3, 2))
NORMALIZER = message(3, number(3, 0) + number(4, 0))


def test_a_sentencepiece_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(PIECES + TRAINER + NORMALIZER)
    spec = load_tokenizer(path)
    assert spec.tokens == [b"<unk>", b"<s>", b"</s>", "▁".encode(), b"a"]
    assert (list(spec.types), spec.scores) == ([2, 3, 3, 1, 1], [0, 0, 0, -1, -2])
    assert (spec.bos, spec.eos, spec.unknown, spec.padding) == (1, 2, 0, None)
    assert (spec.add_space_prefix, spec.notes) == (False, ())
    path.write_bytes(PIECES + message(2, number(3, 2) + number(42, 4)) + message(3, message(2, b"map")))
    spec = load_tokenizer(path)
    assert (spec.eos, spec.add_space_prefix, len(spec.notes)) == (4, True, 2)


def test_tokens_added_to_a_sentencepiece_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(PIECES + TRAINER + NORMALIZER)
    added = {"1": {"content": "<s>", "special": True}, "5": {"content": "<|x|>", "special": True}}
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"added_tokens_decoder": added}))
    spec = load_tokenizer(path)
    assert (spec.tokens[5], spec.types[5]) == (b"<|x|>", CONTROL)
    for wrong in ({"7": {"content": "<|x|>"}}, {"1": {"content": "other"}}):
        settings.write_text(json.dumps({"added_tokens_decoder": wrong}))
        with pytest.raises(TokenizerError):
            load_tokenizer(path)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        PIECES[:-3],
        PIECES,  # no trainer: unigram by default
        PIECES + message(2, number(3, 1)),
        TRAINER + NORMALIZER,
        number(1, 5) + TRAINER,
        message(1, message(1, b"\xff\xfe")) + TRAINER,
        message(1, number(2, 7)) + TRAINER,
        b"\x0f" + PIECES,
        PIECES + message(2, number(3, 2) + number(41, 99)),
        b"<html><body>404</body></html>",
    ],
)
def test_damaged_sentencepiece_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(raw)
    with pytest.raises(RuvqError) as error:
        load_tokenizer(path)
    assert isinstance(error.value, (TokenizerError, FileFormatError))
