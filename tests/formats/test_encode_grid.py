"""Encoders of uniform grids: pi-q3, pi-q2, ternary and their scale rules; floats and Q8_0."""

from __future__ import annotations

import numpy as np
import pytest

import gguf
import ruvq
from formats.encoding import GRIDS, round_trip, squared_error
from formats.oracle import block_codes, decode
from ruvq.errors import DataError, UsageError


def blocks_of_every_kind() -> np.ndarray:
    """(n, 256): bell-shaped, heavy-tailed, one-sided, flat, two-valued, one outlier."""
    rng = np.random.default_rng(7)
    out = [rng.normal(size=(6, 256)), rng.standard_t(2, size=(6, 256)), rng.exponential(size=(6, 256))]
    out += [rng.uniform(-1, 1, size=(3, 256)), rng.choice([-1.0, 1.0], size=(3, 256))]
    spike = rng.normal(size=(3, 256))
    spike[:, 17] = 40
    return np.concatenate([*out, spike]).astype(np.float32)


def dense_scan(x: np.ndarray, low: int, high: int, signs: tuple[int, ...]) -> float:
    """Least squared error of a block over every f16 step in six octaves below its largest weight."""
    top, bottom = (int(np.float16(np.abs(x).max() * f).view(np.uint16)) for f in (1.0, 1 / 64))
    steps = np.arange(bottom, top + 2, dtype=np.uint16).view(np.float16).astype(np.float32)
    best = np.inf
    for sign in signs:
        d = (steps * sign)[:, None]
        q = np.clip(np.rint(x / d), low, high).astype(np.float32)
        best = min(best, float(np.square((x - q * d).astype(np.float64)).sum(1).min()))
    return best


@pytest.mark.parametrize("name", ["pi-q3", "pi-q2", "ternary"])
def test_searched_step_is_the_best_there_is_within_half_a_percent(name: str) -> None:
    x = blocks_of_every_kind()
    y = round_trip(x, name)
    signs = (1,) if name == "ternary" else (1, -1)
    excess = [
        squared_error(a, b) / max(dense_scan(a, *GRIDS[name], signs), 1e-12) - 1
        for a, b in zip(x, y, strict=True)
    ]
    assert max(excess) < 5e-3
    assert np.mean(excess) < 3e-4


@pytest.mark.parametrize("name", ["pi-q3", "pi-q2"])
def test_either_sign_helps_weights_that_lean_to_the_short_side(name: str) -> None:
    """The grid has one more level below zero than above; a negative step turns it round."""
    x = np.random.default_rng(3).exponential(size=(8, 256)).astype(np.float32)
    either, unsigned = (squared_error(x, round_trip(x, name, scale=s)) for s in ("mse", "mse-unsigned"))
    assert either < 0.9 * unsigned
    steps = np.frombuffer(ruvq.quantize(x, name).data, np.uint8).reshape(8, -1)[:, -2:].copy().view("<f2")
    assert (steps < 0).all()
    unsigned_steps = np.frombuffer(ruvq.quantize(x, name, scale="mse-unsigned").data, np.uint8).reshape(8, -1)
    assert (unsigned_steps[:, -2:].copy().view("<f2") > 0).all()


def headers(q: ruvq.QuantizedTensor) -> np.ndarray:
    """f16 steps of a tensor whose rows are single blocks."""
    return np.frombuffer(q.data, np.uint8).reshape(q.rows, -1)[:, -2:].copy().view("<f2")[:, 0]


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["pi-q3", "pi-q2", "pi-ternary"])
def test_inv_3_step_is_alpha_pi_over_k(name: str, k: int) -> None:
    """INV-3: step = alpha * pi / k, k in {2, 3, 4, 5}."""
    x = blocks_of_every_kind()
    for alpha in (0.031, 0.5, 3.25):
        q = ruvq.quantize(x, name, k=k, scale=alpha)
        assert q.k == k
        assert (headers(q) == np.float16(np.float32(float(np.float32(alpha)) * np.pi / k))).all()
    if name != "pi-ternary":
        rms = np.sqrt(np.square(x.astype(np.float64)).mean(1)).astype(np.float32).astype(np.float64)
        expected = (rms * np.pi / k).astype(np.float32).astype(np.float16)
        assert (headers(ruvq.quantize(x, name, k=k, scale="rms")) == expected).all()


