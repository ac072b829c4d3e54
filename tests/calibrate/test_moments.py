"""Second moments and their factorisation against NumPy in double."""

from __future__ import annotations

import numpy as np
import pytest

from ruvq import core
from ruvq.errors import DataError
from ruvq.quantize.feedback import factorise, turn


def moments(x: np.ndarray, pieces: list[tuple[int, int]]) -> np.ndarray:
    tokens, width = x.shape
    out = np.zeros((width, width), np.float32)
    backend = core.get()
    with backend.place(out) as target, backend.place(x) as source:
        for first, last in pieces:
            backend.call("rq_moment_add", target.address, source.address, tokens, width, first, last)
    return out


@pytest.mark.parametrize("width", [1, 2, 15, 33, 172])
def test_sums_are_the_upper_half_of_the_product_for_any_pieces(width: int) -> None:
    x = np.random.default_rng(width).normal(size=(130, width)).astype(np.float32)
    whole = moments(x, [(0, width)])
    cut = max(1, width // 3)
    assert np.array_equal(whole, moments(x, [(cut, width), (0, cut)]))
    expected = np.triu(x.astype(float).T @ x.astype(float))
    np.testing.assert_allclose(whole, expected, rtol=0, atol=2e-5 * len(x))


@pytest.mark.parametrize("width", [1, 5, 31, 64, 100])
def test_the_factor_gives_the_damped_moments_back(width: int) -> None:
    x = np.random.default_rng(width).normal(size=(3 * width + 8, width))
    moment = (x.T @ x).astype(np.float32)
    result = factorise(moment, None, 0.01, "test")
    u = np.triu(result.factor.astype(float), 1) + np.eye(width)
    damped = result.moment.astype(float) + 0.01 * np.eye(width) * np.mean(np.diagonal(result.moment))
    np.testing.assert_allclose(u @ np.diag(result.pivots.astype(float)) @ u.T, damped, atol=2e-4)


def test_turned_moments_are_those_of_turned_inputs() -> None:
    import ruvq

    x = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    turned = np.asarray(ruvq.hadamard(x, 7), float)
    np.testing.assert_allclose(turn((x.T @ x), 7), turned.T @ turned, atol=1e-3)


def test_inputs_that_nothing_reached_are_refused() -> None:
    with pytest.raises(DataError, match="never reached"):
        factorise(np.zeros((8, 8), np.float32), None, 0.01, "blk.0.down")
