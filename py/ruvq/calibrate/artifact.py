"""Writes what calibration found: an importance matrix as llama.cpp's tools read it, with every input's whole
matrix of second moments beside it (`ruvq.quantize.calibration` reads it)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..gguf.recipe import Recipe
from ..gguf.types import TensorSpec
from ..gguf.writer import write_gguf
from ..quantize.calibration import MOMENT, input_of

if TYPE_CHECKING:
    import numpy as np

    from .collect import Moments


def write_artifact(
    path: str | os.PathLike[str],
    architecture: str,
    moments: Moments,
    tensors: Mapping[str, int],
    metadata: Mapping[str, Any],
    recipe: Recipe,
) -> None:
    """`tensors`: every matrix of the model and its width. Raises as GGUFWriter does; nothing is left then."""
    import numpy as np

    entries: list[tuple[TensorSpec, Any]] = []
    for tensor, width in tensors.items():
        name = input_of(tensor)
        if name is None:
            continue
        sums = moments.diagonal(name)
        entries.append((TensorSpec(f"{tensor}.in_sum2", "f32", (width,)), _constant(sums)))
        count = np.array([moments.tokens], "<f4")
        entries.append((TensorSpec(f"{tensor}.counts", "f32", (1,)), _constant(count)))
    for name, sums in moments.sums.items():
        if not moments.is_diagonal:
            n = len(sums)
            spec = TensorSpec(MOMENT + name, "f32", (n * (n + 1) // 2,))
            entries.append((spec, lambda sums=sums: (sums[i, i:] for i in range(len(sums)))))
    write_gguf(path, architecture, {"general.type": "imatrix", **metadata}, entries, recipe=recipe)


def _constant(values: np.ndarray) -> Any:
    return lambda: values
