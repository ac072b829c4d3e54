"""What training starts from, where it isn't the plain search: codes and scales of a quantized file.

A file of `ruvq quantize --calibration --sequential` was rounded for what its matrices are multiplied with.
Its weights, codes and scales are taken over, so that the first evaluation is the file's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..calibrate import calibrate
from ..errors import UsageError
from ..formats.transform import stored_transform
from ..gguf import GGUFFile
from ..quantize.pipeline import quantize_model
from ..sources import LlamaParameters, open_source
from ..sources.gguf_source import FLOATS
from .config import MIXED, REFERENCES, TRELLIS, QatConfig
from .layers import QuantEmbedding, QuantLinear, quantized_layers
from .models import gguf_rows, load_model
from .packing import unpack
from .quantizer import WeightQuantizer

FLOAT, PTQ = "float", "ptq"  # what `Work.start` may be beside a file
CALIBRATED = 16384  # tokens that "ptq" calibrates on


def make_start(
    model: str | os.PathLike[str],
    texts: Sequence[str],
    folder: Path,
    config: QatConfig,
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Path:
    """The best quantization without training, made in `folder`: `ruvq quantize --sequential`, and where that
    gains something `--thorough`. `calibration`: an artifact; without one `texts` are calibrated on."""
    if config.format in REFERENCES:
        raise _unusable("one of ruvq's own formats", config.format, "--start float")
    if calibration is None:
        if not texts:
            raise _unusable("--text, or --calibration", "neither", "give a text to calibrate on")
        calibration = folder / "calibration.gguf"
        calibrate(
            model, texts, calibration, tokenizer=tokenizer, max_tokens=CALIBRATED, seed=config.seed,
            allow_outliers=True, threads=threads,
        )  # fmt: skip
    thorough = config.format in TRELLIS and config.format not in MIXED and config.k is None
    rest = "same" if config.embeddings else "f16"
    path, method = folder / "start.gguf", config.turn.method if config.turn else "none"
    quantize_model(
        model, path, config.format, incoherence=method, seed=config.seed,
        tokenizer=tokenizer, embeddings=rest, output_tensor=rest, k=config.k, calibration=calibration,
        sequential=True, thorough=thorough, threads=threads,
        progress=False, allow_requantize=True,
    )  # fmt: skip
    return path


def start_model(path: str | os.PathLike[str], expected: LlamaParameters) -> nn.Module:
    """The quantized file decoded, as a transformers model. UsageError for another model's."""
    with open_source(path, allow_requantize=True) as source:  # type: ignore[arg-type]
        if source.parameters.shapes() != expected.shapes():
            raise _unusable("a file of the model that is trained", "another model's", "quantize this model")
        return load_model(source)


@torch.no_grad()
def take_codes(
    model: nn.Module, path: str | os.PathLike[str], config: QatConfig, parameters: LlamaParameters
) -> int:
    """Gives a prepared model, made of `start_model`, the file's own codes and scales; how many matrices had
    some. Matrices that the file holds in floats are left as `prepare_qat` quantized them. UsageError when the
    file's format, transform or seed are others."""
    taken: set[int] = set()
    with GGUFFile.open(path) as file:
        turned = set(file.metadata.get("ruvq.hadamard.tensors", []))
        transform = stored_transform(file.metadata) if turned else None
        for name, layer in quantized_layers(model):
            target, order = gguf_rows(f"{name}.weight", parameters)
            tied = target == "output.weight" and parameters.tied
            quantizer = layer.quantizer
            if tied or not isinstance(quantizer, WeightQuantizer) or id(quantizer) in taken:
                continue
            stored = file.tensor(target)
            if stored.format in FLOATS:
                continue
            if stored.format != config.format:
                raise _unusable(
                    f"{target} in {config.format}", stored.format, f"train in --format {stored.format}"
                )
            here = transform if target in turned else None
            if here != quantizer.turn:
                raise _unusable(
                    f"{target} turned by {quantizer.turn}", f"{here}", "give its --seed and --incoherence"
                )
            _take(layer, bytes(file.tensor_bytes(target)), order)
            taken.add(id(quantizer))
    return len(taken)


def _take(layer: QuantLinear | QuantEmbedding, data: bytes, order: list[int] | None) -> None:
    quantizer: Any = layer.quantizer
    rows, width = layer.weight.shape
    codes, headers = (torch.from_numpy(a.copy()) for a in unpack(data, rows, width, quantizer.codec.bits))
    if order is not None:
        back = torch.tensor(order)
        codes, headers = (torch.empty_like(a).index_copy_(0, back, a) for a in (codes, headers))
    quantizer.take(codes, headers, layer.weight)


def _unusable(expected: str, actual: str, hint: str) -> UsageError:
    return UsageError(
        "training can't start from this", subject="--start", expected=expected, actual=actual, hint=hint
    )
