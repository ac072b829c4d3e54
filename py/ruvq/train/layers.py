"""`prepare_qat`: a model's linear layers and embeddings, replaced by ones that quantize their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .config import REFERENCES, QatConfig
from .quantizer import Job, WeightQuantizer, refresh, turned
from .reference import ReferenceQuantizer, quantize_activations

Quantizer = WeightQuantizer | ReferenceQuantizer


class QuantLinear(nn.Linear):
    """A linear layer whose weights, with the adapter's where it has one, go through `quantizer`."""

    quantizer: Quantizer
    adapter: nn.Module | None

    @classmethod
    def of(cls, linear: nn.Linear, quantizer: Quantizer) -> QuantLinear:
        """Takes over the parameters of `linear`."""
        new = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        new.weight, new.bias = linear.weight, linear.bias
        new.quantizer, new.adapter = quantizer, None
        return new.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        weights, version = effective(self)
        if self.quantizer.config.activation_bits:
            input = rounded_input(input, self.quantizer.config)
        return F.linear(input, self.quantizer(weights, version).to(input.dtype), self.bias)


class QuantEmbedding(nn.Embedding):
    """An embedding whose rows are those of the quantized matrix."""

    quantizer: Quantizer

    @classmethod
    def of(cls, embedding: nn.Embedding, quantizer: Quantizer) -> QuantEmbedding:
        """Takes over the parameters of `embedding`."""
        new = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, device="meta")
        new.weight = embedding.weight
        new.quantizer = quantizer
        return new.train(embedding.training)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.quantizer(self.weight), self.padding_idx)


def rounded_input(x: Tensor, config: QatConfig) -> Tensor:
    """(..., width) rounded per token and block as the engine does it, after the transform if there is one."""
    bits, turn = config.activation_bits, config.turn
    if config.format in REFERENCES:
        return quantize_activations(x, bits)
    return turned(quantize_activations(turned(x, turn), bits), turn, inverse=True).to(x.dtype)


def effective(layer: QuantLinear | QuantEmbedding) -> tuple[Tensor, tuple[int, ...] | None]:
    """What a layer quantizes, and, where it is computed anew each time, what tells whether it changed."""
    adapter = getattr(layer, "adapter", None)
    if adapter is None:
        return layer.weight, None
    return layer.weight + adapter.delta(), tuple(p._version for p in (layer.weight, *adapter.parameters()))


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantLinear | QuantEmbedding]]:
    """(name, layer) of each quantized layer; tied layers appear each."""
    for name, module in model.named_modules():
        if isinstance(module, (QuantLinear, QuantEmbedding)):
            yield name, module


def _matrices(model: nn.Module) -> list[Job]:
    """Each quantizer once, with what it quantizes."""
    found: dict[int, Job] = {}
    for _, layer in quantized_layers(model):
        if isinstance(layer.quantizer, WeightQuantizer) and id(layer.quantizer) not in found:
            found[id(layer.quantizer)] = (layer.quantizer, *effective(layer))
    return list(found.values())


@torch.no_grad()
def refresh_model(model: nn.Module, *, search: bool | None = None) -> None:
    """Assigns codes for all matrices that changed (with `search` for all), many at once.

    Fused optimisers change weights behind the back of autograd's version counters, so norms are compared too.
    """
    jobs = _matrices(model)
    if not jobs:
        return
    norms = torch.stack([torch.linalg.vector_norm(w.detach(), dtype=torch.float64) for _, w, _ in jobs])
    due = []
    for (quantizer, weights, version), norm in zip(jobs, norms.tolist(), strict=True):
        if not search and quantizer.adopt(weights, version, norm):
            continue
        if search or norm != quantizer.norm or quantizer.changed(weights, version):
            quantizer.norm = norm
            due.append((quantizer, weights, version))
    refresh(due, search=search)


def _before_forward(model: nn.Module, args: Any) -> None:
    refresh_model(model)


def prepare_qat(
    model: nn.Module, config: QatConfig, *, allow_float_layers: bool = False, skip: tuple[str, ...] = ()
) -> nn.Module:
    """Replaces the linear layers of `model` (and its embeddings, if the settings say so), in place.

    The model can then be trained by any trainer: weights stay parameters under their old names, and
    gradients reach them as `config.ste` says. `skip`: names of layers that stay in floats.
    `allow_float_layers`: layers with matrices that can't be quantized stay in floats too; otherwise
    ModelError lists them.
    """
    others = [] if allow_float_layers else _unsupported(model)
    if others:
        raise ModelError(
            f"{len(others)} of the layers can't be quantized",
            subject=", ".join(others[:6]) + (" ..." if len(others) > 6 else ""),
            expected="torch.nn.Linear and torch.nn.Embedding",
            actual=", ".join(sorted({type(model.get_submodule(n)).__name__ for n in others})),
            hint="train them in floats with allow_float_layers=True (--allow-float-layers)",
        )
    tied = tied_weights(model)
    made: dict[int, Quantizer] = {}
    for name, module in list(model.named_modules()):
        embedding = isinstance(module, nn.Embedding)
        if name in skip or not (embedding or isinstance(module, nn.Linear)):
            continue
        if not config.embeddings and (embedding or is_output(name, module, tied)):
            continue
        key = id(module.weight)
        if key not in made:
            made[key] = _quantizer(module.weight, config)
        new = QuantEmbedding.of(module, made[key]) if embedding else QuantLinear.of(module, made[key])
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, new)
    refresh_model(model, search=True)
    model.register_forward_pre_hook(_before_forward)
    return model


def tied_weights(model: nn.Module) -> set[int]:
    """Ids of the embeddings' weights."""
    return {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}


def is_output(name: str, module: nn.Module, tied: set[int]) -> bool:
    """Whether a linear layer gives the logits; `tied`: from `tied_weights` before any layer is replaced."""
    return name.rpartition(".")[2] == "lm_head" or id(module.weight) in tied


def _quantizer(weights: Tensor, config: QatConfig) -> Quantizer:
    if config.format in REFERENCES:
        return ReferenceQuantizer(weights, config)
    return WeightQuantizer(weights, config, assigned=False)


def _unsupported(model: nn.Module) -> list[str]:
    """Names of modules with matrices of their own that are no linear layer and no embedding."""
    return [
        name
        for name, module in model.named_modules()
        if not isinstance(module, (nn.Linear, nn.Embedding))
        and any(p.dim() > 1 for p in module.parameters(recurse=False))
    ]


@torch.no_grad()
def quantized_weights(layer: QuantLinear | QuantEmbedding) -> Tensor:
    """What the exported file will hold for a layer: (rows, width) float32, the transform undone."""
    training = layer.training
    layer.eval()
    value = layer.quantizer(*effective(layer)).detach().clone()
    layer.train(training)
    return value
