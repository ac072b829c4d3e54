"""Random LoRA adapters for the small models of engine.tiny, as files by the gguf package, and merged."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

import gguf
from engine.tiny import Llama

Pairs = dict[str, tuple[np.ndarray, np.ndarray]]  # tensor -> A (rank, in), B (out, rank)
PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def random_pairs(model: Llama, rank: int = 4, seed: int = 7, parts: Sequence[str] = PARTS) -> Pairs:
    """An adapter at these matrices of every layer, large enough to change every logit."""
    rng = np.random.default_rng(seed)
    out: Pairs = {}
    for name, weights in model.tensors.items():
        if weights.ndim == 2 and any(f".{part}." in name for part in parts):
            rows, width = weights.shape
            a = rng.standard_normal((rank, width)) / np.sqrt(width)
            out[name] = (a.astype(np.float32), rng.standard_normal((rows, rank)).astype(np.float32) / 4)
    return out


def merged(model: Llama, pairs: Pairs, scale: float) -> Llama:
    """The model with scale B A added to its weights."""
    new = copy(model)
    new.tensors = dict(model.tensors)
    for name, (a, b) in pairs.items():
        wide = new.tensors[name].astype(np.float64) + scale * b.astype(np.float64) @ a
        new.tensors[name] = wide.astype(np.float32)
    return new


def write(
    path: Path,
    pairs: Pairs,
    *,
    alpha: float | None = 8.0,
    architecture: str = "llama",
    keys: dict[str, Any] | None = None,
    more: dict[str, np.ndarray] | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> Path:
    """An adapter file in llama.cpp's layout. `keys`: texts to change or (None) leave out; `more`: tensors to
    add or put in another's place."""
    writer = gguf.GGUFWriter(path, architecture)
    texts = {"general.type": "adapter", "adapter.type": "lora", "general.name": "a test"} | (keys or {})
    for key, value in texts.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif value is not None:
            writer.add_string(key, value)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    tensors = {f"{n}.lora_{part}": t for n, pair in pairs.items() for part, t in zip("ab", pair, strict=True)}
    for name, values in (tensors | (more or {})).items():
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
