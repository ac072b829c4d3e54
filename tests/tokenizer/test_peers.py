"""Ids compared with the tokenizers and sentencepiece packages: real vocabularies, and trained ones for every
pre-tokenizer, on books and on random Unicode."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import gguf_bytes

from ruvq import Tokenizer
from ruvq.gguf import GGUFFile
from ruvq.sources.tokenizers import load_tokenizer

BOOK_CHARACTERS = 60_000
BOOKS = ["corpus.en", "oz_248K.txt", "sherlock.txt", "tinyshakespeare.txt", "tiny_stories_test.txt"]
# ſ is an s to a regular expression that ignores case, but not to llama.cpp's reading of the same rule
LONG_S = "\u017f"
# characters that are as old as Unicode 3.2, so that no two Unicode versions disagree on what they are
OLD_CHARACTERS = st.characters(exclude_categories=["Cs"]).filter(
    lambda c: c != LONG_S and unicodedata.ucd_3_2_0.category(c) != "Cn"
)
TEXTS = st.text(
    st.one_of(
        OLD_CHARACTERS,
        st.sampled_from(list("  \t\r\n\u00a0\u3000''sStTrReElLdDmMvV0123456789²٣½aZéß中я.,!?-_$+<|>~^`é🦙")),
    ),
    max_size=60,
)
EXAMPLES = settings(max_examples=300, deadline=None)

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def book(data_dir: Path, name: str) -> str:
    """The beginning of a text."""
    return (data_dir / "text" / name).read_text(encoding="utf-8")[:BOOK_CHARACTERS]


def opened(path: Path, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer in a source file, by way of GGUF metadata."""
    return Tokenizer.from_gguf(gguf_bytes(load_tokenizer(path, vocab_size).metadata()))


# ---- real vocabularies ----


@pytest.fixture(scope="session")
def smollm(data_dir: Path) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    folder = data_dir / "tok_smollm2_135m"
    peer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    peer.no_truncation()
    return opened(folder, 49152), peer


@pytest.fixture(scope="session")
def gpt2(data_dir: Path) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    folder = data_dir / "tok_gpt2"
    model = tokenizers.models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    peer = tokenizers.Tokenizer(model)
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.add_special_tokens(["<|endoftext|>"])
    return opened(folder, 50257), peer


@pytest.mark.parametrize("name", ["smollm", "gpt2"])
@pytest.mark.parametrize("text", BOOKS)
def test_books_as_the_tokenizers_package(data_dir: Path, name: str, text: str, request: Any) -> None:
    ours, peer = request.getfixturevalue(name)
    content = book(data_dir, text)
    assert ours.encode(content, parse_special=True) == peer.encode(content, add_special_tokens=False).ids


@EXAMPLES
@given(text=TEXTS)
def test_random_unicode_as_smollm(smollm: Any, text: str) -> None:
    ours, peer = smollm
    assert ours.encode(text, parse_special=True) == peer.encode(text, add_special_tokens=False).ids


@EXAMPLES
@given(text=TEXTS)
def test_random_unicode_as_gpt2(gpt2: Any, text: str) -> None:
    ours, peer = gpt2
    ids = ours.encode(text)
    assert ids == peer.encode(text, add_special_tokens=False).ids
    assert ours.decode(ids) == text


