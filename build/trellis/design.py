"""Tables of a code for Gaussian weights, by a generalised Lloyd algorithm from many starts.

Each 64 weights take the best of four scales, as in a file: tables made for one scale are worse there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .codes import Code
from .headers import KS
from .viterbi import search

BLOCK, LARGEST = 256, 63  # T + 64 fits the 7 bits of the relaxed dot product
TINY = 1e-9
GROUP = 64
SCALES = (np.prod(KS) ** (1 / len(KS)) / np.array(KS)).astype(np.float32)


@dataclass(frozen=True)
class Effort:
    """How many starts, of how many rounds; how often the best of them is shaken, as many rounds each; and the
    blocks of 256 it is done on."""

    starts: int = 6
    rounds: int = 8
    shakes: int = 8
    blocks: int = 256


class Designer:
    """Tables are odd (entry ~i is minus entry i), so the free numbers are the lower halves, in one vector."""

    def __init__(self, code: Code, effort: Effort, seed: int) -> None:
        self.code, self.effort = code, effort
        self.random = np.random.default_rng(seed)
        self.x = np.random.default_rng([seed, 1]).standard_normal((effort.blocks, BLOCK)).astype(np.float32)
        self.starts = np.cumsum([0, *(size // 2 for size in code.sizes)])
        features = np.zeros((code.came.size, self.starts[-1]))
        for start, size, index in zip(self.starts, code.sizes, code.indices, strict=False):
            flat = index.ravel()
            lower = flat < size // 2
            column = start + np.where(lower, flat, size - 1 - flat)
            features[np.arange(flat.size), column] += np.where(lower, 1.0, -1.0)
        self.features = features
        self.scales = np.broadcast_to(SCALES, (effort.blocks, len(SCALES)))

    def tables(self, p: np.ndarray) -> list[np.ndarray]:
        """From the free numbers."""
        halves = [p[a:b] for a, b in zip(self.starts, self.starts[1:], strict=False)]
        return [np.concatenate([half, -half[::-1]]) for half in halves]

    def numbers(self, tables: list[np.ndarray]) -> np.ndarray:
        """The inverse of `tables`."""
        return np.concatenate([t[: len(t) // 2] for t in tables]).astype(float)

    def improve(self, p: np.ndarray, rounds: int) -> tuple[float, np.ndarray]:
        """Codes for the tables, tables for the codes, in turn: (mean squared error, numbers) of the best."""
        best = (np.inf, p)
        for _ in range(rounds):
            found = search(self.code.trellis(self.tables(p)), self.x, self.scales, GROUP)
            error = float(found.cost.sum(dtype=np.float64)) / self.x.size
            if error < best[0]:
                best = (error, p)
            taken = found.branches.ravel()
            d = np.repeat(np.take_along_axis(self.scales, found.options.astype(int), 1), GROUP, 1).ravel()
            d = d.astype(float)
            count = np.bincount(taken, d * d, len(self.features))
            total = np.bincount(taken, d * self.x.ravel(), len(self.features))
            gram = self.features.T @ (count[:, None] * self.features) + TINY * np.eye(len(p))
            p = np.linalg.solve(gram, self.features.T @ total)
        return best

    def design(self, known: list[list[np.ndarray]] | None = None) -> list[np.ndarray]:
        """Integer tables, within ±63 in sum. `known`: tables at unit scale to start from as well."""
        e = self.effort
        spread = 1 / np.sqrt(len(self.code.sizes))
        first = [self.numbers(tables) for tables in known or []]
        first += [self.random.normal(scale=spread, size=self.starts[-1]) for _ in range(e.starts)]
        best = min((self.improve(p, e.rounds) for p in first), key=lambda found: found[0])
        best = min(best, self.improve(best[1], 3 * e.rounds), key=lambda found: found[0])
        for i in range(e.shakes):
            noise = self.random.normal(scale=0.3 / (1 + i / 4), size=len(best[1]))
            best = min(best, self.improve(best[1] + noise, e.rounds), key=lambda found: found[0])
        best = min(best, self.improve(best[1], 2 * e.rounds), key=lambda found: found[0])
        return self.integers(best[1])

    def integers(self, p: np.ndarray) -> list[np.ndarray]:
        """Rounded at the largest unit that keeps every sum within ±63."""
        largest = np.abs(self.code.trellis(self.tables(p)).values).max()
        unit = LARGEST / largest
        while True:
            tables = [np.rint(t * unit) for t in self.tables(p)]
            if np.abs(self.code.trellis(tables).values).max() <= LARGEST:
                return tables
            unit *= 0.995
