"""Rounding with error feedback in every format: the rule column by column, what it gains, the same bytes."""

from __future__ import annotations

import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import gguf
import ruvq
from formats.encoding import integer_weights
from formats.oracle import FORMATS, GGML_WRITTEN
from formats.oracle_ggml import IQ4, LAYOUTS, read
from ruvq import core, formats
from ruvq.quantize.feedback import Factor, Guide, factorise
from ruvq.quantize.rows import EncodeOptions, RowEncoder, encode_in_order
from ruvq.quantize.tensors import QuantizedTensor

OWN = [name for name in FORMATS if formats.get(name).own]
NAMES = [*OWN, "q8_0", *GGML_WRITTEN]
WIDTH = 512
HASHES = Path(__file__).parent / "feedback_sha256.json"
LEVELS = {
    **{"q4_0": np.arange(-8, 8), "q3_k": np.arange(-4, 4), "q6_k": np.arange(-32, 32)},
    **{"q2_k": np.arange(4), "q4_k": np.arange(16), "q5_k": np.arange(32)},
    **{"iq4_nl": IQ4, "iq4_xs": IQ4, "tq1_0": np.arange(-1, 2), "tq2_0": np.arange(-1, 2)},
}


def correlated(tokens: int, seed: int) -> np.ndarray:
    """Inputs as layers have them: few directions carry most, channels differ: float32 (tokens, WIDTH)."""
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(WIDTH, WIDTH)) * (np.arange(1, WIDTH + 1) ** -0.7)[:, None]
    channels = rng.lognormal(0, 0.5, size=WIDTH)
    return (np.random.default_rng(seed).normal(size=(tokens, WIDTH)) @ mixing * channels).astype(np.float32)


def weights(rows: int) -> np.ndarray:
    return (np.random.default_rng(8).standard_t(5, size=(rows, WIDTH)) / 50).astype(np.float32)


@pytest.fixture(scope="module")
def factor() -> Factor:
    x = correlated(2048, 1)
    return factorise(x.T @ x, None, 0.01, "test")


def encoded(w: np.ndarray, name: str, guide: Guide) -> QuantizedTensor:
    encoder = RowEncoder(formats.get(name), w.shape[1], EncodeOptions(), None, guide=guide)
    return QuantizedTensor(name, w.shape, bytes(encoder.encode(0, w).data))


@pytest.mark.parametrize("name", NAMES)
def test_products_with_other_inputs_of_the_kind_are_nearer(name: str, factor: Factor) -> None:
    w, held_out = weights(16), correlated(1024, 2)
    importance = np.ascontiguousarray(np.diagonal(factor.moment))
    losses = []
    for guide in (Guide(importance=importance), Guide(factor=factor)):
        error = w - ruvq.dequantize(encoded(w, name, guide), as_numpy=True)
        losses.append(float(np.square(held_out @ error.T).sum(dtype=np.float64)))
    assert losses[1] < 0.3 * losses[0]  # 5 dB; measured: 7 to 10


@pytest.mark.parametrize("name", LEVELS)
def test_every_weight_has_the_level_nearest_to_it_and_what_came_before(name: str, factor: Factor) -> None:
    """The rule itself, in double, with the scales that the file holds."""
    w, layout = weights(2), LAYOUTS[name]
    blocks = memoryview(encoded(w, name, Guide(factor=factor)).data)
    u = np.triu(factor.factor.astype(float), 1)
    for row, source in enumerate(w.astype(float)):
        start = row * len(blocks) // len(w)
        pieces = [
            read(name, bytes(blocks[start + at : start + at + layout.bytes]))
            for at in range(0, len(blocks) // len(w), layout.bytes)
        ]
        value = np.concatenate([p[0] for p in pieces]).astype(float)
        scale = np.concatenate([p[1] for p in pieces]).astype(float).repeat(layout.part)
        offset = np.zeros(WIDTH)
        if layout.offsets:
            offset = np.concatenate([p[2] for p in pieces]).astype(float).repeat(layout.part)
        error = source - (value * scale + offset)
        wanted = source + error @ u
        distance = np.abs(wanted - (value * scale + offset))
        least = np.abs(wanted[:, None] - (LEVELS[name] * scale[:, None] + offset[:, None])).min(1)
        np.testing.assert_allclose(distance, least, rtol=0, atol=1e-5 * np.abs(w).max())


@pytest.mark.parametrize("name", GGML_WRITTEN)
def test_the_gguf_package_reads_the_same_floats(name: str, factor: Factor) -> None:
    q = encoded(weights(3), name, Guide(factor=factor))
    rows = np.frombuffer(q.data, np.uint8).reshape(3, -1)
    theirs = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType(formats.get(name).ggml_type))
    np.testing.assert_array_equal(theirs, ruvq.dequantize(q, as_numpy=True))


@pytest.mark.parametrize("name", NAMES)
def test_bytes_depend_neither_on_threads_nor_on_the_rows_beside(name: str, factor: Factor) -> None:
    w = weights(40)
    whole = encoded(w, name, Guide(factor=factor)).data
    encoder = RowEncoder(formats.get(name), WIDTH, EncodeOptions(), None, guide=Guide(factor=factor))
    cuts = [0, 1, 18, 39, 40]
    chunks = ((a, w[a:b]) for a, b in itertools.pairwise(cuts))
    with ThreadPoolExecutor(3) as pool:
        pieces = encode_in_order(encoder, chunks, pool, 4, name, lambda _: None)
        assert b"".join(pieces) == whole


@pytest.mark.parametrize("name", NAMES)
def test_encoded_bytes_are_the_recorded_ones(name: str) -> None:
    w, x = integer_weights(4, WIDTH, 20261120), integer_weights(64, WIDTH, 20261121)
    moment, backend = np.zeros((WIDTH, WIDTH), np.float32), core.get()
    with backend.place(moment) as target, backend.place(x) as source:
        backend.call("rq_moment_add", target.address, source.address, len(x), WIDTH, 0, WIDTH)
    guide = Guide(factor=factorise(moment + np.triu(moment, 1).T, None, 0.25, name))
    digest = hashlib.sha256(encoded(w, name, guide).data).hexdigest()
    assert digest == json.loads(HASHES.read_text())[name]


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_zeros_stay_zero(name: str, factor: Factor) -> None:
    q = encoded(np.zeros((2, WIDTH), np.float32), name, Guide(factor=factor))
    assert (ruvq.dequantize(q, as_numpy=True) == 0).all()
