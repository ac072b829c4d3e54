"""The signal-to-noise ratio that a trellis and its side information reach on rows of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .headers import BLOCK, Header
from .viterbi import Trellis, search, search_tail_biting


def rounded(trellis: Trellis, header: Header, w: np.ndarray, tail_biting: bool = False) -> np.ndarray:
    """What w (rows, width), float32, becomes at the best of the header's scales. Width: a multiple of 256."""
    owners = w.reshape(-1, header.owner or w.shape[1])
    blocks = np.ascontiguousarray(w.reshape(-1, BLOCK))
    each = len(blocks) // len(owners)
    find = search_tail_biting if tail_biting else search
    best, least = np.zeros_like(owners), (owners.astype(np.float64) ** 2).sum(1)
    for scales in header.scales(owners, trellis.values):
        found = find(trellis, blocks, np.repeat(scales, each, axis=0), min(header.group, BLOCK))
        cost = found.cost.reshape(len(owners), each).sum(1, dtype=np.float64)
        nearer = cost < least
        least = np.where(nearer, cost, least)
        best = np.where(nearer[:, None], found.decoded.reshape(owners.shape), best)
    return best.reshape(w.shape)


def snr_db(w: np.ndarray, decoded: np.ndarray) -> float:
    """Signal-to-noise ratio."""
    return float(
        10 * np.log10((w.astype(np.float64) ** 2).sum() / ((w - decoded.astype(np.float64)) ** 2).sum())
    )


@dataclass(frozen=True)
class Weights:
    """Matrices (rows, width) that are measured together: the figure is the mean of theirs."""

    label: str
    matrices: tuple[np.ndarray, ...]

    def snr_db(self, decoded: Callable[[np.ndarray], np.ndarray], every: int = 1) -> float:
        """In dB, of what `decoded` makes of every so many-th row of each."""
        return float(
            np.mean([snr_db(w[::every], decoded(np.ascontiguousarray(w[::every]))) for w in self.matrices])
        )
