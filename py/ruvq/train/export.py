"""A trained model to the GGUF file that the engine runs: the codes that were trained, byte for byte."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import formats
from ..errors import UsageError
from ..gguf.recipe import Recipe, timestamp_now
from ..gguf.types import TensorSpec
from ..gguf.writer import GGUFWriter
from ..quantize.checks import check_target
from ..quantize.metadata import file_metadata
from ..quantize.plan import Plan, PlannedTensor
from ..quantize.reports import Report, TensorReport, file_report, planned_report
from ..quantize.rows import EncodeOptions
from ..sources import LlamaParameters, Source
from ..sources.llama import llama3_frequency_factors
from .config import QatConfig
from .layers import QuantEmbedding, QuantLinear, effective, quantized_layers, refresh_model
from .lora import Packed, packed_layers
from .models import gguf_rows, parameters_of
from .quantizer import WeightQuantizer

FLOAT_MATRICES = "f16"  # matrices that aren't quantized
REFERENCE = "f32"  # what reference grids decode to


@dataclass(frozen=True)
class _Stored:
    """One tensor of the file."""

    planned: PlannedTensor
    data: bytes
    squares: float
    squared_error: float


def _planned(name: str, shape: tuple[int, ...], format: str, method: str) -> PlannedTensor:
    entry = formats.get(format)
    rows = int(np.prod(shape[:-1])) if len(shape) > 1 else 1
    return PlannedTensor(
        name, shape, "f32", entry.name, method, rows * entry.row_bytes(shape[-1]), entry.nominal_bits
    )


def _ordered(values: Tensor, order: list[int] | None) -> Tensor:
    values = values.detach().cpu()
    return values if order is None else values[torch.tensor(order)]


def _quantized(name: str, order: list[int] | None, layer: QuantLinear | QuantEmbedding) -> _Stored:
    quantizer, shape = layer.quantizer, tuple(layer.weight.shape)
    wanted, version = effective(layer)
    weights, value = wanted.detach().float().cpu(), quantizer(wanted, version).detach().float().cpu()
    squares, error = float(weights.square().sum()), float((weights - value).square().sum())
    if isinstance(quantizer, WeightQuantizer):
        data = quantizer.codec.pack(_ordered(quantizer.codes, order), _ordered(quantizer.headers, order))
        planned = _planned(
            name, shape, quantizer.codec.format, quantizer.turn.method if quantizer.turn else ""
        )
    else:
        data = _ordered(value, order).numpy().astype("<f4").tobytes()
        planned = _planned(name, shape, REFERENCE, "")
    return _Stored(planned, data, squares, error)


def _packed(name: str, order: list[int] | None, packed: Packed) -> _Stored:
    planned = _planned(name, packed.shape, packed.codec.format, packed.turn.method if packed.turn else "")
    return _Stored(planned, packed.stored(order), packed.squares, packed.squared_error)


def _float(name: str, values: Tensor) -> _Stored:
    """Norms and biases as float32, matrices as FLOAT_MATRICES."""
    format = FLOAT_MATRICES if values.dim() > 1 else "f32"
    weights = values.float().numpy()
    stored = weights.astype("<f2" if format == "f16" else "<f4")
    error = float(np.square(weights - stored.astype(np.float32), dtype=np.float64).sum())
    planned = _planned(name, tuple(values.shape), format, "")
    return _Stored(planned, stored.tobytes(), float(np.square(weights, dtype=np.float64).sum()), error)


def _collect(model: nn.Module, parameters: LlamaParameters) -> dict[str, _Stored]:
    """Every tensor of the file by its GGUF name."""
    out: dict[str, _Stored] = {}
    done: set[int] = set()
    for name, layer in quantized_layers(model):
        target, order = gguf_rows(f"{name}.weight", parameters)
        if target == "output.weight" and parameters.tied:
            continue
        out[target] = _quantized(target, order, layer)
        done.add(id(layer.weight))
    for name, packed in packed_layers(model):
        target, order = gguf_rows(f"{name}.weight", parameters)
        if target != "output.weight" or not parameters.tied:
            out[target] = _packed(target, order, packed)
    for name, tensor in model.named_parameters():
        if id(tensor) in done or ".quantizer." in name or ".adapter." in name:
            continue
        target, order = gguf_rows(name, parameters)
        out[target] = _float(target, _ordered(tensor, order))
    if parameters.rope_scaling is not None and parameters.rope_scaling.kind == "llama3":
        factors = torch.from_numpy(np.array(llama3_frequency_factors(parameters), np.float32))
        out["rope_freqs.weight"] = _float("rope_freqs.weight", factors)
    return out


def config_of_model(model: nn.Module) -> QatConfig:
    """The settings a model was prepared with. UsageError for one that wasn't."""
    for _, layer in quantized_layers(model):
        return layer.quantizer.config
    for _, packed in packed_layers(model):
        return packed.config
    raise UsageError(
        "the model has no quantized layer", expected="a model from prepare_qat", actual=type(model).__name__
    )


@torch.no_grad()
def export_gguf(
    model: Any,
    path: str | os.PathLike[str],
    source: Source,
    *,
    overwrite: bool = False,
    command: str | None = None,
    timestamp: str | None = None,
    options: dict[str, Any] | None = None,
    chat_template: str | None = None,
) -> Report:
    """Writes a prepared model as a GGUF file; `source` gives the tokenizer and names.

    The file holds exactly the codes of the forward pass; of a packed base with adapters beside it, the base
    alone. `options`: what else the recipe should tell of the
    training. Raises UsageError, StorageError, ModelError, TokenizerError; nothing is left behind then.
    """
    started, target = time.perf_counter(), Path(path)
    check_target(target, source.path, overwrite)
    config, parameters = config_of_model(model), parameters_of(model)
    training = model.training
    model.eval()
    refresh_model(model)
    stored = _collect(model, parameters)
    model.train(training)
    tensors = [stored[name] for name in parameters.shapes()]
    plan = Plan(_main_format(config), tuple(s.planned for s in tensors))
    metadata = file_metadata(source, plan, config.seed, EncodeOptions(config.k or 0), chat_template)
    recipe = Recipe(
        command=command or "ruvq.train.export_gguf",
        seed=config.seed,
        calibration="",
        samples=0,
        source=source.path.name,
        timestamp=timestamp if timestamp is not None else timestamp_now(),
        versions={"python": sys.version.split()[0], "torch": str(torch.__version__)},
        options={
            "format": plan.format,
            "hadamard": plan.method == "hadamard",
            "method": plan.method,
            **(options or {}),
        },
    )
    specs = [TensorSpec(t.name, t.format, t.shape) for t in plan.tensors]
    with GGUFWriter(target, parameters.architecture, metadata, specs, recipe=recipe) as writer:
        for tensor in tensors:
            writer.write(tensor.planned.name, tensor.data)
    reports = [_tensor_report(tensor) for tensor in tensors]
    return file_report(source, plan, reports, target, config.seed, time.perf_counter() - started)


def _main_format(config: QatConfig) -> str:
    return config.format if config.format not in ("uniform", "stretched") else REFERENCE


def _tensor_report(tensor: _Stored) -> TensorReport:
    return planned_report(tensor.planned, squares=tensor.squares, squared_error=tensor.squared_error)
