"""What is computed with a packed matrix without ever holding all of it in floats.

A packed matrix holds T W (T the transform of the rows, orthogonal) in its format. x W^T = (T x) (T W)^T, so
the activations are turned instead of the weights, and the weights are decoded a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..formats.transform import Transform
from .codecs import Codec
from .hadamard import transform

CHUNK = 1 << 22  # weights that are decoded at a time


class PackedMatrix(nn.Module):
    """`data`: the file's bytes, or None and `codes` and `headers`; `shape` (rows, width); `turn`: the
    transform, None without one."""

    codec: Codec
    shape: tuple[int, int]
    turn: Transform | None
    data: Tensor | None
    codes: Tensor
    headers: Tensor


class PackedRows(PackedMatrix):
    """A packed matrix from its bytes: (rows * bytes of a row,) uint8."""

    def __init__(self, codec: Codec, shape: tuple[int, int], turn: Transform | None, data: Tensor) -> None:
        super().__init__()
        self.codec, self.shape, self.turn = codec, shape, turn
        self.register_buffer("data", data)


def stored(packed: PackedMatrix, rows: slice | Tensor) -> Tensor:
    """(rows, width) float32: those rows as they are stored, the transform left in."""
    codec = packed.codec
    if packed.data is not None:
        data = packed.data.reshape(packed.shape[0], -1)[rows]
        return codec.decode(data, (data.shape[0], packed.shape[1]))
    headers = packed.headers[rows]
    return codec.levels(packed.codes[rows]) * codec.spread(codec.steps(headers, codec.alpha(headers)))


def parts(rows: int, width: int, most: int) -> Iterator[slice]:
    """The rows of a matrix in parts of about `most` weights."""
    step = max(1, most // width)
    for first in range(0, rows, step):
        yield slice(first, min(rows, first + step))


def decoded(packed: PackedMatrix, rows: slice | Tensor) -> Tensor:
    """(rows, width) float32: those rows, the transform undone."""
    return _turned(stored(packed, rows), packed, inverse=True)


def _chunks(packed: PackedMatrix) -> Iterator[tuple[slice, Tensor]]:
    for part in parts(*packed.shape, CHUNK):
        yield part, stored(packed, part)


def _turned(x: Tensor, packed: PackedMatrix, inverse: bool = False) -> Tensor:
    return x.float() if packed.turn is None else transform(x.float(), packed.turn, inverse)


@torch.no_grad()
def product(x: Tensor, packed: PackedMatrix) -> Tensor:
    """x W^T: (..., width) to (..., rows)."""
    flat = _turned(x.reshape(-1, x.shape[-1]), packed)
    out = flat.new_empty(flat.shape[0], packed.shape[0])
    for part, weights in _chunks(packed):
        torch.mm(flat, weights.T, out=out[:, part])
    return out.reshape(*x.shape[:-1], -1).to(x.dtype)


@torch.no_grad()
def product_back(grad: Tensor, packed: PackedMatrix) -> Tensor:
    """grad W: (..., rows) to (..., width)."""
    flat = grad.reshape(-1, grad.shape[-1]).float()
    out = flat.new_zeros(flat.shape[0], packed.shape[1])
    for part, weights in _chunks(packed):
        out.addmm_(flat[:, part], weights)
    return _turned(out, packed, inverse=True).reshape(*grad.shape[:-1], -1).to(grad.dtype)


@torch.no_grad()
def embedding(tokens: Tensor, packed: PackedMatrix) -> Tensor:
    """(...,) ids to (..., width): only the rows that occur are decoded."""
    ids, place = tokens.unique(return_inverse=True)
    return decoded(packed, ids)[place]


class PackedLoss(Function):
    """Mean cross entropy of hidden (n, width) with a packed output matrix and targets (n,): the logits of a
    large vocabulary are never held, only those of a few thousand tokens at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, packed: PackedMatrix, targets: Tensor) -> Tensor:
        turned = _turned(hidden, packed)
        total = hidden.new_full((len(hidden),), -torch.inf, dtype=torch.float32)
        wanted = torch.zeros_like(total)
        for part, weights in _chunks(packed):
            logits = turned @ weights.T
            total = torch.logaddexp(total, logits.logsumexp(1))
            here = ((targets >= part.start) & (targets < part.stop)).nonzero()[:, 0]
            wanted[here] = logits[here, targets[here] - part.start]
        ctx.packed = packed
        ctx.save_for_backward(turned, targets, total)
        return (total - wanted).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        turned, targets, total = ctx.saved_tensors
        out = torch.zeros_like(turned)
        for part, weights in _chunks(ctx.packed):
            share = (turned @ weights.T).sub_(total[:, None]).exp_()
            here = ((targets >= part.start) & (targets < part.stop)).nonzero()[:, 0]
            share[here, targets[here] - part.start] -= 1
            out.addmm_(share, weights)
        return _turned(out * (grads[0] / len(turned)), ctx.packed, inverse=True), None, None


def packed_loss(model: Any, tokens: Tensor) -> Tensor:
    """Next-token loss of tokens (batch, length) of a transformers model whose output layer is packed (see
    `pack_base`), a scalar with gradients."""
    hidden = model.model(tokens, use_cache=False).last_hidden_state[:, :-1]
    packed = model.lm_head.packed
    return PackedLoss.apply(hidden.flatten(0, 1), packed, tokens[:, 1:].flatten())
