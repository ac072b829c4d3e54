"""The WebAssembly core gives the ids of the native one, for every vocabulary."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from ruvq import Tokenizer

VOCABULARIES = ["gpt-2", "llama-spm", "phi-3", "starcoder"]
SPECIAL = ["", "<s>", "</s>", "<|endoftext|>", "<|end|>x", "\ufeffbyte order mark", "a\0b", "\U0010ffff"]


def texts(data_dir: Path) -> list[str]:
    """Special cases, pages of a book, and characters drawn with a fixed seed."""
    book = (data_dir / "text" / "sherlock.txt").read_text(encoding="utf-8")
    draw = random.Random(1)
    drawn = [
        "".join(chr(draw.choice([32, 39, *range(9, 0x3000, 7), 0x1F999])) for _ in range(200))
        for _ in range(20)
    ]
    return [*SPECIAL, *(book[i : i + 5000] for i in range(0, 50_000, 5000)), *drawn]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_wasm_and_native_give_the_same_ids(data_dir: Path, repository: Path, name: str) -> None:
    path = data_dir / "vocab" / f"ggml-vocab-{name}.gguf"
    asked = {
        "module": str(repository / "web" / "ruvq.wasm"),
        "vocabulary": str(path.resolve()),
        "texts": texts(data_dir),
    }
    script = repository / "tests" / "tokenizer" / "wasm_tokenizer.mjs"
    done = subprocess.run(
        ["node", script], input=json.dumps(asked).encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    native = Tokenizer.from_gguf(path)
    for text, answer in zip(asked["texts"], json.loads(done.stdout), strict=True):
        ids = native.encode(text)
        special = native.encode(text, add_special=True, parse_special=True)
        assert answer == {"ids": ids, "special": special, "text": native.decode(ids)}
