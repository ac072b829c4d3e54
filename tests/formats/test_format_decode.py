"""Decoding: the vectors of the page, the oracle, the gguf package, and the registry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gguf
from formats import kernels, oracle
from ruvq import core

VECTORS = json.loads((Path(__file__).parent / "vectors_v1.json").read_text())
VARIANTS = [kernels.SIMD, kernels.SCALAR]
WITHOUT_PEER = ("q8_1", "q8_k", "q1_0", "q2_0")  # the package doesn't decode these


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_of_the_page_decode_bit_for_bit(variant):
    for vector in VECTORS:
        row, width = bytes.fromhex(vector["bytes"]), vector["width"]
        assert core.get().call("rq_format_row_bytes", kernels.number(vector["format"]), width) == len(row)
        weights = kernels.decode(vector["format"], row, 1, width, variant)
        assert weights.tobytes().hex() == vector["weights_f32_le"], (vector["format"], width)


def test_the_oracle_agrees_with_the_vectors():
    for vector in VECTORS:
        name, row, width = vector["format"], bytes.fromhex(vector["bytes"]), vector["width"]
        assert oracle.row_bytes(name, width) == len(row)
        assert oracle.decode(name, row, width).tobytes().hex() == vector["weights_f32_le"]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("name", oracle.FORMATS)
def test_every_kernel_decodes_as_the_oracle(name, extreme):
    rng = np.random.default_rng(kernels.SEED)
    for width in kernels.widths(name):
        data = kernels.random_rows(name, 2, width, rng, extreme)
        size = len(data) // 2
        expected = np.stack([oracle.decode(name, data[i * size : (i + 1) * size], width) for i in range(2)])
        for variant in VARIANTS:
            found = kernels.decode(name, data, 2, width, variant)
            assert found.tobytes() == expected.tobytes(), (width, variant)


@pytest.mark.parametrize("name", oracle.TRELLIS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_block_with_alpha_byte_0_is_plus_zero(name, variant):
    row = bytearray(kernels.random_rows(name, 1, 300, np.random.default_rng(1)))
    for end in (oracle.row_bytes(name, 256), len(row)):
        row[end - 2] = 0
    assert kernels.decode(name, bytes(row), 1, 300, variant).tobytes() == bytes(4 * 300)
    product = kernels.matvec(name, bytes(row), 1, np.full(300, -1, np.float32), variant)
    assert product.tobytes() == bytes(4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_f16_and_bf16_bit_pattern_decodes_exactly(variant):
    patterns = np.arange(65536, dtype="<u2")
    half = kernels.decode("f16", patterns.tobytes(), 1, 65536, variant)[0].view(np.uint32)
    with np.errstate(invalid="ignore"):
        expected = patterns.view("<f2").astype(np.float32).view(np.uint32)
    ordinary = (patterns & 0x7C00 != 0x7C00) | (patterns & 0x3FF == 0)
    assert np.array_equal(half[ordinary], expected[ordinary])
    assert np.isnan(half[~ordinary].view(np.float32)).all()
    brain = kernels.decode("bf16", patterns.tobytes(), 1, 65536, variant)[0].view(np.uint32)
    assert np.array_equal(brain, patterns.astype(np.uint32) << 16)


@pytest.mark.parametrize("name", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_ggml_formats_decode_as_in_the_gguf_package(name, variant):
    rng = np.random.default_rng(kernels.SEED)
    kind = gguf.GGMLQuantizationType[name.upper()]
    weights = rng.normal(size=(3, 320)).astype(np.float32)
    packed = gguf.quantize(weights, kind)
    found = kernels.decode(name, packed.tobytes(), 3, 320, variant)
    assert np.array_equal(found, gguf.dequantize(packed, kind))


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", [n for n in oracle.GGML if n not in WITHOUT_PEER])
def test_random_blocks_decode_as_in_the_gguf_package(name, variant, extreme):
    rng = np.random.default_rng(kernels.SEED)
    for width in kernels.widths(name, [32, 64, 96, 256, 352, 512, 1280]):
        data = kernels.random_rows(name, 3, width, rng, extreme)
        packed = np.frombuffer(data, np.uint8).reshape(3, -1)
        expected = gguf.dequantize(packed, gguf.GGMLQuantizationType[name.upper()]).astype("<f4")
        assert kernels.decode(name, data, 3, width, variant).tobytes() == expected.tobytes(), width


def test_names_widths_and_sizes_of_the_registry():
    c = core.get()
    size = core.structs.size("rq_format_info")
    with c.alloc(size) as memory:
        for i, name in enumerate(oracle.FORMATS):
            c.call("rq_format_describe", i, memory.address)
            info = core.structs.unpack("rq_format_info", c.read(memory.address, size))
            assert core.structs.text(info["name"]) == name
            assert info["own"] == (name in oracle.OWN)
            assert info["any_width"] == (name not in oracle.BLOCK_WEIGHTS)
            assert info["block_bytes"] == oracle.row_bytes(name, info["block_weights"])
            for width in range(1, 600):
                expected = (
                    oracle.row_bytes(name, width) if width % oracle.BLOCK_WEIGHTS.get(name, 1) == 0 else -12
                )
                assert c.raw("rq_format_row_bytes", i, width) == expected
        assert (
            c.raw("rq_format_describe", len(oracle.FORMATS), memory.address)
            == core.CONSTANTS["RQ_E_ARGUMENT"]
        )
        assert c.raw("rq_format_describe", -1, memory.address) == core.CONSTANTS["RQ_E_ARGUMENT"]


@pytest.mark.parametrize("width", [0, -1, -(2**31), 2**31 - 1])
def test_widths_out_of_range_are_refused(width):
    for i in range(len(oracle.FORMATS)):
        assert core.get().raw("rq_format_row_bytes", i, width) == core.CONSTANTS["RQ_E_SHAPE"]
