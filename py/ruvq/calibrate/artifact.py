"""What calibration writes: an importance matrix as llama.cpp's tools read it, with every input's whole matrix
of second moments beside it, and what errors cost where that is asked for (`ruvq.quantize.calibration` reads
it)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..gguf.types import TensorSpec
from ..quantize.calibration import MOMENT, PROBES, SENSITIVITY, input_of
from .collect import Collector, inputs_of
from .sensitivity import LayerSums, Prober

if TYPE_CHECKING:
    import numpy as np

    from ..gguf.writer import GGUFWriter
    from ..runtime.engine import ModelInfo


def layer_specs(
    info: ModelInfo, widths: Mapping[str, int], layer: int, diagonal: bool, sensitivity: bool
) -> list[tuple[TensorSpec, str]]:
    """The artifact's tensors of one layer, each with the input it is about. `widths`: of every matrix."""
    out = []
    looked_up = "token_embd.weight" if "output.weight" in widths else None  # not multiplied with anything
    for name, width in inputs_of(info, layer):
        for tensor in (t for t in widths if input_of(t) == name):
            if tensor != looked_up:
                out.append((TensorSpec(f"{tensor}.in_sum2", "f32", (widths[tensor],)), name))
                out.append((TensorSpec(f"{tensor}.counts", "f32", (1,)), name))
            if sensitivity:
                out.append((TensorSpec(tensor + SENSITIVITY, "f32", (len(PROBES), 2)), name))
        if not diagonal:
            out.append((TensorSpec(MOMENT + name, "f32", (width * (width + 1) // 2,)), name))
    return out


def write_layers(
    writer: GGUFWriter,
    collector: Collector,
    specs: list[list[tuple[TensorSpec, str]]],
    prober: Prober | None,
) -> Iterator[int]:
    """Collects and writes layer after layer; yields each when it is written. `specs`: of every layer."""
    if any(spec.name not in writer.kept for layer in specs[: collector.layer] for spec, _ in layer):
        collector.restart()
    if prober is not None:
        prober.done = sum(name.endswith(SENSITIVITY) for name in writer.kept)
    for layer in range(collector.layer, len(specs)):
        sums = collector.collect()
        for spec, name in specs[layer]:
            if spec.name not in writer.kept:
                writer.write(spec.name, _data(spec.name, name, sums, collector, prober))
        yield layer
        collector.finish()


def upper_half(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """A symmetric matrix as the artifact packs it: each row from the diagonal on."""
    return (matrix[i, i:] for i in range(len(matrix)))


def _data(
    tensor: str, input: str, sums: Mapping[str, np.ndarray], collector: Collector, prober: Prober | None
) -> Any:
    import numpy as np

    if tensor.endswith(".counts"):
        return np.array([collector.tokens], "<f4")
    if tensor.startswith(MOMENT):
        return upper_half(sums[input])
    if tensor.endswith(SENSITIVITY):
        assert prober is not None
        return prober.measure(tensor.removesuffix(SENSITIVITY), LayerSums(sums, collector.tokens))
    return collector.diagonal(sums[input])
