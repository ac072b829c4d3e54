"""ruvq.quantize and its companions: what they take, what they give, what they refuse."""

from __future__ import annotations

import subprocess
import sys
from array import array
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ruvq
from ruvq.errors import DataError, UsageError


def weights(rows: int = 4, width: int = 300) -> np.ndarray:
    """Bell-shaped float32."""
    return np.random.default_rng(rows * 1000 + width).normal(size=(rows, width)).astype(np.float32)


def test_every_kind_of_buffer_gives_the_same_bytes() -> None:
    w = weights()
    expected = ruvq.quantize(w, "pi-t2").data
    flat = array("f", w.tobytes())
    raw = bytes(w.tobytes())
    for value, shape in (
        (memoryview(w), None),
        (flat, (4, 300)),
        (memoryview(flat).cast("B").cast("f", [4, 300]), None),
        (memoryview(raw).cast("f"), (4, 300)),
        (w.tolist(), None),
        (w.ravel().tolist(), (4, 300)),
        (np.asfortranarray(w), None),
        (np.repeat(w, 2, axis=1)[:, ::2], None),
        (w.reshape(2, 2, 300), None),
    ):
        q = ruvq.quantize(value, "pi-t2", shape=shape)
        assert q.data == expected
        assert q.rows == 4
        assert q.width == 300


def test_a_vector_is_one_row_and_more_dimensions_are_kept() -> None:
    assert ruvq.quantize(weights()[0], "pi-q3").shape == (300,)
    q = ruvq.quantize(weights(6).reshape(2, 3, 300), "pi-q3")
    assert q.shape == (2, 3, 300)
    assert ruvq.dequantize(q).shape == (2, 3, 300)
    assert ruvq.matvec(q, weights(1)[0]).shape == (2, 3)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (weights().astype(np.float64), "astype"),
        (weights().astype(np.float16), "astype"),
        (np.ones((2, 3), np.int32), "astype"),
        (array("d", [1.0, 2.0]), "array.array('f'"),
        (b"\0" * 16, "cast('f')"),
        (weights().astype(">f4"), "astype"),
        ("text", "torch"),
        (7, "torch"),
        (None, "torch"),
        ([["a"]], "float32"),
    ],
)
def test_other_types_are_refused_with_what_to_do(value: object, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ruvq.quantize(value, "pi-t3")
    assert "float32" in caught.value.expected
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ([[1.0, 2.0], [3.0]], None),
        ([[1.0, 2.0], 3.0], None),
        ([], None),
        ([[]], None),
        (np.ones((0, 4), np.float32), None),
        (np.float32(3.0), None),
        (array("f", [1, 2, 3]), (2, 2)),
        (array("f", [1, 2, 3]), (3, 0)),
        (array("f", [1, 2, 3]), (-1, -3)),
        (array("f", [1, 2, 3]), ()),
    ],
)
def test_shapes_that_do_not_fit_are_refused(value: object, shape: tuple[int, ...] | None) -> None:
    with pytest.raises(UsageError):
        ruvq.quantize(value, "pi-t3", shape=shape)


def test_rows_of_a_late_chunk_are_named_by_their_place_in_the_tensor() -> None:
    w = np.ones((3000, 256), np.float32)
    w[2222, 7] = np.nan
    with pytest.raises(DataError, match="row 2222, column 7"):
        ruvq.quantize(w, "pi-q2")


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "best"},
        {"effort": -1},
        {"effort": 1000},
        {"threads": 0},
        {"scale": 1e300},
        {"scale": None},
        {"k": 2**40},
        {"k": 2.5},
    ],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(UsageError):
        ruvq.quantize(weights(), "pi-t3", **options)


def test_widths_that_no_row_can_have_are_refused() -> None:
    for width in (0, -1, 2**31, 2**40):
        with pytest.raises(UsageError):
            ruvq.QuantizedTensor("pi-t3", (1, width), b"")


def test_weights_beyond_the_format_are_named_with_the_limit() -> None:
    w = weights()
    w[2, 100] = -1000
    with pytest.raises(DataError) as caught:
        ruvq.quantize(w, "pi-t2")
    assert caught.value.subject == "row 2, column 100"
    assert "up to 200, the most that pi-t2 holds" in caught.value.expected
    assert "-1000" in caught.value.actual


def test_importance_must_have_one_number_a_column() -> None:
    with pytest.raises(UsageError, match="300 numbers"):
        ruvq.quantize(weights(), "pi-t3", importance=[1.0, 2.0])


def test_bits_per_weight_count_every_byte() -> None:
    assert ruvq.quantize(weights(4, 256), "pi-t3").bits_per_weight == 3.0625
    assert ruvq.quantize(weights(4, 64), "pi-t3").bits_per_weight == 3.25
    assert ruvq.quantize(weights(4, 64), "pi-t2").bits_per_weight == 2.25
    assert ruvq.quantize(weights(4, 768), "pi-t2").bits_per_weight == 2.0625


def test_k_is_remembered_for_the_metadata() -> None:
    assert ruvq.quantize(weights(), "pi-q3").k == 4
    assert ruvq.quantize(weights(), "pi-q2").k == 3
    assert ruvq.quantize(weights(), "pi-q3", k=2).k == 2
    assert ruvq.quantize(weights(), "pi-t3").k is None
    with pytest.raises(UsageError, match="has no k"):
        ruvq.quantize(weights(), "ternary", k=3)