@pytest.mark.parametrize("k", [-1, 1, 6])
@pytest.mark.parametrize("name", ["pi-q3", "pi-q2", "pi-t3", "pi-t2", "pi-ternary"])
def test_inv_3_other_k_are_refused(name: str, k: int) -> None:
    with pytest.raises(UsageError, match="2, 3, 4 or 5"):
        ruvq.quantize(np.ones((1, 256), np.float32), name, k=k)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["pi-q3", "pi-q2", "pi-t3", "pi-t2", "ternary", "pi-ternary", "q8_0"])
def test_inv_2_alpha_is_positive(name: str, alpha: float) -> None:
    """INV-2: alpha > 0; only the step of pi-q3 and pi-q2 may carry a sign beside it."""
    with pytest.raises(UsageError, match="above 0"):
        ruvq.quantize(np.ones((1, 256), np.float32), name, scale=alpha)


@pytest.mark.parametrize("name", ["pi-t3", "pi-t2", "ternary", "pi-ternary"])
def test_inv_2_encoders_write_no_negative_scale(name: str) -> None:
    x = np.concatenate([blocks_of_every_kind(), np.zeros((1, 256), np.float32), -blocks_of_every_kind()])
    q = ruvq.quantize(x, name)
    last = np.frombuffer(q.data, np.uint8).reshape(q.rows, -1)[:, -2:].copy()
    zero = ~x.any(1)
    if name in ("pi-t3", "pi-t2"):
        assert (last[~zero, 0] > 0).all()
        assert (last[:, 0] <= 247).all()
        assert (last[zero] == 0).all()
    else:
        assert (last.view("<f2")[:, 0][~zero] > 0).all()
        assert (last.view("<u2")[zero] == 0).all()


def test_absmax_puts_the_largest_magnitude_on_the_lowest_level() -> None:
    x = blocks_of_every_kind()
    for name, (low, high) in GRIDS.items():
        largest = np.abs(x).max(1)
        assert (headers(ruvq.quantize(x, name, scale="absmax")) == np.float16(largest / -low)).all()
        at = np.abs(x).argmax(1)[:, None]
        extreme = np.take_along_axis(x, at, 1)
        kept = np.take_along_axis(round_trip(x, name, scale="absmax"), at, 1) / extreme
        # the grid has one level more below zero: a positive extreme ends on its highest
        expected = np.where(extreme < 0, 1.0, high / -low)
        assert kept == pytest.approx(expected, rel=1e-3)


def test_absmean_is_the_mean_magnitude_for_ternary() -> None:
    x = blocks_of_every_kind()
    mean = np.abs(x.astype(np.float64)).mean(1).astype(np.float32)
    q = ruvq.quantize(x, "ternary", scale="absmean")
    assert (headers(q) == mean.astype(np.float16)).all()
    codes = block_codes("ternary", q.data[:66], 256)
    assert (codes == np.clip(np.rint(x[0] / headers(q)[0].astype(np.float32)), -1, 1) + 1).all()


def test_ternary_weights_from_training_come_back_exactly() -> None:
    x = np.random.default_rng(1).integers(-1, 2, size=(4, 300)).astype(np.float32) * np.float32(0.40625)
    assert (round_trip(x, "ternary") == x).all()
    assert (round_trip(x, "pi-ternary") == x).all()


def test_better_rules_have_smaller_errors() -> None:
    x = np.random.default_rng(2).normal(size=(16, 256)).astype(np.float32)

    def error(name: str, scale: str) -> float:
        return squared_error(x, round_trip(x, name, scale=scale))

    fixed = min(error("pi-q3", "rms"), error("pi-q3", "absmax"))
    assert error("pi-q3", "mse") <= error("pi-q3", "mse-unsigned") < fixed
    assert error("ternary", "mse") < error("ternary", "absmean") < error("ternary", "absmax")


