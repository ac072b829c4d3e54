"""An independent decoder of every format, and the rules of products, in NumPy, from docs/formats.md alone.

Shares nothing with the C core. Sums that the contract orders are done in that order, one element at a time.
"""

from __future__ import annotations

import numpy as np

from formats import oracle_ggml

f32 = np.float32
FORMATS = ["f32", "f16", "bf16", "q8_0", "pi-q3", "pi-q2", "pi-t3", "pi-t2", "ternary", "pi-ternary"]
MIXED = ("pi-x3", "pi-x2")
FORMATS += ["pi-q3-ruvllm", "pi-q2-ruvllm", *oracle_ggml.LAYOUTS, *MIXED]
OWN = [*FORMATS[4:10], *MIXED]
TRELLIS = ("pi-t3", "pi-t2", *MIXED)
FLOATS = FORMATS[:3]
WRITABLE = [*FORMATS[:12], *MIXED]  # by every build of the core
GGML = list(oracle_ggml.LAYOUTS)
GGML_WRITTEN = ["q4_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0"]
GGML_WRITTEN += ["iq2_xxs", "iq2_xs", "iq3_xxs"]  # by the desktop's
WRITTEN = [name for name in FORMATS if name in {*WRITABLE, *GGML_WRITTEN}]
BLOCK_WEIGHTS = {"q8_0": 32, "pi-q3-ruvllm": 256, "pi-q2-ruvllm": 256}
BLOCK_WEIGHTS |= {name: layout.weights for name, layout in oracle_ggml.LAYOUTS.items()}
BLOCK_BYTES = {"q8_0": 34, "pi-q3-ruvllm": 98, "pi-q2-ruvllm": 66}
BLOCK_BYTES |= {name: layout.bytes for name, layout in oracle_ggml.LAYOUTS.items()}
BITS = {"pi-q3": 3, "pi-t3": 3, "pi-x3": 3, "pi-q2": 2, "pi-t2": 2, "pi-x2": 2, "ternary": 2, "pi-ternary": 2}
OFFSET = {"pi-q3": 4, "pi-q2": 2, "ternary": 1, "pi-ternary": 1, "pi-q3-ruvllm": 4, "pi-q2-ruvllm": 2}
T3 = np.array(
    [
        *(-11, 26, -4, 3, -34, 43, 14, -20, 33, -27, -14, -48, 8, -4, 63, 20),
        *(-20, -63, 4, -8, 48, 14, 27, -33, 20, -14, -43, 34, -3, 4, -26, 11),
    ]
)
T2 = np.array([9, 39, -14, -41, -21, -1, 26, 63, -63, -26, 1, 21, 41, 14, -39, -9])
A = {
    "pi-x3": np.array([-28, 18, -6, -14, -10, -12, 4, -2, 2, -4, 12, 10, 14, 6, -18, 28]),
    "pi-x2": np.array([4, -4, 6, -1, 11, -8, 7, -3, 3, -7, 8, -11, 1, -6, 4, -4]),
}
B = {
    "pi-x3": np.array([22, -26, 2, -16, 11, -35, -8, 3, -3, 8, 35, -11, 16, -2, 26, -22]),
    "pi-x2": np.array([10, -7, 31, -28, -23, 13, -5, 52, -52, 5, -13, 23, 28, -31, 7, -10]),
}
C = {
    "pi-t3": [
        f32(float.fromhex(c)) for c in ("0x1.1046b0p-4", "0x1.6b08ecp-5", "0x1.1046b0p-5", "0x1.b3a44ep-6")
    ],
    "pi-t2": [
        f32(float.fromhex(c)) for c in ("0x1.b1d814p-5", "0x1.213ab8p-5", "0x1.b1d814p-6", "0x1.5b1342p-6")
    ],
    "pi-x3": [
        f32(float.fromhex(c)) for c in ("0x1.4bb9ecp-4", "0x1.ba4d3ap-5", "0x1.4bb9ecp-5", "0x1.09618ap-5")
    ],
    "pi-x2": [
        f32(float.fromhex(c)) for c in ("0x1.0b7f30p-4", "0x1.64a994p-5", "0x1.0b7f30p-5", "0x1.abfeb2p-6")
    ],
}