@pytest.mark.slow
def test_every_character_is_of_the_class_that_gpt2_gives_it(gpt2: Any) -> None:
    ours, peer = gpt2
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    old = [c for c in characters if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Co")]
    assert len(old) > 90_000
    for c in old:
        text = f"a{c}a 1{c}1 {c}  {c}!{c}!"
        assert ours.encode(text) == peer.encode(text).ids, hex(ord(c))


def test_the_same_vocabulary_from_gpt2s_files_and_from_a_converted_file(data_dir: Path, gpt2: Any) -> None:
    converted = Tokenizer.from_gguf(data_dir / "vocab" / "ggml-vocab-gpt-2.gguf")
    content = book(data_dir, "sherlock.txt")
    assert gpt2[0].encode(content) == converted.encode(content)


# ---- every pre-tokenizer, with a vocabulary that would merge across words if it were let ----

SPLIT = tokenizers.pre_tokenizers.Split
BYTE_LEVEL = tokenizers.pre_tokenizers.ByteLevel
PRE_TOKENIZERS = {
    "gpt-2": lambda: BYTE_LEVEL(add_prefix_space=False),
    "smollm": lambda: tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL(add_prefix_space=False)]
    ),
    "llama-bpe": lambda: tokenizers.pre_tokenizers.Sequence(
        [
            SPLIT(tokenizers.Regex(WORDS % "{1,3}"), "isolated"),
            BYTE_LEVEL(add_prefix_space=False, use_regex=False),
        ]
    ),
    "qwen2": lambda: tokenizers.pre_tokenizers.Sequence(
        [SPLIT(tokenizers.Regex(WORDS % ""), "isolated"), BYTE_LEVEL(add_prefix_space=False, use_regex=False)]
    ),
}
MIXED = (
    "I'Ve  12345 said:\r\n\r\n\t'tis 3.14  ½ ²³ \u00a0\u3000word's 'LL don't!!!\n\n  x\n "
    "日本語テキスト 한국어 العربية हिन्दी "
)


def default_stages() -> Any:
    """What GGUF's "default" means: four regular expressions, each cutting the pieces of the one before."""
    words = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    stages = [r"[\p{P}\$\+<=>\^~\|]+", words, r"\p{N}+", "[0-9][0-9][0-9]"]
    splits = [SPLIT(tokenizers.Regex(stage), "isolated") for stage in stages]
    return tokenizers.pre_tokenizers.Sequence([*splits, BYTE_LEVEL(add_prefix_space=False, use_regex=False)])


