"""LoRA-QAT: adapters on a model that stays as it is.

Two ways. Merged (`add_adapters`): the frozen float weights plus the adapter go through the quantizer, so what
is trained is what the exported file holds (held.py packs the matrices without an adapter). Beside
(`pack_base` after it): the base is quantized once and held packed, about 2 or 3 bits a weight, and the
adapter is added to its products.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from ..adapters.lora import Lora, Pair
from ..adapters.peft_folder import read_folder, write_folder
from ..errors import FileFormatError, UsageError
from .codecs import on_host
from .config import QatConfig
from .layers import QuantLinear, quantized_layers
from .packed_rows import PackedMatrix, embedding, product, product_back
from .quantizer import WeightQuantizer


class Adapter(nn.Module):
    """B A alpha / rank: `lora_A` (rank, in), `lora_B` (out, rank), as PEFT names them."""

    def __init__(self, outputs: int, inputs: int, config: QatConfig, device: torch.device) -> None:
        super().__init__()
        rank = config.lora_rank
        if rank > min(outputs, inputs):  # INV-6
            raise UsageError(
                "the adapter's rank is larger than the matrix", subject="lora_rank",
                expected=f"at most {min(outputs, inputs)}", actual=str(rank), hint="lower --lora-rank",
            )  # fmt: skip
        self.scale = config.lora_alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, inputs, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @torch.no_grad()
    def start_from(self, error: Tensor) -> None:
        """The best approximation of `error` (out, in) that the rank allows (LoftQ, arXiv:2310.08659)."""
        rank = self.lora_A.shape[0]
        u, s, v = torch.linalg.svd(error.float(), full_matrices=False)
        root = (s[:rank] / self.scale).sqrt()
        self.lora_B.copy_(u[:, :rank] * root)
        self.lora_A.copy_(root[:, None] * v[:rank])

    def delta(self) -> Tensor:
        """(out, in): what it adds to the weights."""
        return self.lora_B @ self.lora_A * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype)) * self.scale


class Packed(PackedMatrix):
    """A frozen matrix in its format: the file's bytes on a CPU, a code a byte elsewhere. `squares` and
    `squared_error`: of the floats, and of what they lost."""

    def __init__(self, pieces: Iterable[tuple[WeightQuantizer, Tensor]]) -> None:
        """`pieces`: some of the rows, as their quantizer has them and in floats; each is given up in turn."""
        super().__init__()
        self.squares, self.squared_error, rows = 0.0, 0.0, 0
        data, codes, headers = [], [], []
        for quantizer, floats in pieces:
            wanted, value = floats.detach().float(), quantizer(floats).detach().float()
            self.squares += float(wanted.square().sum())
            self.squared_error += float((wanted - value).square().sum())
            rows += len(floats)
            self.codec, self.config, self.turn = quantizer.codec, quantizer.config, quantizer.turn
            if on_host(quantizer.codes):
                data.append(torch.frombuffer(bytearray(quantizer.data()), dtype=torch.uint8))
            else:
                codes.append(quantizer.codes.clone())
                headers.append(quantizer.headers.clone())
        self.register_buffer("data", torch.cat(data) if data else None)
        self.register_buffer("codes", torch.cat(codes) if codes else None)
        self.register_buffer("headers", torch.cat(headers) if headers else None)
        self.shape = (rows, self.codec.width)

    def stored(self, order: list[int] | None) -> bytes:
        """The file's bytes, rows in another order."""
        rows = slice(None) if order is None else order
        if self.data is not None:
            return self.data.reshape(self.shape[0], -1)[rows].numpy().tobytes()
        return self.codec.pack(self.codes[rows].cpu(), self.headers[rows].cpu())


