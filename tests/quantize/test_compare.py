"""ruvq.compare against NumPy, two-dimensional spectrum included."""

from __future__ import annotations

import math

import numpy as np
import pytest

import ruvq
from ruvq.errors import DataError, UsageError


def pair(rows: int, width: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A heavy-tailed matrix and a noisy copy."""
    rng = np.random.default_rng(seed)
    a = rng.standard_t(3, size=(rows, width)).astype(np.float32)
    return a, (a * 0.95 + rng.normal(size=a.shape) * 0.2).astype(np.float32)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 7), (13, 17), (64, 96), (128, 300)])
def test_figures_are_those_of_numpy(rows: int, width: int) -> None:
    a32, b32 = pair(rows, width)
    c = ruvq.compare(a32, b32)
    a, b = a32.astype(np.float64), b32.astype(np.float64)
    assert c.mse == pytest.approx(np.mean((a - b) ** 2), rel=1e-12)
    assert c.snr_db == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=1e-9)
    assert c.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    spectra = [np.square(np.abs(np.fft.fft2(m))).sum() for m in (a - b, a)]
    assert c.spectral_distortion_db == pytest.approx(10 * np.log10(spectra[0] / spectra[1]), abs=1e-9)
    order = np.argsort(-np.abs(a), axis=None, kind="stable")[: max(1, a.size // 100)]
    kept = np.minimum(1, np.abs(b).ravel()[order] / np.abs(a).ravel()[order])
    assert c.outlier_retention == pytest.approx(kept.mean(), rel=1e-12)


def test_ties_among_the_largest_are_taken_in_order() -> None:
    a = np.ones(300, np.float32)  # three of them count
    b = a.copy()
    b[:2] = 0.5
    b[3:] = 0
    assert ruvq.compare(a, b).outlier_retention == pytest.approx(2 / 3)


def test_equal_matrices_have_no_distortion() -> None:
    a, _ = pair(10, 10)
    for m in (a, np.zeros_like(a)):
        c = ruvq.compare(m, m.copy())
        assert (c.mse, c.snr_db, c.spectral_distortion_db, c.cosine) == (0, math.inf, -math.inf, 1)
        assert c.outlier_retention == 1


def test_zeros_have_no_signal() -> None:
    a, _ = pair(10, 10)
    c = ruvq.compare(np.zeros_like(a), a)
    assert (c.snr_db, c.spectral_distortion_db, c.cosine, c.outlier_retention) == (-math.inf, math.inf, 0, 1)
    c = ruvq.compare(a, np.zeros_like(a))
    assert c.snr_db == pytest.approx(0, abs=1e-12)
    assert (c.cosine, c.outlier_retention) == (0, 0)


def test_extreme_magnitudes_stay_finite() -> None:
    for scale in (1e38, 1e-38, 1e-44):
        a = np.full((4, 4), scale, np.float32)
        c = ruvq.compare(a, np.zeros_like(a))
        assert c.snr_db == pytest.approx(0, abs=1e-9)
        assert c.mse == pytest.approx(float(a[0, 0]) ** 2, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_numbers_are_refused_with_their_place(bad: float) -> None:
    a, b = pair(10, 20)
    b[7, 3] = bad
    with pytest.raises(DataError, match="second matrix, row 7, column 3"):
        ruvq.compare(a, b)
    with pytest.raises(DataError, match="first matrix, row 7, column 3"):
        ruvq.compare(b, a)


def test_shapes_must_agree() -> None:
    a, b = pair(10, 20)
    with pytest.raises(UsageError, match="shapes differ"):
        ruvq.compare(a, b.reshape(20, 10))
