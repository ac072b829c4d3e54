"""The encoders of ggml's block formats: what they write is the nearest there is, and better than rounding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gguf
import ruvq
from formats.encoding import round_trip, squared_error
from formats.oracle import GGML_WRITTEN
from formats.oracle_ggml import IQ4, LAYOUTS, even_signs, points, read
from ruvq import formats
from ruvq.errors import DataError, UsageError

LATTICES = {"iq2_xxs": 43, "iq2_xs": 43, "iq3_xxs": 62}  # the largest coordinate
LEVELS = {"q4_0": (-8, 7), "q3_k": (-4, 3), "q6_k": (-32, 31), "tq1_0": (-1, 1), "tq2_0": (-1, 1)}
SPANS = {"q2_k": 3, "q4_k": 15, "q5_k": 31}  # the largest code


def heavy_tailed(rows: int, width: int, seed: int = 5) -> np.ndarray:
    """Student's t with five degrees of freedom: outliers as trained weights have them."""
    return (np.random.default_rng(seed).standard_t(5, size=(rows, width)) / 50).astype(np.float32)


def importance_of(width: int, seed: int = 6) -> np.ndarray:
    """Widely spread, as mean squares of activations are."""
    return np.random.default_rng(seed).lognormal(0, 1.5, size=width).astype(np.float32)


@pytest.mark.parametrize("name", GGML_WRITTEN)
def test_the_gguf_package_reads_the_same_floats(name: str) -> None:
    w = heavy_tailed(3, 512)
    q = ruvq.quantize(w, name)
    rows = np.frombuffer(q.data, np.uint8).reshape(3, -1)
    theirs = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(formats.get(name).ggml_type))
    np.testing.assert_array_equal(theirs, ruvq.dequantize(q))


def rounded(w: np.ndarray, name: str) -> np.ndarray:
    """Rounding to the nearest with the scale that just reaches the largest weight of a part, the scale exact:
    what the layout would give without any search, and without the error of its own scales."""
    parts = w.reshape(-1, LAYOUTS[name].part).astype(np.float64)
    most = np.abs(parts).max(1, keepdims=True)
    if name in SPANS:
        low = np.minimum(parts.min(1, keepdims=True), 0)
        step = (parts.max(1, keepdims=True) - low) / SPANS[name]
        return (np.round((parts - low) / step) * step + low).reshape(w.shape)
    if name in LEVELS:
        low, high = LEVELS[name]
        step = most / -low
        return (np.clip(np.round(parts / step), low, high) * step).reshape(w.shape)
    if name in LATTICES:
        step = most / LATTICES[name]
        return (nearest_points(parts / step, name) * step).reshape(w.shape)
    step = most / 127
    nearest = np.abs((parts / step)[..., None] - IQ4).argmin(-1)
    return (IQ4[nearest] * step).reshape(w.shape)


def nearest_points(x: np.ndarray, name: str) -> np.ndarray:
    """The nearest point for the magnitudes; where that makes an odd number of signs, the smallest turns."""
    octets = x.reshape(-1, 8)
    book = points(name, np.arange(512 if name == "iq2_xs" else 256))
    pieces = np.abs(octets).reshape(-1, book.shape[1])
    nearest = book[((pieces[:, None, :] - book) ** 2).sum(-1).argmin(1)].reshape(-1, 8)
    signs = np.where(octets < 0, -1, 1)
    odd = np.flatnonzero(signs.prod(1) < 0)
    signs[odd, np.abs(octets[odd]).argmin(1)] *= -1
    return (nearest * signs).reshape(x.shape)


@pytest.mark.parametrize("name", GGML_WRITTEN)
def test_searching_beats_rounding_to_the_largest_weight(name: str) -> None:
    w = heavy_tailed(8, 512)
    assert squared_error(w, round_trip(w, name)) < 0.97 * squared_error(w, rounded(w, name))


def test_more_bits_leave_less_error() -> None:
    w = heavy_tailed(8, 512)
    for order in (
        ["tq2_0", "iq2_xxs", "iq2_xs", "iq3_xxs", "iq4_xs", "iq4_nl"],
        ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0"],
    ):
        errors = [squared_error(w, round_trip(w, name)) for name in order]
        for more, less in itertools.pairwise(errors):
            assert less < more * 1.01  # iq4_nl's scales are finer, the rest is the same


