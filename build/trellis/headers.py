"""Side information of blocks of 256 codes: which scales there are to choose from, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BLOCK = 256
# alpha of bytes 1 to 247 of pi-t3 and pi-t2, docs/formats.md
ALPHAS = (np.arange(1, 248, dtype=np.uint16) << 7).view(np.float16).astype(np.float32) * np.float32(2**-10)
# C[2] of pi-t3 and pi-t2, and the root mean square of their tables: the units of D for other tables
UNITS = {3: (float.fromhex("0x1.1046b0p-4"), 28.712), 2: (float.fromhex("0x1.b1d814p-5"), 32.722)}
ALPHA_OF_RMS = {3: 1.3, 2: 1.4}  # where encode_trellis.c begins its search
KS = (2, 3, 4, 5)
NEAR_ONE = tuple(
    0.8 + 0.03 * n for n in range(13)
)  # of the scale at which table and weights have the same power


def root_mean_square(values: np.ndarray) -> np.ndarray:
    """Of the last axis, never 0."""
    return np.maximum(np.sqrt((values.astype(np.float64) ** 2).mean(-1)), 1e-30)


@dataclass(frozen=True)
class ByteAndK:
    """A byte of alpha and one of ks: one of four for each 64 weights, as in pi-t3, or of two for each 32.

    `c`: their own C[k]; without, pi u/k, u so that the table's power is that of pi-t3's or pi-t2's.
    """

    bits: int
    ks: tuple[int, ...] = KS
    c: tuple[float, ...] | None = None
    radius: int = 10  # alphas tried on either side of the usual one

    owner = BLOCK

    @property
    def group(self) -> int:
        """Weights that share a k."""
        return BLOCK * (len(self.ks).bit_length() - 1) // 8

    def side_bits(self, width: int) -> float:
        """For a weight."""
        return 16 / BLOCK

    def constants(self, table: np.ndarray) -> np.ndarray:
        """C[k] of each k, float32."""
        unit, power = UNITS[self.bits]
        unit *= power / float(root_mean_square(table.ravel()))
        return np.array(self.c or [unit * 2 / k for k in self.ks], np.float32)

    def scales(self, x: np.ndarray, table: np.ndarray) -> list[np.ndarray]:
        """For x (blocks, 256): each try is (blocks, ks)."""
        # the ks stand for scales around the usual one, wherever they lie: alpha absorbs their middle
        middle = math.prod(self.ks) ** (1 / len(self.ks)) / math.prod(KS) ** (1 / len(KS))
        c = self.constants(table)
        wanted = root_mean_square(x) * ALPHA_OF_RMS[self.bits] * middle
        first = np.searchsorted(ALPHAS, wanted.astype(np.float32), side="right") - 1
        tries = range(-self.radius, self.radius + 1)
        return [ALPHAS[np.clip(first + n, 0, len(ALPHAS) - 1)][:, None] * c for n in tries]


@dataclass(frozen=True)
class Half:
    """A f16 for the block: the usual one times each of `ratios` is tried."""

    ratios: tuple[float, ...] = NEAR_ONE

    owner, group = BLOCK, BLOCK

    def side_bits(self, width: int) -> float:
        """For a weight."""
        return 16 / BLOCK

    def scales(self, x: np.ndarray, table: np.ndarray) -> list[np.ndarray]:
        """For x (blocks, 256): each try is (blocks, 1)."""
        usual = root_mean_square(x) / root_mean_square(table.ravel())
        return [(usual * r).astype(np.float16).astype(np.float32)[:, None] for r in self.ratios]


@dataclass(frozen=True)
class RowAndSteps:
    """A f16 for the row, and `step` to one of 2^bits powers for each `group` weights."""

    group: int
    bits: int
    step: float

    owner = 0  # the row

    def side_bits(self, width: int) -> float:
        """For a weight."""
        return 16 / width + self.bits / self.group

    def scales(self, x: np.ndarray, table: np.ndarray) -> list[np.ndarray]:
        """For x (rows, width): each try is (rows, 2^bits)."""
        usual = root_mean_square(x) / root_mean_square(table.ravel())
        powers = np.arange(1 << self.bits) - ((1 << self.bits) - 1) / 2
        steps = (self.step**powers).astype(np.float32)
        return [(usual * r).astype(np.float16).astype(np.float32)[:, None] * steps for r in NEAR_ONE]


Header = ByteAndK | Half | RowAndSteps
