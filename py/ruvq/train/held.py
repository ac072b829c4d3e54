"""LoRA-QAT whose result is one file: what its frozen base is held in.

A matrix without an adapter never changes, so it is held in its format and decoded for every product. Only
what an adapter is added to has to stay in floats, in the 16 bits that it came in where it came in 16
(`load_model` with `halves`). Nothing that is computed differs from a base in float32 by a bit, but for a
matrix of more than PART weights, whose gradients are summed part by part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from .config import REFERENCES, QatConfig
from .layers import is_output, prepare_qat, quantized_layers, rounded_input, tied_weights
from .lora import Packed, PackedEmbedding, PackedLinear, add_adapters
from .packed_rows import PackedMatrix, decoded, parts
from .quantizer import WeightQuantizer

PART = 1 << 23  # weights that are decoded at a time: more than a matrix inside a layer of a small model has


class _HeldProduct(Function):
    """x W^T + bias with W as the file decodes to; decoded in the forward and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: PackedMatrix, bias: Tensor | None) -> Tensor:
        ctx.packed, ctx.dtype = packed, x.dtype
        outputs = [
            F.linear(x, decoded(packed, rows).to(x.dtype), None if bias is None else bias[rows])
            for rows in parts(packed.shape[0], packed.shape[1], PART)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, total = grads[0].reshape(-1, grads[0].shape[-1]), None
        for rows in parts(ctx.packed.shape[0], ctx.packed.shape[1], PART):
            part = flat[:, rows] @ decoded(ctx.packed, rows).to(flat.dtype)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.reshape(*grads[0].shape[:-1], -1).to(ctx.dtype), None, None


class HeldLinear(PackedLinear):
    """A frozen linear layer, its weights held in their format."""

    def __init__(self, packed: Packed, bias: Tensor | None) -> None:
        super().__init__(packed, bias, None)
        self.config = packed.config

    def forward(self, x: Tensor) -> Tensor:
        if self.config.activation_bits:
            x = rounded_input(x, self.config)
        return _HeldProduct.apply(x, self.packed, self.bias)


def prepare_lora(model: nn.Module, config: QatConfig, *, allow_float_layers: bool = False) -> nn.Module:
    """`add_adapters(prepare_qat(model))`, one matrix after the other, so that the frozen ones are held in
    their format from the start. In place; reference grids (`uniform`, `stretched`) are held in floats."""
    if config.format not in REFERENCES:
        _hold_all(model, config)
    return add_adapters(prepare_qat(model, config, allow_float_layers=allow_float_layers), config)


def hold_frozen(model: nn.Module) -> nn.Module:
    """Holds the matrices without an adapter of a model from `add_adapters` in their format, in place."""
    held: dict[int, Packed] = {}
    for name, layer in list(quantized_layers(model)):
        quantizer = layer.quantizer
        if getattr(layer, "adapter", None) is None and isinstance(quantizer, WeightQuantizer):
            if id(quantizer) not in held:
                held[id(quantizer)] = Packed([(quantizer, layer.weight)])
            _put(model, name, held[id(quantizer)])
    return model


def _hold_all(model: nn.Module, config: QatConfig) -> None:
    """Every matrix that will be quantized and gets no adapter."""
    tied, held = tied_weights(model), {}
    names = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    for name in names:  # not the modules: each is given up when it is replaced
        module: Any = model.get_submodule(name)
        outer = isinstance(module, nn.Embedding) or is_output(name, module, tied)
        adapted = isinstance(module, nn.Linear) and name.rpartition(".")[2] in config.target_modules
        if adapted or (outer and not config.embeddings):
            continue
        key = id(module.weight)
        if key not in held:
            held[key] = Packed(_pieces(module.weight.detach(), config))
        _put(model, name, held[key])


def _pieces(weights: Tensor, config: QatConfig) -> Iterator[tuple[WeightQuantizer, Tensor]]:
    for rows in parts(len(weights), weights.shape[1], PART):
        piece = weights[rows].float()
        yield WeightQuantizer(piece, config), piece


def _put(model: nn.Module, name: str, packed: Packed) -> None:
    old, (parent, _, last) = model.get_submodule(name), name.rpartition(".")
    new = HeldLinear(packed, old.bias) if isinstance(old, nn.Linear) else PackedEmbedding(packed)
    setattr(model.get_submodule(parent), last, new.train(old.training))