class _PackedProduct(Function):
    """x W^T with a packed W: decoded in the forward and again in the backward pass, never kept whole."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: PackedMatrix) -> Tensor:
        ctx.packed = packed
        return product(x, packed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return product_back(grads[0], ctx.packed), None


class PackedLinear(nn.Module):
    """A linear layer on a packed base, perhaps with an adapter beside it."""

    def __init__(self, packed: PackedMatrix, bias: Tensor | None, adapter: Adapter | None) -> None:
        super().__init__()
        self.packed, self.adapter = packed, adapter
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = _PackedProduct.apply(x, self.packed)
        if self.bias is not None:
            y = y + self.bias
        return y if self.adapter is None else y + self.adapter(x)


class PackedEmbedding(nn.Module):
    """Rows of a packed matrix."""

    def __init__(self, packed: PackedMatrix) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, tokens: Tensor) -> Tensor:
        return embedding(tokens, self.packed)


def packed_layers(model: nn.Module) -> Iterator[tuple[str, Packed]]:
    """(name of the layer, its matrix) of those that `pack_base` packed; tied layers appear each."""
    for name, module in model.named_modules():
        if isinstance(module, (PackedLinear, PackedEmbedding)) and isinstance(module.packed, Packed):
            yield name, module.packed


def adapted(model: nn.Module) -> Iterator[tuple[str, Adapter]]:
    """(name of the layer, its adapter)."""
    for name, module in model.named_modules():
        if isinstance(module, Adapter):
            yield name.removesuffix(".adapter"), module


def add_adapters(model: nn.Module, config: QatConfig) -> nn.Module:
    """Freezes a prepared model and gives the layers named in `config.target_modules` adapters that go through
    the quantizer with the weights. UsageError when no layer has such a name."""
    model.requires_grad_(False)
    found = 0
    for name, layer in quantized_layers(model):
        if name.rpartition(".")[2] not in config.target_modules or not isinstance(layer, QuantLinear):
            continue
        layer.adapter = Adapter(layer.out_features, layer.in_features, config, layer.weight.device)
        if config.lora_init == "error":
            layer.adapter.start_from(layer.weight.detach().float() - layer.quantizer(layer.weight).detach())
        found += 1
    if not found:
        raise UsageError(
            "no layer has a name among the targets", subject="target_modules",
            expected=", ".join(sorted({n.rpartition(".")[2] for n, _ in quantized_layers(model)})),
            actual=", ".join(config.target_modules),
        )  # fmt: skip
    return model


def pack_base(model: nn.Module) -> nn.Module:
    """Replaces the quantized layers of a model with adapters by packed ones, in place: from then on the
    adapters stand beside the base, and the float weights are given up."""
    packed: dict[int, Packed] = {}
    for name, layer in list(quantized_layers(model)):
        if not isinstance(layer.quantizer, WeightQuantizer):
            raise UsageError(
                "a reference grid can't be packed", subject=name, expected="one of ruvq's formats"
            )
        key = id(layer.quantizer)
        if key not in packed:
            packed[key] = Packed([(layer.quantizer, layer.weight)])
        adapter = getattr(layer, "adapter", None)
        new: nn.Module = PackedEmbedding(packed[key])
        if isinstance(layer, QuantLinear):
            new = PackedLinear(packed[key], layer.bias, adapter)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, new)
    return model


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Adds adapters to the weights they belong to and removes them; the codes are assigned anew."""
    for _, layer in quantized_layers(model):
        adapter = getattr(layer, "adapter", None)
        if adapter is not None:
            layer.weight.data = layer.weight.float()
            layer.weight.add_(adapter.delta())
            layer.adapter = None
    return model


# ---- as files ----


@torch.no_grad()
def lora_of(model: nn.Module, base: str = "") -> Lora:
    """The adapters of a model, under Hugging Face's names. `base`: what they were made for."""
    pairs = {}
    for name, adapter in adapted(model):
        a, b = (p.detach().float().cpu().numpy() for p in (adapter.lora_A, adapter.lora_B))
        pairs[name] = Pair(a, b, adapter.scale)
    return Lora(pairs, base=base)


def save_adapters(model: nn.Module, folder: str | os.PathLike[str], base: str = "") -> None:
    """adapter_config.json and adapter_model.safetensors, as `peft.PeftModel.from_pretrained` reads them."""
    write_folder(folder, lora_of(model, base))


@torch.no_grad()
def load_adapters(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Reads adapters in PEFT's format into a model that has adapters. FileFormatError when they don't fit."""
    pairs = read_folder(folder).pairs
    for name, adapter in adapted(model):
        pair = pairs.get(name)
        shapes = tuple(adapter.lora_A.shape), tuple(adapter.lora_B.shape)
        if pair is None or (pair.a.shape, pair.b.shape) != shapes:
            raise FileFormatError(
                "the adapters belong to another model", subject=name, expected=str(shapes),
                actual="nothing" if pair is None else str((pair.a.shape, pair.b.shape)),
            )  # fmt: skip
        adapter.lora_A.copy_(torch.from_numpy(pair.a))
        adapter.lora_B.copy_(torch.from_numpy(pair.b * np.float32(pair.scale / adapter.scale)))
