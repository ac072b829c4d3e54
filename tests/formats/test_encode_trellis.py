"""The trellis encoders against exhaustive search and against a Viterbi search written in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import ruvq
from formats.encoding import TRELLIS, round_trip, squared_error
from formats.oracle import BITS, C, f32, trellis_values


def alpha_of(byte: int) -> np.float32:
    """The alpha of a header byte."""
    return f32(np.array([byte << 7], np.uint16).view(np.float16)[0]) * f32(2.0**-10)


def scales(name: str, alpha: np.float32) -> list[np.float32]:
    """D for k = 2..5."""
    return [f32(alpha * c) for c in C[name]]


def exhaustive(name: str, x: np.ndarray, alpha: np.float32, ks: tuple[int, ...]) -> float:
    """Least squared error over all codes and all ks of a block of at most 8 weights (lanes of one)."""
    codes = np.array(list(itertools.product(range(1 << BITS[name]), repeat=len(x))))
    table = trellis_values(name, codes).astype(np.float32)
    best, groups = np.inf, -(-len(x) // 4)
    for choice in itertools.product(ks, repeat=groups):
        d = np.array([scales(name, alpha)[choice[i // 4] - 2] for i in range(len(x))], np.float32)
        best = min(best, float(np.square(x.astype(np.float64) - table * d).sum(1).min()))
    return best


def viterbi(name: str, x: np.ndarray, alpha: np.float32, w: np.ndarray) -> float:
    """Least weighted squared error over all codes and ks of a block, by the last three codes, in double."""
    codes = 1 << BITS[name]
    windows = np.array(list(itertools.product(range(codes), repeat=4)))  # the oldest code first
    table = trellis_values(name, windows)[:, -1].astype(np.float32).reshape(4 * (codes,))
    steps, cost = -(-len(x) // 16), np.full(3 * (codes,), np.inf)
    cost[0, 0, 0] = 0
    for f in range(4):
        group = slice(4 * f * steps, min(len(x), 4 * (f + 1) * steps))
        ends = []
        for d in scales(name, alpha):
            values = (table * d).astype(np.float64)
            c = cost.copy()
            for xi, wi in zip(x[group], w[group], strict=True):
                c = (c[..., None] + wi * np.square(float(xi) - values)).min(0)
            ends.append(c)
        cost = np.min(ends, axis=0)
    return float(cost.min())


@pytest.mark.parametrize("name", TRELLIS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_codes_and_ks_of_small_blocks_are_the_exhaustive_best(name: str, length: int) -> None:
    rng = np.random.default_rng(length)
    for byte in (96, 101, 112):
        alpha = alpha_of(byte)
        x = (rng.normal(size=length) * 1.2 * float(alpha)).astype(np.float32)
        for k in (None, 2, 5):
            error = squared_error(x, round_trip(x[None], name, scale=float(alpha), k=k))
            best = exhaustive(name, x, alpha, (2, 3, 4, 5) if k is None else (k,))
            assert error == pytest.approx(best, rel=1e-5, abs=1e-12 * float(alpha) ** 2)


@pytest.mark.parametrize("name", TRELLIS)
@pytest.mark.parametrize("width", [17, 64, 172, 255, 256])
@pytest.mark.parametrize("weighted", [False, True])
def test_codes_and_ks_of_a_block_are_those_of_a_viterbi_search(name: str, width: int, weighted: bool) -> None:
    rng = np.random.default_rng(width)
    spread = np.repeat(rng.uniform(0.4, 2.0, size=16), -(-width // 16))[:width]
    w = rng.uniform(0.1, 3, size=width).astype(np.float32) if weighted else np.ones(width, np.float32)
    for byte in (90, 103):
        alpha = alpha_of(byte)
        x = (rng.normal(size=width) * spread * float(alpha)).astype(np.float32)
        y = round_trip(x[None], name, scale=float(alpha), importance=w if weighted else None)
        assert squared_error(x, y[0], w) == pytest.approx(viterbi(name, x, alpha, w), rel=2e-5)


@pytest.mark.parametrize("name", TRELLIS)
def test_widest_search_finds_the_best_alpha_of_all(name: str) -> None:
    rng = np.random.default_rng(5)
    x = (rng.standard_t(4, size=64) * 0.03).astype(np.float32)
    best = min(viterbi(name, x, alpha_of(a), np.ones(64)) for a in range(1, 248))
    assert squared_error(x, round_trip(x[None], name, effort=247)[0]) == pytest.approx(best, rel=2e-5)


@pytest.mark.parametrize("name", TRELLIS)
def test_more_effort_is_never_worse_and_the_default_is_nearly_the_best(name: str) -> None:
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(size=(24, 256)), rng.standard_t(3, size=(24, 256))]).astype(np.float32)
    errors = [np.square(x.astype(np.float64) - round_trip(x, name, effort=e)).sum(1) for e in (1, None, 247)]
    assert (errors[2] <= errors[1] * (1 + 1e-6)).all()
    assert (errors[2] <= errors[0] * (1 + 1e-6)).all()
    assert errors[1].sum() < 1.01 * errors[2].sum()  # 0.04 dB


@pytest.mark.parametrize("name", TRELLIS)
def test_given_alpha_is_rounded_to_the_nearest_byte(name: str) -> None:
    x = np.random.default_rng(8).normal(size=(1, 256)).astype(np.float32)
    for byte in (1, 7, 8, 100, 247):
        for factor in (0.97, 1.0, 1.02):
            q = ruvq.quantize(x, name, scale=float(alpha_of(byte)) * factor)
            assert q.data[-2] == byte
    assert ruvq.quantize(x, name, scale=1e9).data[-2] == 247


@pytest.mark.parametrize("name", TRELLIS)
@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_inv_3_given_k_stands_in_every_group(name: str, k: int) -> None:
    """INV-3 for the trellis: D = alpha * C[k], C[k] = pi * u / k."""
    x = np.random.default_rng(9).normal(size=(3, 256)).astype(np.float32)
    data = np.frombuffer(ruvq.quantize(x, name, k=k).data, np.uint8).reshape(3, -1)
    assert (data[:, -1] == (k - 2) * 0b01010101).all()
    unit = float(C[name][0]) * 2 / np.pi
    assert float(C[name][k - 2]) == pytest.approx(np.pi * unit / k, rel=1e-6)


@pytest.mark.parametrize("name", TRELLIS)
def test_weights_too_small_or_too_large_for_the_scale(name: str) -> None:
    tiny = np.full((1, 256), 1e-12, np.float32)
    assert (round_trip(tiny, name) == 0).all()
    assert ruvq.quantize(tiny, name).data[-2:] == b"\0\0"
    denormal = np.full((1, 256), 1e-42, np.float32)
    assert (round_trip(denormal, name) == 0).all()
    large = np.random.default_rng(4).uniform(-60, 60, size=(1, 256)).astype(np.float32)
    assert ruvq.compare(large, round_trip(large, name)).snr_db > 8
    large[0, 3] = 1000
    with pytest.raises(ruvq.RuvqError, match="row 0, column 3"):
        ruvq.quantize(large, name)