@pytest.fixture(scope="session", params=[*PRE_TOKENIZERS, "default"])
def trained(request: Any, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Merges learnt on text that was not cut into words, used with a pre-tokenizer that cuts."""
    peer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=request.param == "llama-bpe"))
    peer.pre_tokenizer = BYTE_LEVEL(add_prefix_space=False, use_regex=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=BYTE_LEVEL.alphabet(), show_progress=False, max_token_length=12
    )
    lines = [book(data_dir, "corpus.en")[i : i + 80] for i in range(0, 20_000, 80)]
    peer.train_from_iterator([*lines, *[MIXED] * 20], trainer)
    known = "gpt-2" if request.param == "default" else request.param  # no tokenizer.json says "default"
    peer.pre_tokenizer = PRE_TOKENIZERS[known]()
    path = tmp_path_factory.mktemp("trained") / "tokenizer.json"
    peer.save(str(path))
    spec = load_tokenizer(path)
    assert spec.pre == known
    if request.param == "default":
        spec, peer.pre_tokenizer = replace(spec, pre="default"), default_stages()
    return Tokenizer.from_gguf(gguf_bytes(spec.metadata())), peer


def test_trained_vocabularies_on_books(data_dir: Path, trained: Any) -> None:
    ours, peer = trained
    for text in [MIXED, *(book(data_dir, name)[:20_000] for name in BOOKS)]:
        assert ours.encode(text) == peer.encode(text).ids


@EXAMPLES
@given(text=TEXTS)
def test_trained_vocabularies_on_random_unicode(trained: Any, text: str) -> None:
    ours, peer = trained
    ids = ours.encode(text)
    assert ids == peer.encode(text).ids
    assert ours.decode(ids) == text


# ---- SentencePiece ----


@pytest.fixture(scope="session")
def stories(data_dir: Path) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    folder = data_dir / "stories260K"
    peer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tok512.model"))
    return opened(folder / "tok512.bin", 512), peer


def squeezed(text: str) -> str:
    """What this SentencePiece model does to spaces before it encodes, and GGUF's rules don't."""
    return re.sub(" +", " ", text).strip(" ")


def test_stories_as_sentencepiece(data_dir: Path, stories: Any) -> None:
    ours, peer = stories
    for story in (
        (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8").split("<|endoftext|>")
    ):
        text = squeezed(story)
        ids = ours.encode(text, add_special=True)
        assert ids == [1, *peer.encode(text)]
        assert ours.decode(ids) == text


@EXAMPLES
@given(text=TEXTS)
def test_random_unicode_as_sentencepiece(stories: Any, text: str) -> None:
    ours, peer = stories
    text = squeezed(text.replace("\u2581", "").replace("\0", ""))  # both mean something to SentencePiece
    assert ours.encode(text) == peer.encode(text)


def test_the_bin_and_the_model_file_are_one_vocabulary(data_dir: Path) -> None:
    ours = load_tokenizer(data_dir / "stories260K" / "tok512.bin", 512)
    other = load_tokenizer(data_dir / "stories260K" / "tok512.model", 512)
    assert ours.metadata() == other.metadata()
    assert other.notes == ("runs of spaces are kept, where SentencePiece itself would squeeze them",)


def llama_json(texts: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> dict[str, Any]:
    """A SentencePiece vocabulary as tokenizer.json, made as Hugging Face's converter makes it: every pair
    that makes a piece is a merge; by the piece's score, then by the lengths of the two."""
    vocab = {t: i for i, t in enumerate(texts)}
    normal = {t for t, kind in zip(texts, types, strict=True) if kind == 1}
    pairs = [(text[:i], text[i:]) for text in normal for i in range(1, len(text))]
    merges = [[left, right] for left, right in pairs if left in normal and right in normal]
    merges.sort(key=lambda m: (-scores[vocab[m[0] + m[1]]], len(m[0]), len(m[1]), m))
    special = [{"id": i, "content": texts[i], "special": True, "normalized": False} for i in range(3)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    marks = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    return {
        "version": "1.0",
        "added_tokens": [{**s, **flags} for s in special],
        "normalizer": {"type": "Sequence", "normalizers": marks},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": merges,
        },
    }


def by_way_of_json(
    folder: Path, texts: Sequence[str], scores: Sequence[float], types: Sequence[int]
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """The same vocabulary from a tokenizer.json: ours, and the tokenizers package's."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(llama_json(texts, scores, types)), encoding="utf-8")
    settings = {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ours = opened(path, len(texts))
    assert (ours.kind, ours.bos, ours.eos, ours.unknown, ours.add_bos) == ("spm", 1, 2, 0, True)
    return ours, tokenizers.Tokenizer.from_file(str(path))


def test_stories_by_way_of_tokenizer_json(data_dir: Path, tmp_path: Path, stories: Any) -> None:
    spec = load_tokenizer(data_dir / "stories260K" / "tok512.model")
    assert spec.scores is not None
    ours, peer = by_way_of_json(tmp_path, [t.decode() for t in spec.tokens], spec.scores, spec.types)
    for name in BOOKS:
        text = book(data_dir, name).replace("<|endoftext|>", "")[:20_000]
        ids = ours.encode(text, add_special=True)
        assert ids == peer.encode(text).ids
        assert ids == stories[0].encode(text, add_special=True)


def test_llama_2_by_way_of_tokenizer_json(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "vocab" / "ggml-vocab-llama-spm.gguf"
    with GGUFFile.open(path) as file:
        keys = [file.metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type")]
    ours, peer = by_way_of_json(tmp_path, *keys)
    direct = Tokenizer.from_gguf(path)
    for name in BOOKS:
        text = book(data_dir, name).replace("<|endoftext|>", "")
        ids = ours.encode(text, add_special=True)
        assert ids == peer.encode(text).ids
        assert ids == direct.encode(text, add_special=True)