def test_quantized_tensors_are_checked_when_made() -> None:
    q = ruvq.quantize(weights(), "pi-t3")
    assert ruvq.QuantizedTensor("PI_T3", (4, 300), q.data) == q
    for shape, data in (((4, 333), q.data), ((4, 300), q.data[:-1]), ((0, 300), b""), ((), q.data)):
        with pytest.raises(UsageError):
            ruvq.QuantizedTensor("pi-t3", shape, data)
    with pytest.raises(UsageError):
        ruvq.dequantize(b"bytes")  # type: ignore[arg-type]
    assert "3." in repr(q)


def test_damaged_data_is_refused() -> None:
    q = ruvq.quantize(weights(1, 256), "pi-t3")
    damaged = ruvq.QuantizedTensor("pi-t3", (1, 256), q.data[:-2] + b"\xff\0")
    with pytest.raises(DataError, match="alpha byte"):
        ruvq.dequantize(damaged)


@settings(max_examples=30, deadline=None)
@given(
    w=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=40),
        elements=st.floats(-100, 100, width=32),
    ),
    name=st.sampled_from(["pi-t3", "pi-t2", "pi-x3", "pi-x2", "pi-q3", "pi-q2", "ternary", "f16"]),
)
def test_shapes_survive_whatever_they_are(w: np.ndarray, name: str) -> None:
    q = ruvq.quantize(w, name)
    y = ruvq.dequantize(q)
    assert y.shape == q.shape == w.shape
    assert y.dtype == np.float32
    assert q.bits_per_weight == 8 * len(q.data) / prod(w.shape)
    assert np.abs(y).max() <= 3.2 * np.abs(w).max()


# ---- products and transforms ----


@pytest.mark.parametrize(
    "name", ["f32", "f16", "q8_0", "pi-q3", "pi-t3", "pi-t2", "pi-x3", "pi-x2", "ternary"]
)
def test_matvec_is_close_to_the_product_of_the_decoded_weights(name: str) -> None:
    w, x = weights(700, 512), weights(1, 512)[0]
    q = ruvq.quantize(w, name)
    y, exact = ruvq.matvec(q, x), ruvq.dequantize(q).astype(np.float64) @ x
    assert np.abs(y - exact).max() < 0.02 * np.abs(exact).max()  # activations have 8 bits
    assert ruvq.matvec(q, x, threads=1).tobytes() == ruvq.matvec(q, x, threads=2).tobytes() == y.tobytes()


def test_matvec_refuses_what_it_can_not_multiply() -> None:
    q = ruvq.quantize(weights(), "pi-t3")
    with pytest.raises(UsageError, match="300 numbers"):
        ruvq.matvec(q, np.ones(299, np.float32))
    with pytest.raises(DataError):
        ruvq.matvec(q, np.full(300, np.nan, np.float32))


@pytest.mark.parametrize("width", [4, 64, 172, 256, 576])
def test_hadamard_keeps_lengths_and_its_inverse_undoes_it(width: int) -> None:
    w = weights(5, width)
    h = ruvq.hadamard(w, 2**63 + 5)
    assert h.shape == w.shape
    assert np.linalg.norm(h, axis=1) == pytest.approx(np.linalg.norm(w, axis=1), rel=1e-5)
    assert ruvq.hadamard(h, 2**63 + 5, inverse=True) == pytest.approx(w, abs=1e-5)
    assert not np.allclose(ruvq.hadamard(w, 6), h)
    for seed in (-1, 2**64):
        with pytest.raises(UsageError, match="64 bits"):
            ruvq.hadamard(w, seed)


# ---- with and without NumPy ----

WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # importing it fails, as in Pyodide
from array import array
import ruvq
w = array("f", [((i * 7919) % 2001 - 1000) / 500 for i in range(2 * 300)])
q = ruvq.quantize(w, "pi-t3", shape=(2, 300), importance=array("f", [1.0] * 300))
y = ruvq.dequantize(q)
assert type(y) is memoryview and y.format == "f" and y.shape == (2, 300), y
c = ruvq.compare(memoryview(w).cast("B").cast("f", [2, 300]), y)
assert c.snr_db > 12, c
v = ruvq.matvec(q, array("f", range(300)))
assert v.shape == (2,), v.shape
h = ruvq.hadamard([[1.0, 2.0, 3.0, 4.0]], 1)
assert abs(sum(x * x for x in h.tolist()[0]) - 30) < 1e-4
try:
    ruvq.dequantize(q, as_numpy=True)
except ruvq.RuvqError as error:
    assert "NumPy" in str(error)
else:
    raise SystemExit("as_numpy must be refused")
assert ruvq.quantize([[1.0, 2.0]], "f32").data.hex() == "0000803f00000040"
import ruvq.quantize.tensors  # binds ruvq.quantize to the package, which can still be called
assert ruvq.quantize([[1.0, 2.0]], "f32").data.hex() == "0000803f00000040"
"""


def test_everything_works_without_numpy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_numpy_arrays_come_back_where_numpy_is_in_use() -> None:
    q = ruvq.quantize(weights(), "pi-t3")
    y = ruvq.dequantize(q)
    assert isinstance(y, np.ndarray)
    y[0, 0] = 1  # it is the caller's own
    plain = ruvq.dequantize(q, as_numpy=False)
    assert isinstance(plain, memoryview)
    assert plain.shape == (4, 300)
