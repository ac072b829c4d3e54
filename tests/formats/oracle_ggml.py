"""Blocks of the formats that ggml defines, in NumPy; tests hold it to the gguf package where that has them.

A block is integers, scales and, in some formats, offsets: weight i is value[i] · scale[p] + offset[p] with
p = i // part.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import gguf

f32 = np.float32


class Layout(NamedTuple):
    """Weights and bytes of a block, weights that share a scale, whether parts have an offset, and the places
    of the bytes with the sign and the upper exponent bits of f16 and f32 scales (of MXFP4: the exponent)."""

    weights: int
    bytes: int
    part: int
    offsets: bool
    exponents: tuple[int, ...]


LAYOUTS = {
    "q4_0": Layout(32, 18, 32, False, (1,)),
    "q4_1": Layout(32, 20, 32, True, (1, 3)),
    "q5_0": Layout(32, 22, 32, False, (1,)),
    "q5_1": Layout(32, 24, 32, True, (1, 3)),
    "q8_1": Layout(32, 36, 32, False, (1,)),
    "q2_k": Layout(256, 84, 16, True, (81, 83)),
    "q3_k": Layout(256, 110, 16, False, (109,)),
    "q4_k": Layout(256, 144, 32, True, (1, 3)),
    "q5_k": Layout(256, 176, 32, True, (1, 3)),
    "q6_k": Layout(256, 210, 16, False, (209,)),
    "q8_k": Layout(256, 292, 256, False, (3,)),
    "iq4_nl": Layout(32, 18, 32, False, (1,)),
    "iq4_xs": Layout(256, 136, 32, False, (1,)),
    "tq1_0": Layout(256, 54, 256, False, (53,)),
    "tq2_0": Layout(256, 66, 256, False, (65,)),
    "mxfp4": Layout(32, 17, 32, False, (0,)),
    "nvfp4": Layout(64, 36, 16, False, ()),
    "q1_0": Layout(128, 18, 128, False, (1,)),
    "q2_0": Layout(64, 18, 64, False, (1,)),
    "iq1_s": Layout(256, 50, 32, False, (1,)),
    "iq1_m": Layout(256, 56, 16, False, (55,)),
    "iq2_xxs": Layout(256, 66, 32, False, (1,)),
    "iq2_xs": Layout(256, 74, 16, False, (1,)),
    "iq2_s": Layout(256, 82, 16, False, (1,)),
    "iq3_xxs": Layout(256, 98, 32, False, (1,)),
    "iq3_s": Layout(256, 110, 32, False, (1,)),
}
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


def half(b: np.ndarray, at: int) -> np.float32:
    """The f16 at a place, as f32."""
    return f32(b[at : at + 2].copy().view("<f2")[0])


def bits(b: np.ndarray, width: int) -> np.ndarray:
    """(256 / width ..., bytes): the fields of `width` bits, the lowest of all bytes first."""
    return np.stack([b >> shift & (1 << width) - 1 for shift in range(0, 8, width)]).astype(np.int64)


def rows(b: np.ndarray, row: int, width: int) -> np.ndarray:
    """Rows of `row` bytes; in each the lowest fields of all bytes come first, then the next."""
    return np.concatenate([bits(part, width).ravel() for part in b.reshape(-1, row)])


def scales_8(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight scales and eight minimums of six bits from 12 bytes."""
    s, m, rest = b.reshape(3, 4).astype(np.int64)
    return (
        np.concatenate([s & 63, rest & 15 | s >> 6 << 4]),
        np.concatenate([m & 63, rest >> 4 | m >> 6 << 4]),
    )


