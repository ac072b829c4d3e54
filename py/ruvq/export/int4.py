"""MatMulNBits' 4 bits: blocks of 32 columns with one float step, w = (code - 8) * step, codes of 0 to 15.

onnxruntime, ContribOperators.md, com.microsoft.MatMulNBits: the lower nibble of a byte is the first of two
columns; a row's last block is filled up with zeros, code 8. The step may be negative, which turns the
lopsided range of -8 to 7 round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 32
_LEVELS = (8.8, 8.4, 8.0, 7.6, 7.2, 6.8, 6.4)  # what the largest weight of a block becomes, in steps


def blocks(width: int) -> int:
    """Blocks of a row."""
    return -(-width // BLOCK)


def encode(weights: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(rows, width) floats → codes (rows, blocks, 16) and steps (rows, blocks).

    Of a few steps each block takes that of the least squared error, after one fit to its codes."""
    rows, width = weights.shape
    padded = np.zeros((rows, blocks(width) * BLOCK), np.float32)
    padded[:, :width] = weights
    x = padded.reshape(rows, -1, BLOCK)
    at = np.abs(x).argmax(axis=2, keepdims=True)
    largest = np.take_along_axis(x, at, 2)
    step = np.zeros_like(largest)
    codes = np.zeros_like(x)
    best = np.full_like(largest, np.inf)
    for level in (*_LEVELS, *(-n for n in _LEVELS)):
        tried = _fitted(x, -largest / np.float32(level))
        q = _nearest(x, tried)
        error = np.sum((x - q * tried) ** 2, axis=2, keepdims=True)
        better = error < best
        step, best = np.where(better, tried, step), np.where(better, error, best)
        codes = np.where(better, q, codes)
    unsigned = (codes + 8).astype(np.uint8)
    packed = unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)
    return packed.astype(np.uint8), step[..., 0]


def decode(codes: NDArray[np.uint8], steps: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The weights (rows, width) that an engine computes with."""
    pairs = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], BLOCK)
    values = (pairs.astype(np.float32) - 8) * steps[..., None]
    return values.reshape(len(codes), -1)[:, :width]


def _nearest(x: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step != 0)
    return np.clip(np.rint(x * inverse), -8, 7)


def _fitted(x: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """The step of least squared error for the codes that belong to `step`."""
    q = _nearest(x, step)
    squares = np.sum(q * q, axis=2, keepdims=True)
    return np.divide(np.sum(x * q, axis=2, keepdims=True), squares, out=step.copy(), where=squares > 0)
