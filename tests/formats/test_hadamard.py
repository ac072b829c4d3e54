"""The randomised Walsh-Hadamard transform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import kernels, oracle
from ruvq import core, errors

WIDTHS = [*kernels.WIDTHS, 4, 5, 6, 7, 4096, 4864]


def matrix(width: int, seed: int) -> np.ndarray:
    """H S as a matrix, one unit vector at a time."""
    return kernels.hadamard(np.eye(width, dtype=np.float32), seed).T.astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 300), seed=st.integers(0, 2**64 - 1))
def test_INV_4_h_times_its_transpose_is_n_times_the_identity(width, seed):
    """INV-4: H H^T = n I in each piece; normalised, so the identity here."""
    h = matrix(width, seed)
    assert np.abs(h @ h.T - np.eye(width)).max() < 1e-6
    start = 0
    for n in oracle.hadamard_pieces(width):
        piece = np.rint(h[start : start + n, start : start + n] * np.sqrt(n))
        assert np.array_equal(np.abs(piece), np.ones((n, n)))
        assert np.array_equal(piece @ piece.T, n * np.eye(n))
        start += n


@pytest.mark.parametrize("inverse", [False, True])
def test_INV_8_simd_and_scalar_transforms_give_the_same_bits(inverse):
    rng = np.random.default_rng(kernels.SEED)
    for width in WIDTHS:
        x = rng.normal(size=(3, width)).astype(np.float32)
        simd, scalar = (kernels.hadamard(x, 12345, inverse, v) for v in (kernels.SIMD, kernels.SCALAR))
        assert simd.tobytes() == scalar.tobytes(), width


def test_the_transform_is_the_oracles_bit_for_bit():
    rng = np.random.default_rng(kernels.SEED)
    for width in WIDTHS:
        seed = int(rng.integers(0, 2**63))
        x = rng.normal(size=width).astype(np.float32)
        assert kernels.hadamard(x, seed)[0].tobytes() == oracle.hadamard(x, seed).tobytes(), width


def test_the_inverse_gives_the_vector_back():
    rng = np.random.default_rng(kernels.SEED)
    for width in WIDTHS:
        x = rng.normal(size=(2, width)).astype(np.float32)
        back = kernels.hadamard(kernels.hadamard(x, 99), 99, inverse=True)
        assert np.abs(back - x).max() < 2e-6


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 120), seed=st.integers(0, 2**64 - 1))
def test_the_inverse_is_the_transpose(width, seed):
    inverse = kernels.hadamard(np.eye(width, dtype=np.float32), seed, inverse=True).T
    assert np.array_equal(inverse, matrix(width, seed).T.astype(np.float32))


@pytest.mark.parametrize(
    ("width", "pieces"),
    [(576, [256, 256, 64]), (896, [256, 256, 256, 128]), (172, [128, 32, 8, 4]), (7, [4, 2, 1]), (1, [1])],
)
def test_widths_are_cut_into_powers_of_two_from_the_left(width, pieces):
    h, start = matrix(width, 1), 0
    for n in pieces:
        inside = h[start : start + n, start : start + n]
        assert (inside != 0).all()
        assert np.count_nonzero(h[start : start + n]) == n * n
        start += n
    assert start == width


def test_a_width_out_of_range_is_an_error():
    with core.get().alloc(64) as memory, pytest.raises(errors.RuvqError, match="hadamard"):
        core.get().call("rq_hadamard", memory.address, 1, 0, 0, 0, 0, kernels.SIMD)
