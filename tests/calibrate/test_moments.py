"""Second moments and their factorisation against NumPy in double."""

from __future__ import annotations

import numpy as np
import pytest

from ruvq import core
from ruvq.errors import DataError, MemoryLimitError, UsageError
from ruvq.formats.transform import Transform
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
    np.testing.assert_allclose(turn((x.T @ x), Transform(7)), turned.T @ turned, atol=1e-3)


def test_inputs_that_nothing_reached_are_refused() -> None:
    with pytest.raises(DataError, match="never reached"):
        factorise(np.zeros((8, 8), np.float32), None, 0.01, "blk.0.down")


def crossed(a: np.ndarray, b: np.ndarray, pieces: list[tuple[int, int]]) -> np.ndarray:
    """sum over tokens of a b^T, rows of the result in pieces."""
    out = np.zeros((a.shape[1], b.shape[1]), np.float32)
    backend = core.get()
    with backend.place(out) as target, backend.place(a) as left, backend.place(b) as right:
        where = (target.address, left.address, a.shape[1], right.address, b.shape[1], len(a))
        for first, last in pieces:
            backend.call("rq_moment_cross", *where, first, last, 0)
    return out


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 33), (64, 172), (19, 16)])
def test_products_of_two_inputs_are_the_same_for_any_pieces(rows: int, width: int) -> None:
    rng = np.random.default_rng(rows)
    a, b = (rng.normal(size=(130, n)).astype(np.float32) for n in (rows, width))
    whole = crossed(a, b, [(0, rows)])
    cut = max(1, rows // 3)
    assert np.array_equal(whole, crossed(a, b, [(cut, rows), (0, cut)]))
    np.testing.assert_allclose(whole, a.T.astype(float) @ b, rtol=0, atol=2e-5 * len(a))


@pytest.mark.parametrize("width", [1, 5, 33, 100])
@pytest.mark.parametrize("rows", [1, 16, 21])
def test_least_squares_undo_the_product_with_the_moments(rows: int, width: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.normal(size=(4 * width + 8, width))
    result = factorise((x.T @ x).astype(np.float32), None, 0.01, "test")
    damped = result.moment.astype(float) + 0.01 * np.eye(width) * np.mean(np.diagonal(result.moment))
    expected = rng.normal(size=(rows, width))
    solved = (expected @ damped).astype(np.float32)
    backend = core.get()
    with (
        backend.place(result.factor) as factor,
        backend.place(result.pivots) as pivots,
        backend.place(solved) as target,
        backend.alloc(backend.call("rq_moment_solve_scratch", width)) as scratch,
    ):
        where = (factor.address, pivots.address, target.address, rows, width, scratch.address, scratch.end)
        backend.call("rq_moment_solve", *where)
    np.testing.assert_allclose(solved, expected, atol=2e-4)


def test_what_can_t_be_summed_or_solved_is_refused() -> None:
    backend = core.get()
    with backend.alloc(64) as memory:
        at = memory.address
        with pytest.raises(UsageError, match="rows 0 to 5 of width 4"):
            backend.call("rq_moment_cross", at, at, 4, at, 4, 1, 0, 5, 0)
        with pytest.raises(UsageError, match="least squares"):
            backend.call("rq_moment_solve", at, at, at, 1, 0, at, memory.end)
        with pytest.raises(MemoryLimitError, match="scratch of least squares"):
            backend.call("rq_moment_solve", at, at, at, 1, 4, at, memory.end)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 33), (100, 130)])
def test_energies_are_those_of_the_whole_matrix(rows: int, width: int) -> None:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(width, width)).astype(np.float32)
    moment, errors = x @ x.T, rng.normal(size=(rows, width)).astype(np.float32)
    moment = np.triu(moment) + np.triu(moment, 1).T
    backend = core.get()
    with backend.place(moment) as h, backend.place(errors) as r, backend.alloc(8) as out:
        backend.call("rq_moment_energy", h.address, r.address, rows, width, out.address)
        found = float(np.frombuffer(backend.read(out.address, 8), np.float64)[0])
    expected = np.sum((errors.astype(float) @ moment.astype(float)) * errors)
    assert found == pytest.approx(expected, rel=1e-5)
