"""The transforms of docs/formats.md in torch, with the bits of the C core; Hadamard's on any device."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from ..formats.transform import Transform
from ..quantize.tensors import turn_rows

LARGEST = 256
_MASK = (1 << 64) - 1


def pieces(width: int) -> list[tuple[int, int]]:
    """(first column, size) of each power of two that a row is cut into."""
    out, start = [], 0
    while start < width:
        size = min(LARGEST, 1 << (width - start).bit_length() - 1)
        out.append((start, size))
        start += size
    return out


@cache
def signs(seed: int, width: int, device: str) -> Tensor:
    """(width,) float32: bit 63 of SplitMix64's outputs."""
    out = []
    for i in range(width):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & _MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        z ^= z >> 31
        out.append(-1.0 if z >> 63 else 1.0)
    return torch.tensor(out, device=device)


def _butterflies(x: Tensor, size: int) -> Tensor:
    """(..., size): distances 1, 2, 4, ... in the core's order."""
    shape, h = x.shape, 1
    while h < size:
        pairs = x.reshape(-1, size // (2 * h), 2, h)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        x = torch.stack((a + b, a - b), 2)
        h *= 2
    return x.reshape(shape)


def _normaliser(size: int) -> float:
    """1 / sqrt(size) as float32."""
    return float(torch.tensor(1 / math.sqrt(size), dtype=torch.float32))


def transform(x: Tensor, turn: Transform, inverse: bool = False) -> Tensor:
    """Each row of x (..., width) float32 transformed, or with `inverse` back; a new tensor.

    On a CPU the core does it, and on other devices "orthogonal", which is for small matrices. Elsewhere
    groups of equal pieces run together, each a chain of elementwise operations, which every device rounds
    alike.
    """
    if x.device.type == "cpu" or turn.method == "orthogonal":
        rows = x.detach().cpu().contiguous().numpy()
        return torch.from_numpy(turn_rows(rows, turn, inverse)).to(x.device)
    return transform_in_torch(x, turn.seed, inverse)


def transform_in_torch(x: Tensor, seed: int, inverse: bool = False) -> Tensor:
    """`transform` without the core."""
    width = x.shape[-1]
    sign = signs(seed, width, str(x.device))
    y = x if inverse else x * sign
    whole = width // LARGEST * LARGEST
    parts = []
    if whole:
        part = _butterflies(y[..., :whole].reshape(-1, LARGEST), LARGEST) * _normaliser(LARGEST)
        parts.append(part.reshape(*x.shape[:-1], whole))
    for start, size in pieces(width):
        if start >= whole:
            parts.append(_butterflies(y[..., start : start + size], size) * _normaliser(size))
    y = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
    return y * sign if inverse else y
