"""Damaged files: whatever bytes are changed, a model opens and computes, or a typed error says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import tiny
from ruvq import Model, RuvqError
from ruvq.gguf import GGUFFile

CASES = 150


@pytest.mark.parametrize("format", ["F32", "pi-q3", "pi-t3", "pi-t2", "ternary"])
def test_changed_bytes_never_do_worse_than_a_typed_error(format: str, tmp_path: Path) -> None:
    """Seeded; once over the header, once over the weights. Crashes and foreign exceptions fail the test."""
    model = tiny.random_llama(width=20, heads=2, kv_heads=1, ff=36, layers=1, vocab=40, context=32)
    encoded = None if format == "F32" else tiny.encode_all(model, format)
    path = tiny.write(tmp_path / "m.gguf", model, encoded=encoded)
    data = path.read_bytes()
    with GGUFFile.open(path) as file:
        start = file.header["data_start"]
    rng = np.random.default_rng(len(format))
    ran = 0
    refusals: list[RuvqError] = []
    for case in range(CASES):
        low, high = (24, start) if case % 2 else (start, len(data))
        damaged = bytearray(data)
        for at in rng.integers(low, high, rng.integers(1, 6)):
            damaged[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))])
        try:
            with Model.open(bytes(damaged), batch=4) as opened:
                opened.score([1, 2, 3, 39, 0, 7])
            ran += 1
        except RuvqError as error:
            refusals.append(error)
    assert min(ran, len(refusals)) > 10
    assert [str(e) for e in refusals if not (e.code and e.expected)] == []
