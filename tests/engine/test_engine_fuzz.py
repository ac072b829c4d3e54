"""Damaged files: whatever bytes are changed, a model opens and computes, or a typed error says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import tiny
from ruvq import Model, RuvqError
from ruvq.gguf import GGUFFile

CASES = 150


@pytest.mark.parametrize(
    ("format", "kind"),
    [(f, "llama") for f in ("F32", "pi-q3", "pi-t3", "pi-t2", "ternary")]
    + [("pi-t2", "qwen2"), ("F32", "qwen3")],
)
def test_changed_bytes_never_do_worse_than_a_typed_error(format: str, kind: str, tmp_path: Path) -> None:
    """Seeded; once over the header, once over the weights. Crashes and foreign exceptions fail the test."""
    sizes: dict[str, Any] = {"width": 20, "heads": 2, "kv_heads": 1, "ff": 36, "layers": 1, "vocab": 40}
    own = {"biases": kind == "qwen2", "head_norms": kind == "qwen3", "architecture": kind}
    model = tiny.random_llama(context=32, neox=kind != "llama", **sizes, **own)
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