@pytest.mark.parametrize("importance", [None, importance_of(256)], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LATTICES)
def test_no_other_point_or_sign_is_nearer(name: str, importance: np.ndarray | None) -> None:
    """Every octet against all points (of IQ3 all pairs) with all signs, at the scale it has in the block."""
    w = heavy_tailed(1, 256)
    value, scale, _ = read(name, ruvq.quantize(w, name, importance=importance).data)
    weight = np.ones(256) if importance is None else importance.astype(np.float64)
    signs = even_signs(np.arange(128))
    book = points(name, np.arange(512 if name == "iq2_xs" else 256))
    for o in range(0, 256, 8):
        x, s = w[0, o : o + 8].astype(np.float64), float(scale[o // LAYOUTS[name].part])
        here = weight[o : o + 8]
        ours = (here * (x - value[o : o + 8] * s) ** 2).sum()
        n = book.shape[1]
        best = np.inf
        for sign in signs:
            halves = [
                (here[k : k + n] * (x[k : k + n] - book * sign[k : k + n] * s) ** 2).sum(1).min()
                for k in range(0, 8, n)
            ]
            best = min(best, sum(halves))
        assert ours <= best * (1 + 1e-4)


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "iq4_nl"])
def test_every_code_is_the_nearest_at_its_scale(name: str) -> None:
    w = heavy_tailed(1, 256)[0]
    row, layout = ruvq.quantize(w[None], name).data, LAYOUTS[name]
    levels = IQ4 if name.startswith("iq4") else np.arange(*LEVELS_OF[name])
    for block in range(256 // layout.weights):
        data = row[block * layout.bytes : (block + 1) * layout.bytes]
        value, scale, offset = read(name, data)
        for p, s in enumerate(np.asarray(scale, np.float64)):
            part = slice(p * layout.part, (p + 1) * layout.part)
            x = w[block * layout.weights :][part].astype(np.float64) - (0 if offset is None else offset[p])
            ours = np.abs(x - value[part] * s)
            best = np.abs(x[:, None] - levels * s).min(1)
            assert (ours <= best + 1e-6 * np.abs(x)).all()


LEVELS_OF = {"q2_k": (0, 4), "q3_k": (-4, 4), "q4_k": (0, 16), "q5_k": (0, 32), "q6_k": (-32, 32)}


def test_the_scale_of_iq4_nl_is_nearly_the_best_of_all() -> None:
    w = heavy_tailed(4, 256)
    ours = ((w - round_trip(w, "iq4_nl")) ** 2).reshape(-1, 32).sum(1)
    blocks = w.reshape(-1, 32).astype(np.float64)
    best = np.full(len(blocks), np.inf)
    for value in np.geomspace(50, 250, 400):
        for sign in (1, -1):
            s = sign * np.abs(blocks).max(1, keepdims=True) / value
            e = ((blocks[..., None] - IQ4 * s[..., None]) ** 2).min(-1).sum(1)
            best = np.minimum(best, e)
    assert ours.sum() < 1.005 * best.sum()


@pytest.mark.parametrize("name", GGML_WRITTEN)
def test_only_ratios_of_importance_matter(name: str) -> None:
    w, importance = heavy_tailed(2, 256), importance_of(256)
    data = ruvq.quantize(w, name, importance=importance).data
    assert ruvq.quantize(w, name, importance=(importance * 2.0**70).astype(np.float32)).data == data
    assert ruvq.quantize(w, name, importance=np.zeros(256, np.float32)).data == ruvq.quantize(w, name).data


@pytest.mark.parametrize("name", GGML_WRITTEN)
def test_columns_that_don_t_count_are_still_near(name: str) -> None:
    w, importance = heavy_tailed(2, 256), importance_of(256)
    importance[64:128] = 0
    decoded = round_trip(w, name, importance=importance)[:, 64:128]
    assert squared_error(w[:, 64:128], decoded) < 0.9 * squared_error(w[:, 64:128], np.zeros_like(decoded))


@pytest.mark.parametrize("name", GGML_WRITTEN)
def test_what_a_format_can_t_hold_is_refused(name: str) -> None:
    w = heavy_tailed(2, 256)
    w[1, 7] = 1e9
    with pytest.raises(DataError, match="row 1, column 7"):
        ruvq.quantize(w, name)
    w[1, 7] = np.nan
    with pytest.raises(DataError, match="NaN"):
        ruvq.quantize(w, name)
    with pytest.raises(UsageError, match="multiple of"):
        ruvq.quantize(heavy_tailed(1, 48), name)
    with pytest.raises(UsageError, match="scale rule"):
        ruvq.quantize(heavy_tailed(1, 256), name, scale="absmax")


@pytest.mark.parametrize("name", ["q4_0", "q3_k", "q4_k", "iq4_xs", "iq3_xxs"])
@pytest.mark.parametrize("factor", [2.0**-2, 2.0**12])
def test_scaled_weights_are_as_good(name: str, factor: float) -> None:
    w = heavy_tailed(2, 512)
    plain = squared_error(w, round_trip(w, name))
    scaled = squared_error(w, round_trip((w * factor).astype(np.float32), name) / factor)
    assert scaled == pytest.approx(plain, rel=0.05)
