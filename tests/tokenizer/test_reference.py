"""The ids that llama.cpp gives for its own test texts, for every vocabulary there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ruvq import Tokenizer

VOCABULARIES = ["gpt-2", "llama-spm", "phi-3", "starcoder"]
SEPARATOR = "\n__ggml_vocab_test__\n"


def reference(data_dir: Path, name: str) -> tuple[Tokenizer, list[str], list[list[int]]]:
    """A vocabulary, its texts and their ids."""
    path = data_dir / "vocab" / f"ggml-vocab-{name}.gguf"
    texts = path.with_name(path.name + ".inp").read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
    lines = path.with_name(path.name + ".out").read_text().rstrip("\n").split("\n")
    expected = [[int(i) for i in line.split()] for line in lines]
    return Tokenizer.from_gguf(path), texts, expected


def test_every_vocabulary_with_a_file_is_listed(data_dir: Path) -> None:
    found = {
        p.name.removeprefix("ggml-vocab-").removesuffix(".gguf") for p in (data_dir / "vocab").glob("*.gguf")
    }
    assert found == set(VOCABULARIES)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_ids_are_the_reference_ids(data_dir: Path, name: str) -> None:
    tokenizer, texts, expected = reference(data_dir, name)
    assert len(texts) == len(expected) > 40
    for text, ids in zip(texts, expected, strict=True):
        assert tokenizer.encode(text) == ids, repr(text)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_decoding_gives_the_text_back(data_dir: Path, name: str) -> None:
    tokenizer, texts, _ = reference(data_dir, name)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("text", ["sherlock.txt", "tinyshakespeare.txt"])
def test_books_survive_a_round_trip(data_dir: Path, name: str, text: str) -> None:
    tokenizer = Tokenizer.from_gguf(data_dir / "vocab" / f"ggml-vocab-{name}.gguf")
    book = (data_dir / "text" / text).read_text(encoding="utf-8")
    assert tokenizer.decode(tokenizer.encode(book)) == book


def test_special_tokens_of_the_files(data_dir: Path) -> None:
    folder = data_dir / "vocab"
    llama = Tokenizer.from_gguf(folder / "ggml-vocab-llama-spm.gguf")
    assert (llama.kind, llama.vocab_size, llama.bos, llama.eos, llama.unknown) == ("spm", 32000, 1, 2, 0)
    assert (llama.add_bos, llama.add_eos, llama.add_space_prefix, llama.padding) == (True, False, True, None)
    phi = Tokenizer.from_gguf(folder / "ggml-vocab-phi-3.gguf")
    assert (phi.bos, phi.eos, phi.eot, phi.padding) == (1, 32000, 32007, 32000)
    gpt = Tokenizer.from_gguf(folder / "ggml-vocab-gpt-2.gguf")
    assert (gpt.kind, gpt.bos, gpt.eos, gpt.add_bos, gpt.add_space_prefix) == (
        "bpe",
        50256,
        50256,
        False,
        False,
    )
    assert llama.encode("Hello", add_special=True) == [1, 15043]
    assert gpt.encode("Hello", add_special=True) == [15496]
