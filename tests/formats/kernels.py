"""The C core's format functions over bytes and NumPy arrays, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from formats import oracle, oracle_ggml
from ruvq import core

SIMD, SCALAR, SIMD128, AVX2, AVX512 = VARIANTS = range(5)  # a machine without one runs the next below
SEED = 20_261_120
WIDTHS = [1, 2, 3, 8, 15, 16, 17, 31, 33, 43, 64, 65, 127, 128, 129, 172, 192, 255, 256, 257]
WIDTHS += [300, 511, 512, 576, 896, 1023, 2048]


def number(name: str) -> int:
    """RQ_FORMAT_* of a name."""
    return oracle.FORMATS.index(name)


def widths(name: str, choices: list[int] = WIDTHS) -> list[int]:
    """Those of `choices` that the format can hold."""
    return [w for w in choices if w % oracle.BLOCK_WEIGHTS.get(name, 1) == 0]


def sources(folder: Path) -> list[Path]:
    """What products and the self-test take of wasm_kernels, or of a copy of it."""
    found = [*(folder / "formats").glob("*.c"), *(folder / "base").glob("*.c")]
    return [path for path in found if not path.name.startswith(("encode", "compare"))]


def decode(name: str, data: bytes, rows: int, width: int, variant: int = SIMD) -> np.ndarray:
    """(rows, width) f32."""
    c = core.get()
    with c.place(data) as source, c.alloc(4 * rows * width) as out:
        c.call("rq_decode", number(name), source.address, rows, width, out.address, variant)
        return np.frombuffer(c.read(out.address, 4 * rows * width), "<f4").reshape(rows, width)


def matvec(name: str, data: bytes, rows: int, x: np.ndarray, variant: int = SIMD) -> np.ndarray:
    """(rows) f32."""
    c, width = core.get(), len(x)
    scratch_bytes = c.call("rq_matvec_scratch", number(name), width)
    x = np.ascontiguousarray(x, "<f4")
    with c.place(data) as w, c.place(x) as v, c.alloc(4 * rows) as y, c.alloc(scratch_bytes) as scratch:
        c.call(
            "rq_matvec", number(name), w.address, rows, width, v.address, y.address,
            scratch.address, scratch.end, variant,
        )  # fmt: skip
        return np.frombuffer(c.read(y.address, 4 * rows), "<f4")


def check(name: str, data: bytes, rows: int, width: int) -> None:
    """rq_check_rows, raising what it finds."""
    c = core.get()
    with c.place(data) as source:
        c.call("rq_check_rows", number(name), source.address, rows, width)


def hadamard(x: np.ndarray, seed: int, inverse: bool = False, variant: int = SIMD) -> np.ndarray:
    """A transformed copy of x (rows, width)."""
    c = core.get()
    x = np.ascontiguousarray(np.atleast_2d(x), "<f4")
    with c.alloc(x.nbytes) as memory:
        c.write(memory.address, x)
        c.call("rq_hadamard", memory.address, *x.shape, seed & 0xFFFFFFFF, seed >> 32, int(inverse), variant)
        return np.frombuffer(c.read(memory.address, x.nbytes), "<f4").reshape(x.shape)


def orthogonal(x: np.ndarray, seed: int, inverse: bool = False) -> np.ndarray:
    """A rotated copy of x (rows, width)."""
    c = core.get()
    x = np.ascontiguousarray(np.atleast_2d(x), "<f4")
    scratch = c.call("rq_orthogonal_scratch", x.shape[1])
    with c.alloc(max(x.nbytes, 16)) as memory, c.alloc(max(scratch, 16)) as room:
        c.write(memory.address, x)
        halves = seed & 0xFFFFFFFF, seed >> 32
        c.call("rq_orthogonal", memory.address, *x.shape, *halves, int(inverse), room.address, room.end)
        return np.frombuffer(c.read(memory.address, x.nbytes), "<f4").reshape(x.shape)


def random_rows(name: str, rows: int, width: int, rng: np.random.Generator, extreme: bool = False) -> bytes:
    """Valid rows: random codes, zero padding, scales of ordinary size or from the ends of their range."""
    data = rng.integers(0, 256, (rows, oracle.row_bytes(name, width)), np.uint8)
    if name in oracle.FLOATS:
        values = rng.normal(size=(rows, width)).astype("<f4")
        if extreme:
            values *= np.float32(2.0) ** rng.integers(-20, 12, (rows, width)).astype(np.float32)
        if name == "f16":
            return values.astype("<f2").tobytes()
        return values.tobytes() if name == "f32" else (values.view("<u4") >> 16).astype("<u2").tobytes()
    for row in data:
        if name in oracle.GGML:
            layout = oracle_ggml.LAYOUTS[name]
            for block in row.reshape(-1, layout.bytes):
                _set_scales(name, block, rng, extreme)
            continue
        if name in oracle.BLOCK_WEIGHTS:
            unit = oracle.BLOCK_WEIGHTS[name]
            size = oracle.row_bytes(name, unit)
            for at in range(0, len(row), size):
                place = at if name == "q8_0" else at + size - 2
                row[place : place + 2] = _scale(name, rng, extreme)
            continue
        end = 0
        for r in oracle.blocks(width):
            start, end = end, end + sum(oracle.plane_bytes(name, r)) + 2
            _clear_padding(name, row[start:end], r)
            row[end - 2 : end] = _scale(name, rng, extreme)
    return data.tobytes()


def _scale(name: str, rng: np.random.Generator, extreme: bool) -> list[int]:
    """Two header bytes."""
    if name in oracle.TRELLIS:
        alpha = rng.choice([0, 1, 7, 8, 247]) if extreme else rng.integers(90, 140)
        return [int(alpha), int(rng.integers(0, 256))]
    bits = int(rng.choice([0, 1, 0x3FF, 0x400, 0x7BFF])) if extreme else int(rng.integers(0x1400, 0x3000))
    if "ternary" not in name and rng.random() < 0.5:
        bits |= 0x8000
    return [bits & 255, bits >> 8]


def _set_scales(name: str, block: np.ndarray, rng: np.random.Generator, extreme: bool) -> None:
    """Finite scales where a block of one of ggml's formats has them; everything else stays random."""
    for at in oracle_ggml.LAYOUTS[name].exponents:
        if name == "mxfp4":
            block[at] = rng.choice([0, 1, 2, 200]) if extreme else rng.integers(110, 130)
        elif name == "q8_k":
            scale = rng.choice([0, 2.0**-149, 2.0**-126, -1e30]) if extreme else rng.normal() / 100
            block[at - 3 : at + 1] = np.array([scale], "<f4").view(np.uint8)
        elif name == "iq1_m":  # sign and upper exponent bits share a byte with a scale
            block[at] = block[at] & 15 | int(rng.choice([0, 1, 2, 3, 8, 9, 10, 11])) << 4
        else:
            block[at - 1 : at + 1] = _scale(name, rng, extreme)


def _clear_padding(name: str, block: np.ndarray, r: int) -> None:
    """Zeroes what belongs to no weight, and turns ternary code 3 into 2, by rewriting every code."""
    codes = oracle.block_codes(name, block.tobytes(), r)
    if "ternary" in name:
        codes = np.minimum(codes, 2)
    block[:] = np.frombuffer(oracle.pack(name, codes) + bytes(2), np.uint8)
