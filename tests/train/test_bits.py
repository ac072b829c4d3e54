"""What training computes in torch and NumPy is what the C core computes, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ruvq
from ruvq.train import trellis, trellis_tables
from ruvq.train.config import BITS, TRELLIS
from ruvq.train.hadamard import transform_in_torch
from ruvq.train.packing import blocks_of, pack, unpack

WIDTHS = (1, 7, 16, 17, 63, 64, 100, 129, 172, 255, 256, 257, 544)


def heavy_tailed(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Rows of very different sizes, one of them zero."""
    random = np.random.default_rng(seed)
    out = random.standard_t(3, size=(rows, width)) * np.exp(random.normal(size=(rows, 1)) * 3)
    out[rows // 2] = 0
    return out.clip(-150, 150).astype(np.float32)  # pi-t2 holds magnitudes up to 200


@pytest.mark.parametrize("format", BITS)
@pytest.mark.parametrize("width", WIDTHS)
def test_codes_are_unpacked_and_packed_as_the_core_does(format: str, width: int) -> None:
    q = ruvq.quantize(heavy_tailed(5, width), format)
    codes, headers = unpack(q.data, 5, width, BITS[format])
    assert codes.shape == (5, width)
    assert headers.shape == (5, len(blocks_of(width)), 2)
    assert pack(codes, headers, BITS[format]) == q.data


@pytest.mark.parametrize("format", TRELLIS)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_trellis_search_in_torch_finds_the_cores_bytes(format: str, width: int) -> None:
    weights = heavy_tailed(7, width, seed=width)
    codes, headers = unpack(ruvq.quantize(weights, format).data, 7, width, BITS[format])
    for number, block in enumerate(blocks_of(width)):
        inside = slice(block.start, block.start + block.weights)
        x = torch.from_numpy(np.ascontiguousarray(weights[:, inside]))
        alpha, ks = trellis.search(x, format)
        byte = ks[:, 0] | ks[:, 1] << 2 | ks[:, 2] << 4 | ks[:, 3] << 6
        assert np.array_equal(torch.stack((alpha, byte), 1).numpy(), headers[:, number])
        assert np.array_equal(trellis.assign(x, alpha, ks, format).numpy(), codes[:, inside])


@pytest.mark.parametrize("format", TRELLIS)
def test_extreme_blocks_end_their_search_where_the_core_does(format: str) -> None:
    """Alphas at both ends of their range, and constants, which tie."""
    x = np.stack([np.full(64, v, np.float32) for v in (1e-9, 1e-6, 1.0, 30.0, 190.0)])
    _, headers = unpack(ruvq.quantize(x, format).data, 5, 64, BITS[format])
    alpha, _ = trellis.search(torch.from_numpy(x), format)
    assert alpha.tolist() == headers[:, 0, 0].tolist()


@pytest.mark.parametrize("width", [1, 2, 4, 12, 64, 172, 256, 576])
@pytest.mark.parametrize("inverse", [False, True])
def test_the_transform_in_torch_has_the_cores_bits(width: int, inverse: bool) -> None:
    x = heavy_tailed(3, width)
    found = transform_in_torch(torch.from_numpy(x), 2**63 + 12345, inverse)
    assert np.array_equal(found.numpy(), np.asarray(ruvq.hadamard(x, 2**63 + 12345, inverse)))


@pytest.mark.parametrize("format", TRELLIS)
def test_tables_are_the_cores(format: str) -> None:
    """Random codes, so any four one after the other, at every alpha and k, decoded by the core."""
    bits, random = BITS[format], np.random.default_rng(1)
    codes = random.integers(0, 2**bits, (248, 256), np.uint8)
    headers = np.stack((np.arange(248, dtype=np.uint8), random.integers(0, 256, 248, np.uint8)), 1)
    data = pack(codes, headers[:, None], bits)
    expected = ruvq.dequantize(ruvq.QuantizedTensor(format, (248, 256), data), as_numpy=True)
    t = trellis_tables.tables(format, "cpu")
    ks = headers[:, 1, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    step = (
        t.alphas[torch.from_numpy(headers[:, 0].astype(np.int64))][:, None]
        * t.k_scale[torch.from_numpy(ks).long()]
    )
    found = trellis_tables.levels(torch.from_numpy(codes), format) * step.repeat_interleave(64, 1)
    assert np.array_equal(found.numpy(), expected)
    assert float(t.values.abs().max()) == trellis_tables.LARGEST


@pytest.mark.parametrize("format", TRELLIS)
def test_ways_through_the_states_have_the_values_of_their_codes(format: str) -> None:
    """From state 0 along random ways: what `levels` makes of the codes that were passed."""
    t = trellis_tables.tables(format, "cpu")
    random = np.random.default_rng(2)
    codes, values, state = [], [], 0
    for _ in range(2000):
        entered = (t.origins == state).nonzero()  # (group, way) that can be next
        group, way = entered[random.integers(len(entered))].tolist()
        codes.append(int(random.integers(t.values.shape[0])))
        values.append(float(t.values[codes[-1], group, way]))
        state = (codes[-1] >> 1 if t.pairs else codes[-1]) * t.groups + group
    found = trellis_tables.levels(torch.tensor([codes], dtype=torch.uint8), format)
    assert found[0].tolist() == values


def test_alpha_is_rounded_to_the_nearest_byte() -> None:
    alphas = trellis_tables.tables("pi-t2", "cpu").alphas
    assert trellis_tables.nearest_alpha_bytes(alphas[1:]).tolist() == list(range(1, 248))
    between = (alphas[1:-1] + alphas[2:]) / 2
    assert trellis_tables.nearest_alpha_bytes(between).tolist() == list(range(1, 247))  # the lower on a tie
    assert trellis_tables.nearest_alpha_bytes(torch.tensor([1e-30, 1e30])).tolist() == [1, 247]
