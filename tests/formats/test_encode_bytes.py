"""What holds for the bytes of every encoder: shapes, zeros, importance, and the same bytes everywhere."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ruvq
from formats.encoding import OWN, TRELLIS, integer_weights, round_trip, squared_error, whole_width
from formats.oracle import FORMATS, GGML_WRITTEN, WRITABLE, WRITTEN, decode, row_bytes

WIDTHS = [1, 2, 3, 15, 16, 17, 31, 33, 43, 64, 172, 255, 256, 257, 300, 576, 896, 1023]
SEED, ROWS, SHAPES = 20261120, 4, (768, 300)
HASHES = json.loads((Path(__file__).parent / "encoded_sha256.json").read_text())


def digest_input(name: str, width: int) -> np.ndarray:
    """The input whose encoded bytes have a recorded SHA-256."""
    return integer_weights(ROWS, whole_width(name, width), SEED)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("width", SHAPES)
def test_encoded_bytes_are_the_recorded_ones(name: str, width: int) -> None:
    data = ruvq.quantize(digest_input(name, width), name).data
    assert hashlib.sha256(data).hexdigest() == HASHES[f"{name} {width}"]


@pytest.mark.parametrize("name", WRITTEN)
def test_encoded_bytes_with_importance_are_the_recorded_ones(name: str) -> None:
    w = digest_input(name, 768)
    importance = np.square(integer_weights(1, w.shape[1], SEED + 1)[0])
    data = ruvq.quantize(w, name, importance=importance).data
    assert hashlib.sha256(data).hexdigest() == HASHES[f"{name} importance"]


@pytest.mark.parametrize("width", SHAPES)
@pytest.mark.parametrize("name", WRITABLE)
def test_webassembly_writes_the_recorded_bytes(
    name: str, width: int, repository: Path, wasm_hashes: dict
) -> None:
    assert wasm_hashes[f"{name} {width}"] == HASHES[f"{name} {width}"]


@pytest.fixture(scope="module")
def wasm_hashes(repository: Path) -> dict:
    """SHA-256 of the same input encoded by the WebAssembly module in Node."""
    module, node = repository / "web" / "ruvq.wasm", shutil.which("node")
    assert module.is_file(), "build it with `make wasm`"
    assert node, "node is needed: `make setup`"
    jobs = []
    for name in WRITABLE:
        for width in SHAPES:
            jobs.append(
                {"key": f"{name} {width}", "format": FORMATS.index(name), "rows": ROWS, "seed": str(SEED)}
            )
            jobs[-1]["width"] = whole_width(name, width)
    script = Path(__file__).parent / "encode_hashes.mjs"
    run = [node, str(script), str(module)]
    done = subprocess.run(
        run, input=json.dumps(jobs), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["pi-q3", "pi-t3", "q8_0", "q2_k", "q6_k", "iq4_xs", "iq2_xxs"])
def test_bytes_do_not_depend_on_the_number_of_threads(name: str) -> None:
    w = np.random.default_rng(1).normal(size=(1200, 512)).astype(np.float32)  # three chunks
    one = ruvq.quantize(w, name, threads=1)
    assert ruvq.quantize(w, name, threads=2).data == one.data
    assert ruvq.quantize(w, name, threads=7).data == one.data
    assert (
        ruvq.quantize(w[500:700], name).data
        == one.data[500 * len(one.data) // 1200 : 700 * len(one.data) // 1200]
    )


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_comes_back_through_an_independent_decoder(name: str, width: int) -> None:
    width = whole_width(name, width)
    w = np.random.default_rng(width).normal(size=(2, width)).astype(np.float32)
    q = ruvq.quantize(w, name)
    assert len(q.data) == 2 * row_bytes(name, width)
    rows = [q.data[: len(q.data) // 2], q.data[len(q.data) // 2 :]]
    decoded = np.stack([decode(name, row, width) for row in rows])
    assert ruvq.dequantize(q).tobytes() == decoded.astype(np.float32).tobytes()
    energy = squared_error(w, np.zeros_like(w))
    assert squared_error(w, decoded) < (0.5 if width > 16 else 1.0) * energy


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("width", [1, 64, 300])
def test_all_zero_rows_are_zero_and_have_no_scale(name: str, width: int) -> None:
    width = whole_width(name, width)
    q = ruvq.quantize(np.zeros((2, width), np.float32), name)
    assert (ruvq.dequantize(q) == 0).all()
    assert not np.signbit(decode(name, q.data[: len(q.data) // 2], width)).any()
    if name in OWN:
        assert q.data[-2:] == b"\0\0"
    negative = ruvq.quantize(np.full((2, width), -0.0, np.float32), name)
    assert (ruvq.dequantize(negative) == 0).all()


@pytest.mark.parametrize("name", [n for n in WRITTEN if n not in TRELLIS])
def test_constant_rows_come_back_nearly_exact(name: str) -> None:
    for value in (1.0, -0.37, 0.02, 300.0):
        w = np.full((1, 256), value, np.float32)
        assert round_trip(w, name) == pytest.approx(w, rel=5e-3)


@pytest.mark.parametrize("name", WRITTEN)
def test_denormal_weights_are_no_trouble(name: str) -> None:
    w = np.full((1, 256), 1e-41, np.float32)
    w[0, ::2] *= -1
    assert np.abs(round_trip(w, name)).max() <= 1e-40


@pytest.mark.parametrize("name", OWN + GGML_WRITTEN)
def test_importance_lowers_the_error_that_counts(name: str) -> None:
    rng = np.random.default_rng(21)
    w = rng.standard_t(4, size=(8, 512)).astype(np.float32)
    importance = np.square(rng.normal(size=512)).astype(np.float32) ** 2
    plain, guided = round_trip(w, name), round_trip(w, name, importance=importance)
    assert squared_error(w, guided, importance) < 0.97 * squared_error(w, plain, importance)
    assert squared_error(w, guided) > squared_error(w, plain)


@pytest.mark.parametrize("name", OWN)
def test_only_ratios_of_importance_matter(name: str) -> None:
    rng = np.random.default_rng(22)
    w, importance = (
        rng.normal(size=(2, 300)).astype(np.float32),
        rng.uniform(1, 9, size=300).astype(np.float32),
    )
    data = ruvq.quantize(w, name, importance=importance).data
    for factor in (2.0**-90, 2.0**90):
        assert ruvq.quantize(w, name, importance=(importance * factor).astype(np.float32)).data == data
    nothing = np.zeros(300, np.float32)
    assert ruvq.quantize(w, name, importance=nothing).data == ruvq.quantize(w, name).data
    half = np.where(np.arange(300) < 256, importance, 0).astype(np.float32)  # nothing in the tail counts
    assert round_trip(w, name, importance=half)[:, 256:] == pytest.approx(round_trip(w, name)[:, 256:])


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_importance_below_zero_or_not_finite_is_refused(bad: float) -> None:
    importance = np.ones(300, np.float32)
    importance[271] = bad
    with pytest.raises(ruvq.RuvqError, match="importance of column 271"):
        ruvq.quantize(np.ones((1, 300), np.float32), "pi-t3", importance=importance)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(OWN),
    rows=st.integers(1, 3),
    width=st.integers(1, 600),
    seed=st.integers(0, 2**31),
    exponent=st.integers(-6, 1),
)
def test_any_shape_is_valid_and_better_than_nothing(
    name: str, rows: int, width: int, seed: int, exponent: int
) -> None:
    w = (np.random.default_rng(seed).normal(size=(rows, width)) * 10.0**exponent).astype(np.float32)
    q = ruvq.quantize(w, name)
    y = ruvq.dequantize(q)  # checks headers, codes and padding
    assert q.shape == y.shape == w.shape
    assert len(q.data) == rows * row_bytes(name, width)
    assert squared_error(w, y) <= squared_error(w, np.zeros_like(w)) * (1 + 1e-6)
