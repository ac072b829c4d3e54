"""What a caller can demand of a file before it is used: its SHA-256, its weights checked, a memory limit."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

import ruvq
from attacks.build_gguf import llama
from ruvq.errors import IntegrityError, MemoryLimitError, TokenizerError, UsageError
from ruvq.gguf import GGUFFile

MODEL = llama()
DIGEST = hashlib.sha256(MODEL).hexdigest()


@pytest.mark.parametrize("digest", [DIGEST, DIGEST.upper()])
def test_the_right_digest_opens_the_model(tmp_path: Path, digest: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(MODEL)
    for source in (path, MODEL, io.BytesIO(MODEL)):
        ruvq.Model.open(source, sha256=digest).close()
    with GGUFFile.open(path) as file:
        assert file.sha256() == DIGEST


@pytest.mark.parametrize("at", [0, 100, len(MODEL) // 2, len(MODEL) - 1])
def test_a_file_with_one_bit_changed_is_another_file(at: int) -> None:
    other = hashlib.sha256(MODEL[:at] + bytes([MODEL[at] ^ 1]) + MODEL[at + 1 :]).hexdigest()
    with pytest.raises(IntegrityError) as caught:
        ruvq.Model.open(MODEL, sha256=other)
    assert other in caught.value.expected
    assert caught.value.actual == DIGEST


@pytest.mark.parametrize("digest", ["", "ab", DIGEST[:-1], DIGEST + "0", "g" * 64, " " + DIGEST[1:], 7])
def test_what_is_no_digest_is_refused_and_never_ignored(digest: object) -> None:
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        ruvq.Model.open(MODEL, sha256=digest)  # type: ignore[arg-type]


def test_the_memory_budget_holds_to_the_byte() -> None:
    with ruvq.Model.open(MODEL, threads=1) as model, GGUFFile.open(MODEL) as file:
        needed = file.memory_bytes + model.info.memory_bytes
    ruvq.Model.open(MODEL, threads=1, memory_budget=needed).close()
    with pytest.raises(MemoryLimitError) as caught:
        ruvq.Model.open(MODEL, threads=1, memory_budget=needed - 1)
    assert f"{needed:,}" in caught.value.actual
    assert f"{needed - 1:,}" in caught.value.expected


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a hole: a terabyte that takes no space
    with pytest.raises(MemoryLimitError):
        ruvq.Model.open(path, memory_budget=1 << 20)


def test_a_bad_vocabulary_is_refused_at_open_as_in_javascript() -> None:
    bad = MODEL.replace(b"<0x41>", b"<0xZZ>", 1)
    with pytest.raises(TokenizerError, match="<0xZZ>"):
        ruvq.Model.open(bad)
