"""Damaged files of every kind: whatever the bytes, the answer is a parsed file or a typed error, no crash.

tests/fuzz/fuzz_file.c does the same under sanitizers, guided by coverage (see docs/container.md).
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.build_gguf import llama
from attacks.container import VALID, own
from attacks.corpus import gguf_cases, write_corpus
from attacks.data import digests
from ruvq import errors
from ruvq.gguf import GGUFFile, inspect

SEEDS = [VALID, own(), own(row_bytes=26, widths=[64]), digests(bytes(32), True, True), llama()[:9000]]


def survives(data: bytes) -> None:
    """Opens, inspects and verifies; RuvqError, with its details, is the only exception allowed."""
    found: errors.RuvqError | None = None
    try:
        inspect(data)
        with GGUFFile.open(data) as file:
            file.verify()
    except errors.RuvqError as error:
        found = error
    assert found is None or (found.code and found.expected and found.actual)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    places=st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=9))),
)
def test_overwritten_bytes(seed: bytes, places: list[tuple[int, bytes]]) -> None:
    data = bytearray(seed)
    for at, patch in places:
        at %= len(data)
        data[at : at + len(patch)] = patch
    survives(bytes(data))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 400))
def test_random_bytes_behind_a_valid_start(data: bytes, cut: int) -> None:
    survives(VALID[:cut] + data)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: str(len(seed)))
def test_every_byte_changed_once(seed: bytes) -> None:
    generator = random.Random(20260102)
    places = range(len(seed)) if len(seed) < 600 else generator.sample(range(len(seed)), 600)
    for at in places:
        for value in (0, 255, seed[at] ^ 1, seed[at] ^ 128):
            survives(seed[:at] + bytes([value]) + seed[at + 1 :])


@pytest.mark.slow
def test_under_sanitizers_the_corpus_and_mutations_of_it_are_clean(mutating: Path, tmp_path: Path) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer over the corpus and 40 mutations of each file."""
    write_corpus(tmp_path / "corpus", gguf_cases())
    files = sorted(str(p) for p in (tmp_path / "corpus").glob("*.gguf"))
    run = subprocess.run([str(mutating), "40", *files], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    assert run.stdout.decode().split()[0] == str(len(gguf_cases()) * 41)