def steps_of(r: int) -> int:
    """Steps of a block of r weights in 16 lanes."""
    return -(-r // 16)


def plane_bytes(name: str, r: int) -> tuple[int, int]:
    """Bytes of the 2-bit and of the 1-bit plane of a block of r weights."""
    s = steps_of(r)
    left = s % 8
    one = 16 * (s // 8) + (0 if left == 0 else 8 if left <= 4 else 16)
    return 16 * -(-s // 4), one if BITS[name] == 3 else 0


def row_bytes(name: str, width: int) -> int:
    """Bytes of a row."""
    if name in FLOATS:
        return width * (4 if name == "f32" else 2)
    if name in BLOCK_WEIGHTS:
        assert width % BLOCK_WEIGHTS[name] == 0
        return width // BLOCK_WEIGHTS[name] * BLOCK_BYTES[name]
    return sum(sum(plane_bytes(name, r)) + 2 for r in blocks(width))


def blocks(width: int) -> list[int]:
    """Weights of each block of a row."""
    return [256] * (width // 256) + ([width % 256] if width % 256 else [])


def half(data: bytes) -> np.float32:
    """A little-endian f16 as f32."""
    return f32(np.frombuffer(data, "<f2", 1)[0])


def block_codes(name: str, block: bytes, r: int) -> np.ndarray:
    """Codes (r) of a block."""
    s, (two, one) = steps_of(r), plane_bytes(name, r)
    codes = np.zeros(r, np.int64)
    for i in range(r):
        lane, step = divmod(i, s)
        code = block[16 * (step // 4) + lane] >> (2 * (step % 4)) & 3
        if one:
            group, bit = divmod(step, 8)
            plane = block[two : two + one]
            if group == s // 8 and s % 8 <= 4:
                low = plane[16 * group + lane % 8] >> (4 * (lane // 8)) >> bit & 1
            else:
                low = plane[16 * group + lane] >> bit & 1
            code = code << 1 | low
        codes[i] = code
    return codes


def pack(name: str, codes: np.ndarray) -> bytes:
    """The planes of a block with these codes (r); the reverse of block_codes."""
    r = len(codes)
    s, (two, one) = steps_of(r), plane_bytes(name, r)
    planes = bytearray(two + one)
    for i, code in enumerate(map(int, codes)):
        lane, step = divmod(i, s)
        planes[16 * (step // 4) + lane] |= (code >> 1 if one else code) << 2 * (step % 4)
        if one:
            group, bit = divmod(step, 8)
            if group == s // 8 and s % 8 <= 4:
                planes[two + 16 * group + lane % 8] |= (code & 1) << 4 * (lane // 8) + bit
            else:
                planes[two + 16 * group + lane] |= (code & 1) << bit
    return bytes(planes)


def trellis_values(name: str, codes: np.ndarray) -> np.ndarray:
    """T of each of the codes (..., weights) of a block."""
    shape = codes.shape

    def ago(n: int) -> np.ndarray:
        return np.concatenate([np.zeros((*shape[:-1], n), np.int64), codes], -1)[..., : shape[-1]]

    if name == "pi-t3":
        return T3[codes << 2 | ago(1) >> 1]
    if name == "pi-t2":
        return T2[codes << 2 | ago(1)]
    if name == "pi-x2":
        return A[name][codes << 2 | ago(1)] + B[name][(ago(1) ^ ago(2)) << 2 | codes ^ ago(3)]
    low = (ago(3) & 1) << 3 | (ago(2) & 1) << 2 | (ago(1) & 1) << 1 | codes & 1
    mixed = ago(1) >> 1 << 2 | ago(2) >> 1
    return A[name][codes >> 1 << 2 | ago(1) >> 1] + B[name][low ^ mixed]


def own_block(name: str, block: bytes, r: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Integer values (r), D of the four groups of lanes, and whether the block is marked all zero."""
    codes, header = block_codes(name, block, r), block[-2:]
    if name not in TRELLIS:
        return codes - OFFSET[name], np.full(4, half(header)), False
    values = trellis_values(name, codes)
    alpha = f32(np.array([header[0] << 7], np.uint16).view(np.float16)[0]) * f32(2.0**-10)
    d = np.array([f32(alpha * C[name][header[1] >> 2 * f & 3]) for f in range(4)], f32)
    return values, d, header[0] == 0


def own_blocks(name: str, row: bytes, width: int):
    """(first weight, weights, values, D, zero) of each block."""
    at = start = 0
    for r in blocks(width):
        size = sum(plane_bytes(name, r)) + 2
        yield (start, r, *own_block(name, row[at : at + size], r))
        at, start = at + size, start + r


def sub_blocks(name: str, row: bytes, width: int):
    """(first weight, integer values, d, offset or None) of each part with a scale of its own."""
    size, count = BLOCK_WEIGHTS[name], width // BLOCK_WEIGHTS[name]
    each = row_bytes(name, size)
    for b in range(count):
        block = row[b * each : (b + 1) * each]
        if name in GGML:
            values, scales, offsets = oracle_ggml.read(name, block)
            part = oracle_ggml.LAYOUTS[name].part
            for p, scale in enumerate(scales):
                offset = None if offsets is None else offsets[p]
                yield b * size + p * part, values[p * part : (p + 1) * part], scale, offset
            continue
        if name == "q8_0":
            yield b * size, np.frombuffer(block[2:], np.int8).astype(np.int64), half(block[:2]), None
            continue
        if name == "pi-q3-ruvllm":
            groups = [int.from_bytes(block[3 * g : 3 * g + 3], "little") for g in range(32)]
            codes = np.array([groups[i // 8] >> 3 * (i % 8) & 7 for i in range(256)])
        else:
            codes = np.array([block[i // 4] >> 2 * (i % 4) & 3 for i in range(256)])
        yield b * size, codes - OFFSET[name], half(block[-2:]), None


def decode(name: str, row: bytes, width: int) -> np.ndarray:
    """Weights (width) as f32."""
    with np.errstate(all="ignore"):
        if name == "f32":
            return np.frombuffer(row, "<f4").copy()
        if name == "f16":
            return np.frombuffer(row, "<f2").astype(f32)
        if name == "bf16":
            return (np.frombuffer(row, "<u2").astype(np.uint32) << 16).view(f32)
        out = np.zeros(width, f32)
        if name in BLOCK_WEIGHTS:
            for start, values, d, offset in sub_blocks(name, row, width):
                weights = values.astype(f32) * d
                out[start : start + len(values)] = weights if offset is None else weights + offset
            return out
        for start, r, values, d, zero in own_blocks(name, row, width):
            if not zero:
                out[start : start + r] = values.astype(f32) * d[np.arange(r) // steps_of(r) // 4]
        return out


def quantize_activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 (width) and dx of each block of 256 and tail."""
    q, scales = np.zeros(len(x), np.int64), []
    for start in range(0, len(x), 256):
        part = x[start : start + 256]
        dx = f32(np.abs(part).max() / f32(127))
        scales.append(dx)
        if dx > 0:
            with np.errstate(over="ignore"):
                q[start : start + len(part)] = np.clip(np.rint((part / dx).astype(f32)), -127, 127)
    return q, np.array(scales, f32)


def dot(name: str, row: bytes, x: np.ndarray) -> np.float32:
    """The product of a row with activations x (width, f32), in the order of the contract."""
    width = len(x)
    with np.errstate(all="ignore"):
        if name in FLOATS:
            w, lanes = decode(name, row, width), np.zeros(16, f32)
            for j in range(0, width, 16):
                part = x[j : j + 16] * w[j : j + 16]
                lanes[: len(part)] = lanes[: len(part)] + part
            for step in (8, 4, 2, 1):
                lanes[:step] = lanes[:step] + lanes[step : 2 * step]
            return lanes[0]
        (q, scales), acc = quantize_activations(x), np.zeros(4, f32)
        if name in BLOCK_WEIGHTS:
            for b, (start, values, d, offset) in enumerate(sub_blocks(name, row, width)):
                part, dx = q[start : start + len(values)], scales[start // 256]
                acc[b % 4] = acc[b % 4] + f32(int((values * part).sum())) * f32(d * dx)
                if offset is not None:
                    acc[b % 4] = acc[b % 4] + f32(int(part.sum())) * f32(offset * dx)
        else:
            for b, (start, r, values, d, _) in enumerate(own_blocks(name, row, width)):
                products, group = values * q[start : start + r], np.arange(r) // steps_of(r) // 4
                for f in range(4):
                    total = f32(int(products[group == f].sum()))
                    acc[f] = acc[f] + total * f32(d[f] * scales[b])
        return f32(f32(acc[0] + acc[1]) + f32(acc[2] + acc[3]))


MASK = (1 << 64) - 1


def splitmix64(seed: int, count: int) -> list[int]:
    """The first `count` outputs of SplitMix64."""
    out = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        out.append(z ^ z >> 31)
    return out


def hadamard_pieces(width: int) -> list[int]:
    """Sizes of the pieces that a width is cut into."""
    out = []
    while width:
        out.append(min(256, 1 << (width.bit_length() - 1)))
        width -= out[-1]
    return out


def hadamard(x: np.ndarray, seed: int) -> np.ndarray:
    """H S x in f32, butterflies of distance 1, 2, 4, ..., then the normalisation."""
    signs = np.array([-1 if z >> 63 else 1 for z in splitmix64(seed, len(x))], f32)
    out, start = (x * signs).astype(f32), 0
    for size in hadamard_pieces(len(x)):
        part, h = out[start : start + size], 1
        while h < size:
            pairs = part.reshape(-1, 2, h)
            a, b = pairs[:, 0].copy(), pairs[:, 1].copy()
            pairs[:, 0], pairs[:, 1] = a + b, a - b
            h *= 2
        part *= f32(1 / np.sqrt(np.float64(size)))
        start += size
    return out


def orthogonal_vectors(width: int, seed: int) -> np.ndarray:
    """(width, width): row m - 1 holds u of H_m = I - u u^T, in f32."""
    outputs = splitmix64(seed, width * (width + 1) // 2)
    out = np.zeros((width, width), f32)
    for m in range(1, width + 1):
        drawn = outputs[m * (m - 1) // 2 : m * (m + 1) // 2]
        g = np.array([sum(int(z).to_bytes(8, "little")) - 1020 for z in drawn], np.float64)
        length = np.sqrt(max(1.0, float(np.sum(g * g))))
        divisor = np.sqrt(length * (length + abs(g[-1])))
        g[-1] += -length if g[-1] < 0 else length
        out[m - 1, :m] = (g / divisor).astype(f32)
    return out


def orthogonal(x: np.ndarray, seed: int, inverse: bool = False) -> np.ndarray:
    """Q x in f32: the reflections one after the other, each sum in 16 lanes."""
    width = len(x)
    lanes = -(-width // 16) * 16
    y = np.zeros(lanes, f32)
    y[:width] = x
    vectors, order = orthogonal_vectors(width, seed), range(2, width + 1)
    for m in reversed(order) if inverse else order:
        u = np.zeros(lanes, f32)
        u[:width] = vectors[m - 1]
        sums = np.zeros(16, f32)
        for i in range(0, -(-m // 16) * 16, 16):
            sums = sums + u[i : i + 16] * y[i : i + 16]
        for half in (8, 4, 2, 1):
            sums = sums[:half] + sums[half : 2 * half]
        y = y - sums[0] * u
    return y[:width]
