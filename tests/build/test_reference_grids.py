"""The reference grids are what they claim to be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build"))

from reference_grids import _nearest_e8, e8, e8_patterns, flattened, normal_float, normal_levels


def snr_db(w: np.ndarray, y: np.ndarray) -> float:
    return float(10 * np.log10((w.astype(np.float64) ** 2).sum() / ((w.astype(np.float64) - y) ** 2).sum()))


@pytest.fixture(scope="module")
def gaussian() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(8, 256)).astype(np.float32)


def test_nf4_has_the_published_levels() -> None:
    published = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
    published += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
    np.testing.assert_allclose(normal_levels(4), published, atol=1e-4)
    assert len(normal_levels(3)) == 8


def test_e8_points_are_vectors_of_the_lattice_and_there_are_65536() -> None:
    patterns = e8_patterns()
    assert len(np.unique(patterns, axis=0)) == 256
    norms = (patterns**2).sum(1)
    assert ((norms <= 10).sum(), (norms == 12).sum()) == (227, 29)
    assert (
        patterns % 1 == 0.5
    ).all()  # so each of 128 choices of signs has an even sum: 2^8 * 2^7 * 2 shifts


def test_the_nearest_point_is_the_nearest_of_all() -> None:
    x = np.random.default_rng(1).normal(size=(6, 8))
    patterns = e8_patterns()
    signs = np.array([[1 - 2 * (n >> k & 1) for k in range(8)] for n in range(256)])
    vectors = (patterns[:, None, :] * signs).reshape(-1, 8)
    vectors = vectors[vectors.sum(1) % 2 == 0]
    assert len(vectors) == 1 << 15
    points = np.concatenate([vectors + 0.25, vectors - 0.25])
    best = ((x[:, None, :] - points) ** 2).sum(2).min(1)
    np.testing.assert_allclose(((x - _nearest_e8(x, patterns)) ** 2).sum(1), best, rtol=1e-12)


def test_on_a_gaussian_they_reach_what_is_known_of_them(gaussian: np.ndarray) -> None:
    assert 10.0 < snr_db(gaussian, e8(gaussian)) < 10.9  # published: 0.089 of the variance at the best scale
    assert 20.3 < snr_db(gaussian, normal_float(gaussian, 4)) < 21.2
    assert snr_db(gaussian, normal_float(gaussian, 3)) < snr_db(gaussian, flattened(gaussian, "q3_k"))


@pytest.mark.parametrize("width", [64, 172, 300])
def test_any_width_keeps_its_shape(width: int) -> None:
    w = np.random.default_rng(width).normal(size=(2, width)).astype(np.float32)
    for decoded in (normal_float(w, 4), e8(w), flattened(w, "q4_k")):
        assert decoded.shape == w.shape
        assert snr_db(w, decoded) > 8
