"""The data of the core's self-test, made again by the oracle.

`PYTHONPATH=tests python -m formats.golden` prints the constants of wasm_kernels/formats/self_test.c.
"""

from __future__ import annotations

import numpy as np

from formats import oracle, oracle_ggml

WIDTHS = {"q8_0": (288, 352), "pi-q3-ruvllm": (256, 512), "pi-q2-ruvllm": (256, 512)}
WIDTHS |= {
    name: (288, 352) if layout.weights == 32 else (256, 512) for name, layout in oracle_ggml.LAYOUTS.items()
}
DEFAULT_WIDTHS = (300, 360)
HADAMARD_WIDTH, HADAMARD_SEED = 367, 7


def fnv1a(data: bytes) -> int:
    """32-bit FNV-1a."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def random_bytes(seed: int, count: int) -> bytearray:
    """The highest byte of each output of SplitMix64."""
    return bytearray(z >> 56 for z in oracle.splitmix64(seed, count))


def activations(width: int) -> np.ndarray:
    """(width) multiples of 1/64 within +-32."""
    return np.array([(z >> 52) - 2048 for z in oracle.splitmix64(1, width)], np.float32) / np.float32(64)


def golden_row(name: str, width: int) -> bytes:
    """A row with sane scales: see self_test.c."""
    row = random_bytes(100 + oracle.FORMATS.index(name), oracle.row_bytes(name, width))
    if name == "f32" or name == "bf16":
        size = 4 if name == "f32" else 2
        for i in range(size - 1, len(row), size):
            row[i] = 0x3E | row[i] & 0x80  # magnitudes below 1/2
    elif name == "f16":
        for i in range(1, len(row), 2):
            row[i] &= 0xBB  # never NaN or infinity
    elif name in oracle.GGML:
        layout = oracle_ggml.LAYOUTS[name]
        for start in range(0, len(row), layout.bytes):
            for at in layout.exponents:
                row[start + at] = 0x3E | row[start + at] & 0x80
    elif name in oracle.BLOCK_WEIGHTS:
        size = oracle.row_bytes(name, oracle.BLOCK_WEIGHTS[name])
        for i in range(1 if name == "q8_0" else size - 1, len(row), size):
            row[i] = 0x20 | row[i] & 0x80
    else:
        end = 0
        for r in oracle.blocks(width):
            end += sum(oracle.plane_bytes(name, r)) + 2
            if name in oracle.TRELLIS:
                row[end - 2] = 100 + row[end - 2] % 40
            else:
                row[end - 1] = 0x20 | (row[end - 1] & 0x80 if name.startswith("pi-q") else 0)
    return bytes(row)


def main() -> None:
    """Prints the table."""
    for name in oracle.FORMATS:
        cells = []
        for width in WIDTHS.get(name, DEFAULT_WIDTHS):
            row, x = golden_row(name, width), activations(width)
            weights = fnv1a(oracle.decode(name, row, width).astype("<f4").tobytes())
            product = int(np.array([oracle.dot(name, row, x)], "<f4").view("<u4")[0])
            cells.append(f"{{{width}, 0x{weights:08x}u, 0x{product:08x}u}}")
        print(f"    {{{', '.join(cells)}}}, /* {name} */")
    transformed = oracle.hadamard(activations(HADAMARD_WIDTH), HADAMARD_SEED)
    print(f"hadamard: 0x{fnv1a(transformed.astype('<f4').tobytes()):08x}u")


if __name__ == "__main__":
    main()
