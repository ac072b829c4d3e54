"""Trellis codes by what a decoder computes: tables, each looked up by bits of the last few codes.

The value of weight t is the sum of the tables' entries. A table's index is made of bits of the codes c_t,
c_{t-1}, ...; which bits of older codes are needed is the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .viterbi import Trellis

# symbols by age, the newest first, each (branches) → the index of every table, each (branches)
Indices = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def _bits(mask: int) -> list[int]:
    """The places of a mask's bits, the lowest first."""
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def kept(symbol: np.ndarray, mask: int) -> np.ndarray:
    """The bits of `mask`, moved together."""
    out = np.zeros_like(symbol)
    for at, bit in enumerate(_bits(mask)):
        out |= (symbol >> bit & 1) << at
    return out


def spread(packed: np.ndarray, mask: int) -> np.ndarray:
    """The inverse of `kept`."""
    out = np.zeros_like(packed)
    for at, bit in enumerate(_bits(mask)):
        out |= (packed >> at & 1) << bit
    return out


@dataclass(frozen=True)
class Code:
    """`came`, `symbols` (states, 2^bits): the state before and the code of each branch; `indices`, of the
    same shape, for each table; `sizes`: entries of the tables."""

    bits: int
    came: np.ndarray
    symbols: np.ndarray
    indices: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]

    @property
    def states(self) -> int:
        """How many."""
        return len(self.came)

    def trellis(self, tables: Sequence[np.ndarray]) -> Trellis:
        """With these entries."""
        values = sum(np.asarray(t, np.float32)[i] for t, i in zip(tables, self.indices, strict=True))
        return Trellis(self.bits, self.came, np.asarray(values, np.float32))


def code(bits: int, masks: Sequence[int], indices: Indices, sizes: Sequence[int]) -> Code:
    """`masks[k]`: the bits of c_{t-1-k} that belong to the state, each a part of the one before it.

    A state is these bits, the newest code's the highest.
    """
    widths = [mask.bit_count() for mask in masks]
    states, ways = 1 << sum(widths), 1 << bits
    state, symbol = (a.ravel() for a in np.meshgrid(np.arange(states), np.arange(ways), indexing="ij"))
    ages, rest = [symbol], state
    for mask, width in reversed(list(zip(masks, widths, strict=True))):
        ages.insert(1, spread(rest & (1 << width) - 1, mask))
        rest = rest >> width
    to = np.zeros_like(state)
    for age, (mask, width) in enumerate(zip(masks, widths, strict=True)):
        to = to << width | kept(ages[age], mask)
    order = np.lexsort((symbol, state, to))
    if (np.bincount(to, minlength=states) != ways).any():
        raise ValueError(f"not every state is reached by {ways} branches: the masks {masks} are not nested")
    shaped = [np.asarray(a)[order].reshape(states, ways) for a in (state, symbol, *indices(ages))]
    return Code(bits, shaped[0], shaped[1], tuple(shaped[2:]), tuple(sizes))


def windowed(bits: int, window: int) -> Code:
    """A table with an entry for each value of the last `window` bits, the newest highest (pi-t2: 4)."""
    full, masks = (1 << bits) - 1, []
    left = window - bits
    while left > 0:
        part = min(bits, left)
        masks.append(full >> (bits - part) << (bits - part))
        left -= part

    def index(ages: Sequence[np.ndarray]) -> list[np.ndarray]:
        out = ages[0]
        for age, mask in zip(ages[1:], masks, strict=True):
            out = out << mask.bit_count() | kept(age, mask)
        return [out]

    return code(bits, masks, index, [1 << window])