def base_3(b: np.ndarray, digits: int) -> np.ndarray:
    """The leading digits of all bytes, then the next ones, less 1."""
    return np.concatenate([(b.astype(np.int64) * 3**n & 255) * 3 // 256 - 1 for n in range(digits)])


def e4m3(x: int) -> np.float32:
    """Half of an unsigned E4M3 number."""
    if x == 0x7F:
        return f32(0)
    exponent, fraction = x >> 3 & 15, x & 7
    return f32(fraction * 2.0**-10 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 8))


def even_signs(words: np.ndarray) -> np.ndarray:
    """±1 from words of seven bits: (words, 8), an even number of them negative in each."""
    negative = (words[:, None] >> np.arange(7)) & 1
    return 1 - 2 * np.concatenate([negative, negative.sum(1, keepdims=True) & 1], axis=1)


def points(source: str, codes: np.ndarray) -> np.ndarray:
    """(codes, coordinates) of a codebook of the gguf package."""
    book = getattr(gguf.quants, source.upper())
    book.init_grid()
    return book.grid.reshape(book.grid_shape)[codes].astype(np.int64)


def read_lattice(name: str, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers and scales of IQ1, IQ2 and IQ3."""
    eight = np.arange(4) * 7
    if name in ("iq2_xxs", "iq3_xxs"):
        if name == "iq2_xxs":
            groups = b[2:].reshape(8, 8)
            codes, rest = groups[:, :4].ravel(), groups[:, 4:].copy().view("<u4").ravel()
        else:
            codes, rest = b[2:66], b[66:].copy().view("<u4")
        signs = even_signs((rest[:, None].astype(np.int64) >> eight & 127).ravel())
        scales = half(b, 0) * ((rest >> 28).astype(f32) + f32(0.5)) * f32(0.25 if "2" in name else 0.5)
        return points(name, codes).ravel() * signs.ravel(), scales
    if name == "iq2_xs":
        words = b[2:66].copy().view("<u2").astype(np.int64)
        scales = half(b, 0) * (bits(b[66:], 4).T.ravel().astype(f32) + f32(0.5)) * f32(0.25)
        return (points(name, words & 511) * even_signs(words >> 9)).ravel(), scales
    if name == "iq2_s":
        codes = b[2:34] | bits(b[66:74], 2).T.ravel() << 8
        signs = 1 - 2 * bits(b[34:66], 1).T.ravel()
        scales = half(b, 0) * (bits(b[74:], 4).T.ravel().astype(f32) + f32(0.5)) * f32(0.25)
        return points(name, codes).ravel() * signs, scales
    if name == "iq3_s":
        codes = b[2:66] | bits(b[66:74], 1).T.ravel() << 8
        signs = 1 - 2 * bits(b[74:106], 1).T.ravel()
        return points(name, codes).ravel() * signs, half(b, 0) * (2 * bits(b[106:], 4).T.ravel() + 1).astype(
            f32
        )
    if name == "iq1_s":
        words = b[34:].copy().view("<u2").astype(np.int64)
        codes = b[2:34] | (words[:, None] >> np.arange(4) * 3 & 7).ravel() << 8
        eighth = np.repeat(1 - 2 * (words >> 15), 32)
        return 8 * points("iq1_s", codes).ravel() + eighth, half(b, 0) * (2 * (words >> 12 & 7) + 1).astype(
            f32
        ) / f32(8)
    assert name == "iq1_m"
    words, high = b[48:].copy().view("<u2").astype(np.int64), bits(b[32:48], 4).T.ravel()
    d = f32(np.array([(words >> 12 << np.arange(4) * 4).sum()], "<u2").view("<f2")[0])
    scales = d * (2 * (words[:, None] >> np.arange(4) * 3 & 7).ravel() + 1).astype(f32) / f32(8)
    eighth = np.repeat(1 - 2 * (high >> 3), 8)
    return 8 * points("iq1_s", b[:32] | (high & 7) << 8).ravel() + eighth, scales


def read(name: str, block: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Integers (weights), scales (parts) and offsets (parts) of a block."""
    b = np.frombuffer(block, np.uint8)
    if name in ("q4_0", "q4_1", "q5_0", "q5_1"):
        start = 4 if name.endswith("1") else 2
        values = bits(b[-16:], 4).ravel()
        if name.startswith("q5"):
            values = values | np.unpackbits(b[start : start + 4], bitorder="little").astype(np.int64) << 4
        if name.endswith("1"):
            return values, np.array([half(b, 0)]), np.array([half(b, 2)])
        return values - (8 if name == "q4_0" else 16), np.array([half(b, 0)]), None
    if name in ("q8_1", "q8_k"):
        scale = half(b, 0) if name == "q8_1" else f32(b[:4].copy().view("<f4")[0])
        values = b[4 : 4 + LAYOUTS[name].weights].view(np.int8)
        return values.astype(np.int64), np.array([scale]), None
    if name == "q2_k":
        scales = half(b, 80) * (b[:16] & 15).astype(f32)
        return rows(b[16:80], 32, 2), scales, -(half(b, 82) * (b[:16] >> 4).astype(f32))
    if name == "q3_k":
        packed = b[96:108]
        scales = bits(packed[:8], 4).ravel() | bits(packed[8:], 2).ravel() << 4
        values = rows(b[32:96], 32, 2) | bits(b[:32], 1).ravel() << 2
        return values - 4, half(b, 108) * (scales - 32).astype(f32), None
    if name in ("q4_k", "q5_k"):
        scales, minimums = scales_8(b[4:16])
        values = rows(b[-128:], 32, 4)
        if name == "q5_k":
            values = values | bits(b[16:48], 1).ravel() << 4
        return values, half(b, 0) * scales.astype(f32), -(half(b, 2) * minimums.astype(f32))
    if name == "q6_k":
        values = rows(b[:128], 64, 4) | rows(b[128:192], 32, 2) << 4
        return values - 32, half(b, 208) * b[192:208].view(np.int8).astype(f32), None
    if name == "iq4_nl":
        return IQ4[bits(b[2:], 4).ravel()], np.array([half(b, 0)]), None
    if name == "iq4_xs":
        low = bits(b[4:8], 4).T.ravel()
        high = np.array([int(b[2 + p // 4]) >> 2 * (p % 4) & 3 for p in range(8)])
        scales = half(b, 0) * ((low | high << 4) - 32).astype(f32)
        return IQ4[rows(b[8:], 16, 4)], scales, None
    if name == "tq1_0":
        values = np.concatenate([base_3(b[:32], 5), base_3(b[32:48], 5), base_3(b[48:52], 4)])
        return values, np.array([half(b, 52)]), None
    if name == "tq2_0":
        return rows(b[:64], 32, 2) - 1, np.array([half(b, 64)]), None
    if name == "mxfp4":
        return FP4[bits(b[1:], 4).ravel()], np.array([f32(2.0 ** (int(b[0]) - 128))]), None
    if name == "nvfp4":
        return FP4[rows(b[4:], 8, 4)], np.array([e4m3(int(x)) for x in b[:4]]), None
    if name == "q1_0":
        return 2 * bits(b[2:], 1).T.ravel() - 1, np.array([half(b, 0)]), None
    if name == "q2_0":
        return bits(b[2:], 2).T.ravel() - 1, np.array([half(b, 0)]), None
    return (*read_lattice(name, b), None)
