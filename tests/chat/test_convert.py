"""What the converter records of tokenizers and templates, and what is noticed later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import ruvq
from ruvq.errors import TemplateError, TokenizerError
from ruvq.gguf import GGUFFile
from ruvq.gguf.writer import write_gguf
from ruvq.quantize import vocabulary
from ruvq.runtime import tokenizer_check
from ruvq.runtime.tokenizer import Tokenizer

from .chat_models import CHATML, quantized, write_chat_model

HELLO = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    return quantized(write_chat_model(folder / "model"), folder / "chat.gguf")


def keys_of(path: Path) -> dict[str, Any]:
    """The tokenizer's keys of a file, as the writer takes them."""
    with GGUFFile.open(path) as file:
        names = [k for k in file.metadata if k.startswith(("tokenizer.", "ruvq.tokenizer."))]
        is_array = {k: file.metadata.raw(k)[0] >= 256 for k in names}
        return {k: file.metadata.typed(k) if is_array[k] else file.metadata[k] for k in names}


def checked(path: Path, keys: dict[str, Any]) -> None:
    """Writes a vocabulary with these keys, and compares it with what it records."""
    write_gguf(path, "llama", keys, [])
    with GGUFFile.open(path) as file:
        tokenizer_check.check(file, Tokenizer.from_gguf(file))


def test_the_template_of_the_folder_is_stored_and_its_variants(tmp_path: Path) -> None:
    folder = write_chat_model(
        tmp_path / "model",
        [{"name": "default", "template": CHATML}, {"name": "rag", "template": "{{ messages[0].content }}"}],
    )
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "short.jinja").write_text("{{ messages[-1].content }}")
    keys = keys_of(quantized(folder, tmp_path / "a.gguf"))
    assert keys["tokenizer.chat_template"] == CHATML
    assert keys["tokenizer.chat_templates"].value == ["rag", "short"]
    assert keys["tokenizer.chat_template.short"] == "{{ messages[-1].content }}"
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    assert keys_of(quantized(folder, tmp_path / "a.gguf"))["tokenizer.chat_template"].endswith("!")


def test_another_template_may_be_given_or_none(tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path / "model")
    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}")
    own = quantized(folder, tmp_path / "a.gguf", chat_template=str(tmp_path / "own.jinja"))
    assert keys_of(own)["tokenizer.chat_template"] == "{{ messages[0].content }}"
    none = quantized(folder, tmp_path / "a.gguf", chat_template="none")
    assert "tokenizer.chat_template" not in keys_of(none)


@pytest.mark.parametrize("template", ["{% for %}", "{{ 'x' * 10**10 }}{{ messages[0].content }}", "no words"])
def test_a_template_that_cannot_be_used_stops_the_conversion(tmp_path: Path, template: str) -> None:
    folder = write_chat_model(tmp_path / "model", template)
    with pytest.raises(TemplateError, match="--chat-template"):
        quantized(folder, tmp_path / "a.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_texts_and_fingerprint_of_the_vocabulary_are_recorded(chat_file: Path) -> None:
    keys = keys_of(chat_file)
    tests = json.loads(keys["ruvq.tokenizer.tests"])
    assert [text for text, _ in tests] == list(tokenizer_check.TEXTS)
    with ruvq.Model.open(chat_file) as model:
        assert all(model.tokenizer.encode(text) == ids for text, ids in tests)
    assert len(keys["ruvq.tokenizer.fingerprint"]) == 64


def test_a_changed_vocabulary_is_noticed(chat_file: Path, tmp_path: Path) -> None:
    keys = keys_of(chat_file)
    checked(tmp_path / "same.gguf", keys)
    tokens = keys["tokenizer.ggml.tokens"]
    other = tokens.value.copy()
    other[300 - 40] = "<|another|>"
    with pytest.raises(TokenizerError, match="isn't the one"):
        checked(tmp_path / "a.gguf", {**keys, "tokenizer.ggml.tokens": type(tokens)(other, tokens.type)})


def test_other_tokens_for_the_recorded_texts_are_noticed(chat_file: Path, tmp_path: Path) -> None:
    keys = keys_of(chat_file)
    tests = json.loads(keys["ruvq.tokenizer.tests"])
    tests[3][1][0] += 1
    with pytest.raises(TokenizerError, match="other tokens"):
        checked(tmp_path / "a.gguf", {**keys, "ruvq.tokenizer.tests": json.dumps(tests)})


@pytest.mark.parametrize("tests", ["[", "[[1, 2]]", '[["x", ["y"]]]', "[" * 50_000, "x" * 70_000, "3"])
def test_damaged_records_are_typed_errors(chat_file: Path, tmp_path: Path, tests: str) -> None:
    keys = {**keys_of(chat_file), "ruvq.tokenizer.tests": tests}
    with pytest.raises(TokenizerError, match="can't be read"):
        checked(tmp_path / "a.gguf", keys)


def test_a_real_vocabulary_agrees_with_the_tokenizers_package(data_dir: Path, tmp_path: Path) -> None:
    from ruvq.sources.tokenizers import load_tokenizer

    for name in ("tok_smollm2_135m",):
        spec = load_tokenizer(data_dir / name)
        path = tmp_path / f"{name}.gguf"
        write_gguf(path, "llama", spec.metadata(), [])
        vocabulary._compare(Tokenizer.from_gguf(path), spec.path)
        wrong = tmp_path / "tokenizer.json"
        shutil.copy(data_dir / name / "tokenizer.json", wrong)
        content = json.loads(wrong.read_text())
        content["model"]["merges"] = content["model"]["merges"][:100]
        wrong.write_text(json.dumps(content))
        with pytest.raises(TokenizerError, match="differently"):
            vocabulary._compare(Tokenizer.from_gguf(path), wrong)
