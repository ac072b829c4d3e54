"""How far one matrix is from another: figures of `ruvq.compare`, the error's spectrum, attention scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..quantize.reports import snr_db
from ..quantize.tensors import compare

if TYPE_CHECKING:
    import numpy as np

BANDS = 8  # rings of the spectrum, from slow to fast changes
TILE = 512  # rows of a transform: bounds memory, and each tile counts by its energy


@dataclass(frozen=True)
class Metrics:
    """Figures of one matrix, or their means over several; see `measure`.

    `mse`; `snr_db`; `spectral_distortion_db`: the difference's 2-D spectrum over the original's, all bins;
    `spectral_bands_db`: the same in rings from low to high frequencies; `cosine`; `outlier_retention`: mean
    |b|/|a|, cut at 1, of the 1 % largest |a|; `output_snr_db`: of the products with calibration's inputs.
    """

    mse: float
    snr_db: float
    spectral_distortion_db: float
    spectral_bands_db: tuple[float, ...]
    cosine: float
    outlier_retention: float
    output_snr_db: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(original: np.ndarray, other: np.ndarray, moment: np.ndarray | None = None) -> Metrics:
    """Compares float32 (rows, width) with what it became. `moment`: the input's second moments (width, width)
    or their diagonal (width,)."""
    found = compare(original, other)
    noise, signal = spectra(original, other)
    return Metrics(
        mse=found.mse,
        snr_db=found.snr_db,
        spectral_distortion_db=-snr_db(float(signal.sum()), float(noise.sum())),
        spectral_bands_db=tuple(-snr_db(float(s), float(n)) for s, n in zip(signal, noise, strict=True)),
        cosine=found.cosine,
        outlier_retention=found.outlier_retention,
        output_snr_db=None if moment is None else output_snr_db(original, other, moment),
    )


def spectra(original: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy of the difference and of the original in each ring of the 2-D spectrum: float64 (BANDS,) twice.

    By Parseval's theorem their sums are the sums of squares.
    """
    import numpy as np

    noise, signal = np.zeros(BANDS), np.zeros(BANDS)
    for first in range(0, len(original), TILE):
        a = original[first : first + TILE].astype(np.float64)
        difference = a - other[first : first + TILE]
        rings = _rings(*a.shape)
        for values, sums in ((difference, noise), (a, signal)):
            energy = np.abs(np.fft.fft2(values)) ** 2 / a.size
            sums += np.bincount(rings.ravel(), energy.ravel(), BANDS)
    return noise, signal


def _rings(rows: int, columns: int) -> np.ndarray:
    """The ring of every bin: by its distance from frequency 0, in parts of the largest there is."""
    import numpy as np

    vertical, horizontal = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]
    radius = np.sqrt((vertical**2 + horizontal**2) / 0.5)  # 1 in the corner
    return np.minimum((radius * BANDS).astype(int), BANDS - 1)


def output_snr_db(original: np.ndarray, other: np.ndarray, moment: np.ndarray) -> float:
    """Signal to noise of W x for inputs x of these second moments: sum w H w^T over sum e H e^T."""
    return snr_db(output_energy(original, moment), output_energy(original - other, moment))


def output_energy(rows: np.ndarray, moment: np.ndarray) -> float:
    """Sum over rows of r H r^T."""
    import numpy as np

    r = rows.astype(np.float64)
    products = r * moment if moment.ndim == 1 else r @ moment.astype(np.float64)
    return float(np.sum(products * r))


def attention_score_snr_db(
    q: tuple[np.ndarray, np.ndarray], k: tuple[np.ndarray, np.ndarray], heads: int, moment: np.ndarray | None
) -> float:
    """Signal to noise of the scores q·k of one layer, in dB: over all heads and pairs of independent inputs.

    `q`, `k`: original and quantized matrices, (heads * head width, width) and with the key heads; `moment`:
    second moments of their input, (width, width), (width,) or None for white inputs. For one head a score is
    x^T Q^T K y; over independent x and y its mean square is tr(Q H Q^T · K H K^T), which needs only small
    matrices. Rotary positions are left out: at equal positions they change nothing.
    """
    import numpy as np

    head_width = len(q[0]) // heads
    group = heads // (len(k[0]) // head_width)
    signal = noise = 0.0
    for head in range(heads):
        qs = [_head(m, head, head_width) for m in q]
        ks = [_head(m, head // group, head_width) for m in k]

        def inner(a: int, b: int, qs: list[np.ndarray] = qs, ks: list[np.ndarray] = ks) -> float:
            """Mean product of the scores of a and b (0: original, 1: quantized)."""
            left, right = _weighted(qs[a], moment) @ qs[b].T, _weighted(ks[a], moment) @ ks[b].T
            return float(np.sum(left * right))

        signal += inner(0, 0)
        noise += inner(0, 0) - inner(0, 1) - inner(1, 0) + inner(1, 1)
    return snr_db(signal, max(noise, 0.0))


def _head(matrix: np.ndarray, head: int, width: int) -> np.ndarray:
    return matrix[head * width : (head + 1) * width].astype("f8")


def _weighted(rows: np.ndarray, moment: np.ndarray | None) -> np.ndarray:
    if moment is None:
        return rows
    return rows * moment if moment.ndim == 1 else rows @ moment.astype("f8")


def mean(found: Iterable[Metrics], weights: Sequence[int]) -> Metrics:
    """Over several matrices: the mse of all weights together, of the other figures the plain mean."""
    listed = list(found)

    def average(values: Iterable[float]) -> float:
        known = list(values)
        return math.fsum(known) / len(known)

    outputs = [m.output_snr_db for m in listed if m.output_snr_db is not None]
    return Metrics(
        mse=math.fsum(m.mse * w for m, w in zip(listed, weights, strict=True)) / sum(weights),
        snr_db=average(m.snr_db for m in listed),
        spectral_distortion_db=average(m.spectral_distortion_db for m in listed),
        spectral_bands_db=tuple(average(m.spectral_bands_db[band] for m in listed) for band in range(BANDS)),
        cosine=average(m.cosine for m in listed),
        outlier_retention=average(m.outlier_retention for m in listed),
        output_snr_db=average(outputs) if outputs else None,
    )
