"""The tiny Qwen models of the test data: recorded logits, and GGUF files made from their folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ruvq import quantize_model
from sources.tiny_models import write_tokenizer

KINDS = ("qwen2", "qwen3")


def folder(repository: Path, kind: str) -> Path:
    """The model as transformers saved it."""
    return repository / "tests" / "data" / "tiny_qwen" / kind


def recorded(folder: Path) -> tuple[list[int], np.ndarray]:
    """Tokens and the logits that transformers gave for them, float32 (tokens, vocab)."""
    tokens = json.loads((folder / "recorded.json").read_text())["tokens"]
    return tokens, np.fromfile(folder / "logits.f32", "<f4").reshape(len(tokens), -1)


def convert(source: Path, target: Path, format: str, vocab: int = 512, **options: Any) -> Path:
    """A GGUF file of a folder or another GGUF file, through the whole pipeline."""
    own = source.suffix == ".gguf"
    tokenizer = None if own else write_tokenizer(target.with_suffix(".tok.bin"), vocab)
    quantize_model(source, target, format, tokenizer=tokenizer, progress=False, threads=1, **options)
    return target
