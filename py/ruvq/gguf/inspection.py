"""What `ruvq inspect` shows of a file: architecture, tensors with their bits, metadata, recipe."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from .. import json_text
from .check import HEADER_KEY, TENSORS_KEY
from .reader import GGUFFile, TensorInfo


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "format": tensor.format,
        "shape": list(tensor.shape),
        "bpw": tensor.type.bits_per_weight,
        "bpw_actual": tensor.bits_per_weight,
        "bytes": tensor.nbytes,
        "offset": tensor.offset,
        "runnable": tensor.runnable,
    }


def _recipe(file: GGUFFile) -> Any:
    text = file.metadata.get("ruvq.recipe")
    if not isinstance(text, str):
        return None
    try:
        return json_text.loads(text.encode())
    except ValueError:
        return text  # somebody else's: show what is there


def inspect_file(file: GGUFFile) -> dict[str, Any]:
    """The same for a file that is already open.

    `bits_per_weight` is nominal: of full blocks, over the weight matrices (over everything in a file without
    any). `bits_per_weight_actual` is what all tensors take over all weights. Both are 0 without tensors.
    """
    weights = sum(t.weights for t in file.tensors)
    matrices = [t for t in file.tensors if len(t.shape) > 1] or file.tensors
    nominal = sum(t.type.bits_per_weight * t.weights for t in matrices)
    stored = sum(t.nbytes for t in file.tensors)
    return {
        "architecture": file.architecture,
        "name": file.metadata.get("general.name", ""),
        "bytes": file.nbytes,
        "gguf_version": file.version,
        "alignment": file.alignment,
        "layout_version": file.layout_version,
        "parameters": weights,
        "tensor_bytes": stored,
        "bits_per_weight": nominal / sum(t.weights for t in matrices) if weights else 0.0,
        "bits_per_weight_actual": 8 * stored / weights if weights else 0.0,
        "digests": {"header": HEADER_KEY in file.metadata, "tensors": TENSORS_KEY in file.metadata},
        "recipe": _recipe(file),
        "metadata": {key: file.metadata.describe(key) for key in file.metadata},
        "tensors": [_tensor(t) for t in file.tensors],
    }


def inspect(source: str | os.PathLike[str] | bytes | BinaryIO) -> dict[str, Any]:
    """Everything about a file but its weights, ready for JSON. Raises what GGUFFile.open raises."""
    with GGUFFile.open(source) as file:
        return inspect_file(file)
