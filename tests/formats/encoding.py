"""Inputs and small helpers for the tests of the encoders."""

from __future__ import annotations

import numpy as np

import ruvq
from ruvq import formats

OWN = ["pi-q3", "pi-q2", "pi-t3", "pi-t2", "ternary", "pi-ternary", "pi-x3", "pi-x2"]
TRELLIS = ["pi-t3", "pi-t2", "pi-x3", "pi-x2"]
GRIDS = {"pi-q3": (-4, 3), "pi-q2": (-2, 1), "ternary": (-1, 1), "pi-ternary": (-1, 1)}


def integer_weights(rows: int, width: int, seed: int) -> np.ndarray:
    """Bell-shaped float32 weights made of integers only, the same on every machine: four 16-bit numbers of a
    64-bit linear congruential generator added up, times 2^-20; every 97th is sixteen times as large."""
    state, out = seed, np.empty(rows * width, np.float32)
    for i in range(rows * width):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        parts = [(state >> shift & 0xFFFF) - 0x8000 for shift in (0, 16, 32, 48)]
        out[i] = sum(parts) * (16 if i % 97 == 0 else 1) * 2.0**-20
    return out.reshape(rows, width)


def round_trip(w: np.ndarray, name: str, **options: object) -> np.ndarray:
    """decode(encode(w))."""
    return ruvq.dequantize(ruvq.quantize(w, name, **options))


def squared_error(w: np.ndarray, decoded: np.ndarray, importance: np.ndarray | None = None) -> float:
    """Sum of squares of the difference, by column importance where given."""
    e = np.square(w.astype(np.float64) - decoded)
    return float((e if importance is None else e * importance).sum())


def whole_width(name: str, width: int) -> int:
    """The nearest width at least as large that the format can hold."""
    entry = formats.get(name)
    return width if entry.any_width else -(-width // entry.block_weights) * entry.block_weights
