"""Grids that others use, as points of reference for build/quant_table.py; no file format goes with them.

`normal_float`: NF3 and NF4 of QLoRA (Dettmers et al., 2023), blocks of 64 with the largest weight as scale.
`e8`: two bits a weight on the E8 lattice, as the codebook of QuIP# (Tseng et al., 2024) is built: 2^16 points
for eight weights. `flattened`: one of ggml's formats on rows of 256 that ignore where the matrix's rows end.
All take float32 (rows, width) and give what the weights would decode to.
"""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist

import numpy as np

from ruvq.quantize import dequantize, quantize

NF_BLOCK, E8_BLOCK, OCTET = 64, 256, 8
E8_POINTS = 256
E8_SHIFT = 0.25


def _blocks(w: np.ndarray, size: int) -> np.ndarray:
    """Rows cut into blocks, short ones filled up with zeros: (rows, blocks, size)."""
    width = -(-w.shape[1] // size) * size
    out = np.zeros((w.shape[0], width), np.float64)
    out[:, : w.shape[1]] = w
    return out.reshape(w.shape[0], -1, size)


def normal_levels(bits: int) -> np.ndarray:
    """Quantiles of the normal distribution, 0 among them, scaled to [-1, 1]."""
    half, normal = 1 << (bits - 1), NormalDist()
    end = 1 - 0.5 * (1 / (2 * (2 * half)) + 1 / (2 * (2 * half - 1)))
    up = [normal.inv_cdf(p) for p in np.linspace(end, 0.5, half + 1)[:-1]]
    down = [-normal.inv_cdf(p) for p in np.linspace(end, 0.5, half)[:-1]]
    levels = np.array(sorted([*up, 0.0, *down]))
    return levels / np.abs(levels).max()


def normal_float(w: np.ndarray, bits: int) -> np.ndarray:
    """bits + 16/64 a weight: the scale is the block's largest weight, in f16."""
    blocks, levels = _blocks(w, NF_BLOCK), normal_levels(bits)
    scale = np.abs(blocks).max(2, keepdims=True).astype(np.float16).astype(np.float64)
    t = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    nearest = levels[np.abs(t[..., None] - levels).argmin(-1)]
    return (nearest * scale).reshape(len(w), -1)[:, : w.shape[1]].astype(np.float32)


def e8_patterns() -> np.ndarray:
    """(256, 8) magnitudes of the shortest vectors of D8 + 1/2: squared lengths up to 10, and 29 of 12."""
    out = []
    for threes in range(6):
        for at in combinations(range(OCTET), threes):
            v = np.full(OCTET, 0.5)
            v[list(at)] = 1.5
            out.append(v)
            if threes < 2:  # one coordinate of 5/2 beside them
                for five in set(range(OCTET)) - set(at):
                    longer = v.copy()
                    longer[five] = 2.5
                    out.append(longer)
    out.sort(key=lambda v: (float(v @ v), *v))
    return np.array(out[:E8_POINTS])


def _nearest_e8(x: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """The nearest points (n, 8): a pattern with signs that make its sum even, all of it moved by +-1/4."""
    best, least = np.zeros_like(x), np.full(len(x), np.inf)
    even = (patterns.sum(1) % 2 == 0)[None, :]
    for shift in (-E8_SHIFT, E8_SHIFT):
        y = x - shift
        products = np.abs(y)[:, None, :] * patterns  # (n, 256, 8)
        odd = (np.signbit(y).sum(1) % 2 == 1)[:, None]
        wrong = odd == even  # each turned sign changes the parity of the sum
        cost = (patterns**2).sum(1) - 2 * products.sum(2) + np.where(wrong, 4 * products.min(2), 0.0)
        j = cost.argmin(1)
        at = np.arange(len(x))
        signs = np.where(np.signbit(y), -1.0, 1.0)
        turned = products[at, j].argmin(1)
        signs[at, turned] *= np.where(wrong[at, j], -1.0, 1.0)
        point = patterns[j] * signs + shift
        error = ((x - point) ** 2).sum(1)
        better = error < least
        best[better], least[better] = point[better], error[better]
    return best


def e8(w: np.ndarray) -> np.ndarray:
    """2 + 16/256 a weight: a block of 256 has one f16 scale, the best of a ladder."""
    blocks, patterns = _blocks(w, E8_BLOCK), e8_patterns()
    out = np.zeros_like(blocks)
    for row, target in zip(blocks.reshape(-1, E8_BLOCK), out.reshape(-1, E8_BLOCK), strict=True):
        count = max(1, np.flatnonzero(row)[-1] + 1) if row.any() else 1
        rms, least = float(np.sqrt((row[:count] ** 2).mean())), np.inf
        for ratio in np.geomspace(0.8, 1.25, 9):  # of the scale that suits a Gaussian
            scale = float(np.float16(rms * ratio * 0.96))
            if scale == 0:
                continue
            decoded = _nearest_e8(row.reshape(-1, OCTET) / scale, patterns).ravel() * scale
            error = ((row - decoded)[:count] ** 2).sum()
            if error < least:
                least, target[:] = error, decoded
    return out.reshape(len(w), -1)[:, : w.shape[1]].astype(np.float32)


def flattened(w: np.ndarray, name: str) -> np.ndarray:
    """A format of ggml on the matrix as one long row, filled up with zeros."""
    size = -(-w.size // 256) * 256
    rows = np.zeros(size, np.float32)
    rows[: w.size] = w.ravel()
    decoded = np.asarray(dequantize(quantize(rows.reshape(-1, 256), name), as_numpy=True))
    return decoded.ravel()[: w.size].reshape(w.shape)
