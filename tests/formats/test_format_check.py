"""rq_check_rows: what a row must not hold, each with the place named, and what it may hold."""

from __future__ import annotations

import numpy as np
import pytest

from formats import kernels, oracle, oracle_ggml
from ruvq import errors


def rows(name: str, width: int) -> bytearray:
    return bytearray(kernels.random_rows(name, 2, width, np.random.default_rng(kernels.SEED)))


@pytest.mark.parametrize("name", oracle.FORMATS)
def test_valid_rows_pass(name):
    rng = np.random.default_rng(kernels.SEED)
    for width in kernels.widths(name):
        for extreme in (False, True):
            kernels.check(name, kernels.random_rows(name, 2, width, rng, extreme), 2, width)


@pytest.mark.parametrize("name", oracle.TRELLIS)
def test_alpha_bytes_of_248_and_more_are_refused(name):
    for alpha in range(256):
        data = rows(name, 300)
        data[len(data) // 2 + oracle.row_bytes(name, 256) - 2] = alpha
        if alpha <= 247:
            kernels.check(name, bytes(data), 2, 300)
            continue
        with pytest.raises(errors.RuvqError, match="row 1") as caught:
            kernels.check(name, bytes(data), 2, 300)
        assert "block 0" in caught.value.subject
        assert "247" in caught.value.expected
        assert str(alpha) in caught.value.actual


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00, 0x7C01])
@pytest.mark.parametrize("name", [n for n in oracle.FORMATS if n not in oracle.TRELLIS + tuple(oracle.GGML)])
def test_nan_and_infinity_are_refused(name, bits):
    width = 512
    data = rows(name, width)
    size = len(data) // 2
    if name == "f32":
        data[size + 4 : size + 8] = int(bits << 16 | 0x7F800000).to_bytes(4, "little")
    elif name == "bf16":
        data[size + 2 : size + 4] = int(bits | 0x7F80).to_bytes(2, "little")
    elif name == "q8_0":
        data[size : size + 2] = bits.to_bytes(2, "little")
    else:
        data[2 * size - 2 : 2 * size] = bits.to_bytes(2, "little")
    with pytest.raises(errors.RuvqError, match="row 1"):
        kernels.check(name, bytes(data), 2, width)


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00, 0x7C01])
@pytest.mark.parametrize("name", [n for n in oracle.GGML if n not in ("mxfp4", "nvfp4", "iq1_m")])
def test_scales_of_ggml_formats_that_are_not_finite_are_refused(name, bits):
    layout, width = oracle_ggml.LAYOUTS[name], 512
    for at in layout.exponents:
        data = rows(name, width)
        place = len(data) // 2 + layout.bytes + at - 1  # the second row's second block
        if name == "q8_k":
            data[place - 2 : place + 2] = (bits << 16 | 0x7F800000).to_bytes(4, "little")
        else:
            data[place : place + 2] = bits.to_bytes(2, "little")
        with pytest.raises(errors.RuvqError, match="row 1") as caught:
            kernels.check(name, bytes(data), 2, width)
        assert "block 1" in caught.value.subject


def test_a_scale_in_four_parts_that_is_not_finite_is_refused():
    data = rows("iq1_m", 256)
    data[-1] |= 0x70
    data[-3] |= 0xC0
    with pytest.raises(errors.RuvqError, match="row 1"):
        kernels.check("iq1_m", bytes(data), 2, 256)
    data[-3] &= 0xBF
    kernels.check("iq1_m", bytes(data), 2, 256)


@pytest.mark.parametrize("exponent", [252, 253, 254, 255])
def test_weights_of_mxfp4_beyond_f32_are_refused(exponent):
    block = bytes([exponent]) + b"\x11" * 15 + b"\x7f"  # 1 in all but two places: -12 and 12
    if exponent == 252:
        kernels.check("mxfp4", block, 1, 32)
        return
    with pytest.raises(errors.RuvqError, match="block 0"):
        kernels.check("mxfp4", block, 1, 32)


@pytest.mark.parametrize("bits", [0x8000, 0x8001, 0xA000])
@pytest.mark.parametrize("name", ["ternary", "pi-ternary"])
def test_ternary_scales_with_a_sign_are_refused(name, bits):
    data = rows(name, 300)
    data[-2:] = bits.to_bytes(2, "little")
    with pytest.raises(errors.RuvqError, match="block 1"):
        kernels.check(name, bytes(data), 2, 300)


@pytest.mark.parametrize("name", ["ternary", "pi-ternary"])
def test_ternary_code_3_is_reported(name):
    for place in range(300):
        codes = np.zeros(300, np.int64)
        codes[place] = 3
        row = b"".join(oracle.pack(name, part) + b"\x00\x20" for part in (codes[:256], codes[256:]))
        with pytest.raises(errors.RuvqError, match="row 0") as caught:
            kernels.check(name, row, 1, 300)
        assert f"block {place // 256}" in caught.value.subject
        assert "code 3" in caught.value.actual


@pytest.mark.parametrize("name", oracle.OWN)
def test_bits_that_belong_to_no_weight_must_be_zero(name):
    for r in (1, 16, 17, 33, 43, 65, 100, 120, 129, 200, 255):
        row = bytearray(kernels.random_rows(name, 1, r, np.random.default_rng(r)))
        used = used_bits(name, r)
        assert len(used) == r * oracle.BITS[name]
        for bit in range(8 * (len(row) - 2)):
            if bit in used:
                continue
            damaged = bytearray(row)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(errors.RuvqError, match="block 0"):
                kernels.check(name, bytes(damaged), 1, r)


def used_bits(name: str, r: int) -> set[int]:
    """Positions of the bits that hold codes: those that change when one code does."""
    out: set[int] = set()
    for i in range(r):
        codes = np.zeros(r, np.int64)
        codes[i] = (1 << oracle.BITS[name]) - 1
        packed = int.from_bytes(oracle.pack(name, codes), "little")
        out |= {b for b in range(packed.bit_length()) if packed >> b & 1}
    return out


def test_arguments_are_checked():
    with pytest.raises(errors.RuvqError, match="q8_0"):
        kernels.check("q8_0", bytes(34), 1, 33)
    with pytest.raises(errors.RuvqError, match="rows"):
        kernels.check("pi-t3", bytes(98), -1, 256)
