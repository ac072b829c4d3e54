"""Damaged vocabularies under sanitizers: a typed error or a working tokenizer, and no byte read outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from vocabularies import CONTROL, USER_DEFINED, bpe_metadata, gguf_bytes, spm_metadata

MUTATIONS = 3000
PIECES = {"▁": -1.0, "l": -1.0, "o": -1.0, "lo": 2.0, "▁H": 1.0, "ello": -7.0, "12": 0.5}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "add_eos_token": True, "add_bos_token": True}
SPECIAL = {"<s> ": CONTROL, "<": USER_DEFINED}
SEEDS = {
    "spm": spm_metadata(PIECES, SPECIAL, byte_tokens=False, **IDS),
    "spm-bytes": spm_metadata(PIECES, **IDS),
    "default": bpe_metadata(["l l", "e ll", "Ġ w"], SPECIAL, pre="default", **IDS),
    "llama-bpe": bpe_metadata(["l l", "e ll", "1 2"], SPECIAL, pre="llama-bpe", **IDS),
    "smollm": bpe_metadata(["l o", "H e", "1 2"], SPECIAL, pre="smollm", **IDS),
}


@pytest.mark.slow
def test_mutated_vocabularies_under_sanitizers(mutating: Path, tmp_path: Path) -> None:
    for name, metadata in SEEDS.items():
        (tmp_path / f"{name}.gguf").write_bytes(gguf_bytes(metadata))
    files = sorted(str(p) for p in tmp_path.glob("*.gguf"))
    run = subprocess.run([str(mutating), str(MUTATIONS), *files], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    assert run.stdout.decode().split()[0] == str(len(SEEDS) * (MUTATIONS + 1))
