"""What calibration writes: an importance matrix as llama.cpp's tools read it, with every input's whole matrix
of second moments beside it (`ruvq.quantize.calibration` reads it)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..gguf.types import TensorSpec
from ..quantize.calibration import MOMENT, input_of
from .collect import Collector, inputs_of

if TYPE_CHECKING:
    import numpy as np

    from ..gguf.writer import GGUFWriter
    from ..runtime.engine import ModelInfo


def layer_specs(
    info: ModelInfo, widths: Mapping[str, int], layer: int, diagonal: bool
) -> list[tuple[TensorSpec, str]]:
    """The artifact's tensors of one layer, each with the input it is about. `widths`: of every matrix."""
    out = []
    for name, width in inputs_of(info, layer):
        for tensor in (t for t in widths if input_of(t) == name):
            out.append((TensorSpec(f"{tensor}.in_sum2", "f32", (widths[tensor],)), name))
            out.append((TensorSpec(f"{tensor}.counts", "f32", (1,)), name))
        if not diagonal:
            out.append((TensorSpec(MOMENT + name, "f32", (width * (width + 1) // 2,)), name))
    return out


def write_layers(
    writer: GGUFWriter, collector: Collector, specs: list[list[tuple[TensorSpec, str]]]
) -> Iterator[int]:
    """Collects and writes layer after layer; yields each when it is written. `specs`: of every layer."""
    if any(spec.name not in writer.kept for layer in specs[: collector.layer] for spec, _ in layer):
        collector.restart()
    for layer in range(collector.layer, len(specs)):
        sums = collector.collect()
        for spec, name in specs[layer]:
            if spec.name not in writer.kept:
                writer.write(spec.name, _data(spec.name, sums[name], collector))
        yield layer
        collector.finish()


def _data(tensor: str, sums: np.ndarray, collector: Collector) -> Any:
    import numpy as np

    if tensor.endswith(".counts"):
        return np.array([collector.tokens], "<f4")
    if tensor.startswith(MOMENT):
        return (sums[i, i:] for i in range(len(sums)))
    return collector.diagonal(sums)