@pytest.mark.parametrize("name", ["pi-q3", "pi-q2"])
def test_ruvllm_layout_holds_the_same_codes_and_steps(name: str) -> None:
    x = blocks_of_every_kind()
    assert (round_trip(x, name) == round_trip(x, f"{name}-ruvllm")).all()


# ---- formats of others ----


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7, 1e-36, 3e4])
def test_q8_0_bytes_are_those_of_the_gguf_package(scale: float) -> None:
    rng = np.random.default_rng(11)
    x = (rng.normal(size=(40, 96)) * scale).astype(np.float32)
    x[3] = 0
    x[5, :32] = np.float32(scale) * np.arange(-16, 16) * np.float32(127 / 32)  # ties
    x[6, :32] = 0
    expected = gguf.quantize(x, gguf.GGMLQuantizationType.Q8_0)
    assert ruvq.quantize(x, "q8_0").data == expected.tobytes()


def test_q8_0_search_lowers_the_error() -> None:
    x = np.random.default_rng(12).normal(size=(40, 96)).astype(np.float32)
    assert squared_error(x, round_trip(x, "q8_0", scale="mse")) < 0.99 * squared_error(
        x, round_trip(x, "q8_0")
    )


def test_floats_are_rounded_to_nearest_even() -> None:
    rng = np.random.default_rng(13)
    x = rng.integers(0, 2**32, size=20000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    half = x[np.abs(x) < 65520][None]
    assert ruvq.quantize(half, "f16").data == half.astype("<f2").tobytes()
    full = x[np.abs(x) < 3.3e38][None]
    assert ruvq.quantize(full, "bf16").data == gguf.quantize(full, gguf.GGMLQuantizationType.BF16).tobytes()
    assert ruvq.quantize(full, "f32").data == full.astype("<f4").tobytes()


# ---- what can't be encoded ----


@pytest.mark.parametrize("name", [*GRIDS, "pi-t3", "pi-t2", "q8_0", "f16", "bf16", "f32", "pi-q3-ruvllm"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_place(name: str, bad: float) -> None:
    x = np.ones((3, 256), np.float32)
    x[2, 201] = bad
    with pytest.raises(DataError) as caught:
        ruvq.quantize(x, name)
    assert caught.value.subject == "row 2, column 201"
    assert caught.value.actual.lower() == {"nan": "nan", "inf": "infinity", "-inf": "-infinity"}[str(bad)]


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("pi-q3", 262016.0),
        ("pi-q2", 131008.0),
        ("ternary", 65504.0),
        ("f16", 65519.0),
        ("q8_0", 65504.0 * 127),
    ],
)
def test_weights_up_to_the_largest_are_held_and_beyond_it_refused(name: str, largest: float) -> None:
    x = np.zeros((1, 256), np.float32)
    x[0, 5], x[0, 9] = -largest, largest
    y = round_trip(x, name)
    assert np.isfinite(y).all()
    assert y[0, 5] <= -0.99 * largest
    x[0, 5] = -largest * 1.001
    with pytest.raises(DataError, match="keep this tensor in f32"):
        ruvq.quantize(x, name)


@pytest.mark.parametrize("rule", ["mse", "mse-unsigned", "absmax"])
@pytest.mark.parametrize("name", [*GRIDS, "q8_0"])
def test_steps_beyond_f16_stop_at_the_largest(name: str, rule: str) -> None:
    x = np.full((1, 256), 60000.0, np.float32)
    y = decode(name, ruvq.quantize(x, name, scale=rule).data, 256)
    assert np.isfinite(y).all()
    q = ruvq.quantize(x, name, scale=1e30)
    assert np.isfinite(decode(name, q.data, 256)).all()


@pytest.mark.parametrize(
    ("name", "scale"),
    [("pi-t3", "absmax"), ("pi-t3", "rms"), ("ternary", "rms"), ("pi-q3", "absmean"), ("f16", "mse")],
)
def test_rules_that_a_format_lacks_are_refused_with_those_it_has(name: str, scale: str) -> None:
    with pytest.raises(UsageError, match="one of: default") as caught:
        ruvq.quantize(np.ones((1, 64), np.float32), name, scale=scale)
    assert scale in caught.value.actual
