"""A small llama with its widths padded to multiples of 256, so that ggml's blocks of 256 can hold it: zero
columns and rows, heads that add nothing, and the RMS norms' gains and epsilon corrected for the wider mean.
It computes what the model itself does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ruvq.gguf import GGUFFile
from ruvq.gguf.types import TensorSpec
from ruvq.gguf.values import Typed
from ruvq.gguf.writer import write_gguf

MULTIPLE = 256
OWN_KEYS = ("general.architecture", "general.alignment", "ruvq.")  # the writer's


def _wide(n: int) -> int:
    return -(-n // MULTIPLE) * MULTIPLE


def write_padded(source: Path, target: Path) -> None:
    """`source`: a GGUF file in F32 of architecture llama."""
    with GGUFFile.open(source) as file:
        keys = {k: file.metadata.typed(k) for k in file.metadata if not k.startswith(OWN_KEYS)}
        width = int(file.metadata["llama.embedding_length"])
        factor = _wide(width) / width
        for key in ("head_count", "head_count_kv"):
            old = keys[f"llama.attention.{key}"]
            keys[f"llama.attention.{key}"] = Typed(round(old.value * factor), old.type)
        for key in ("embedding_length", "feed_forward_length"):
            keys[f"llama.{key}"] = Typed(_wide(keys[f"llama.{key}"].value), keys[f"llama.{key}"].type)
        epsilon = keys["llama.attention.layer_norm_rms_epsilon"]
        keys["llama.attention.layer_norm_rms_epsilon"] = Typed(epsilon.value / factor, epsilon.type)
        entries = []
        for tensor in file.tensors:
            w = np.frombuffer(file.tensor_bytes(tensor.name), "<f4").reshape(tensor.shape)
            entries.append(_entry(tensor.name, w, factor))
        write_gguf(target, "llama", keys, entries)


def _entry(name: str, w: np.ndarray, factor: float) -> tuple:
    """A tensor and its padded values."""
    if w.ndim == 1:  # the mean of squares is smaller by `factor`
        value = np.zeros(_wide(len(w)), np.float32)
        value[: len(w)] = w / np.sqrt(np.float32(factor))
    else:
        rows, width = w.shape
        if name.split(".")[-2] in ("attn_q", "attn_k", "attn_v"):
            padded = round(rows * factor)  # whole heads
        else:
            padded = _wide(rows) if name.startswith("blk.") else rows  # the vocabulary stays
        value = np.zeros((padded, _wide(width)), np.float32)
        value[:rows, :width] = w
    return TensorSpec(name, "f32", value.shape), lambda: value
