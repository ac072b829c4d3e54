"""What build/format_search.py compares: codes, where their tables come from, side information, kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .codes import Code, code, windowed
from .headers import ByteAndK, Half, Header, RowAndSteps

# docs/formats.md
TABLES = {
    3: [-11, 26, -4, 3, -34, 43, 14, -20, 33, -27, -14, -48, 8, -4, 63, 20,
        -20, -63, 4, -8, 48, 14, 27, -33, 20, -14, -43, 34, -3, 4, -26, 11],
    2: [9, 39, -14, -41, -21, -1, 26, 63, -63, -26, 1, 21, 41, 14, -39, -9],
}  # fmt: skip
C = {
    bits: tuple(float.fromhex(c) for c in hexes.split())
    for bits, hexes in {
        3: "0x1.1046b0p-4 0x1.6b08ecp-5 0x1.1046b0p-5 0x1.b3a44ep-6",
        2: "0x1.b1d814p-5 0x1.213ab8p-5 0x1.b1d814p-6 0x1.5b1342p-6",
    }.items()
}
# of pi-x3 and pi-x2: A and B
TABLES_MIXED = {
    3: [
        [-28, 18, -6, -14, -10, -12, 4, -2, 2, -4, 12, 10, 14, 6, -18, 28],
        [22, -26, 2, -16, 11, -35, -8, 3, -3, 8, 35, -11, 16, -2, 26, -22],
    ],
    2: [
        [4, -4, 6, -1, 11, -8, 7, -3, 3, -7, 8, -11, 1, -6, 4, -4],
        [10, -7, 31, -28, -23, 13, -5, 52, -52, 5, -13, 23, 28, -31, 7, -10],
    ],
}
WINDOWS = {3: 5, 2: 4}  # bits that a weight of pi-t3 and pi-t2 depends on
SHIPPED = {3: "pi-t3", 2: "pi-t2"}


@dataclass(frozen=True)
class Candidate:
    """`tables`: given, or designed if None; `after`: start the design from that candidate's table; `kernel`:
    the kind of kernels.c, or None where only the lookups of a plain table are known."""

    name: str
    code: Code
    header: Header
    kernel: str | None = None
    tables: tuple[np.ndarray, ...] | None = None
    after: str | None = None
    tail_biting: bool = False
    reference: bool = False  # far too slow to decode or to encode: says what is possible
    encoder: str | None = None  # written by ruvq's own encoder for this format, not searched here

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.code.bits

    @property
    def branches(self) -> int:
        """That the encoder looks at for each weight and scale."""
        return self.code.came.size


def _pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two codes of two bits, the newer above."""
    return a << 2 | b


def _upper(ages: Sequence[np.ndarray], at: int) -> np.ndarray:
    """i(t - at) of the 2-bit plane of 3-bit codes."""
    return _pair(ages[at] >> 1, ages[at + 1] >> 1)


def _lowest(ages: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The lowest bits of the latest codes, the newest highest."""
    out = np.zeros_like(ages[0])
    for age in ages[:count]:
        out = out << 1 | age & 1
    return out


def two_tables(bits: int, masks: Sequence[int], indices: Callable[[Sequence[np.ndarray]], list]) -> Code:
    """Two additive tables of 16."""
    return code(bits, masks, indices, (16, 16))


def _oldest_first(ages: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The lowest bits of the latest codes, the oldest highest."""
    return _lowest(ages[count - 1 :: -1], count)


# of pi-x3 and pi-x2
MIXED = {
    3: two_tables(3, (7, 7, 1), lambda g: [_upper(g, 0), _oldest_first(g, 4) ^ _upper(g, 1)]),
    2: two_tables(2, (3, 3, 3), lambda g: [_pair(g[0], g[1]), _pair(g[1] ^ g[2], g[0] ^ g[3])]),
}


def mad(window: np.ndarray) -> np.ndarray:
    """QTIP's 1MAD (Tseng et al., 2024): the sum of the four bytes of a product, nearly Gaussian."""
    x = (window.astype(np.uint64) * 34038481 + 76625530) & 0xFFFFFFFF
    total = sum((x >> shift & 255).astype(np.int64) for shift in (0, 8, 16, 24))
    return np.asarray((total - 510) / 147.800537, np.float32)


def inst(window: np.ndarray) -> np.ndarray:
    """QTIP's 3INST: the sum of two f16 whose signs, lowest exponent and mantissas are bits of a product."""
    x = (window.astype(np.uint64) * 89226354 + 64248484) & 0xFFFFFFFF
    x = x & 0x8FFF8FFF ^ 0x3B603B60
    halves = [(x >> shift & 0xFFFF).astype(np.uint16).view(np.float16) for shift in (16, 0)]
    return (halves[0].astype(np.float32) + halves[1].astype(np.float32)).astype(np.float32)


def _shipped(bits: int) -> list[Candidate]:
    """The format as it is, and with other side information."""
    name, plain = SHIPPED[bits], windowed(bits, WINDOWS[bits])
    kernel, tables = name.replace("-", "_"), (np.array(TABLES[bits], np.float32),)

    def with_header(label: str, header: Header, **more: Any) -> Candidate:
        return Candidate(f"{name}{label}", plain, header, kernel, tables, **more)

    own = ByteAndK(bits, c=C[bits])
    return [
        with_header("", own),
        with_header(" as ruvq quantize writes it", own, encoder=name),
        with_header(", tail-biting", own, tail_biting=True),
        *(
            with_header(f", k in {', '.join(map(str, ks))}" + " per 32" * (len(ks) == 2), ByteAndK(bits, ks))
            for ks in ((2, 3, 4, 6), (3, 4, 5, 6), (4, 5, 6, 7), (6, 7, 8, 9), (2, 3), (3, 4))
        ),
        with_header(", f16 per block", Half()),
        with_header(", f16 per row, 2 bits per 64", RowAndSteps(64, 2, 1.15)),
        with_header(", f16 per row, 2 bits per 32", RowAndSteps(32, 2, 1.2)),
        with_header(", f16 per row, 1 bit per 32", RowAndSteps(32, 1, 1.25)),
    ]


def _mixed(bits: int) -> list[Candidate]:
    """pi-x3 or pi-x2."""
    name = f"pi-x{bits}"
    kernel = "three_crossed" if bits == 3 else "two_swapped"
    tables = tuple(np.array(table, np.float32) for table in TABLES_MIXED[bits])
    tried = Candidate(name, MIXED[bits], ByteAndK(bits), kernel, tables)
    return [tried, replace(tried, name=f"{name} as ruvq quantize writes it", encoder=name)]


def _two_bits() -> list[Candidate]:
    header, masks = ByteAndK(2), (3, 3, 3)
    return [
        Candidate("table of 32", windowed(2, 5), header, after="pi-t2"),
        Candidate("table of 64", windowed(2, 6), header, "two_free", after="table of 32"),
        Candidate("table of 256", windowed(2, 8), header, after="table of 64"),
        Candidate(
            "two tables, of codes t, t-1 and t-1, t-2",
            two_tables(2, masks[:2], lambda g: [_pair(g[0], g[1]), _pair(g[1], g[2])]),
            header,
            "two_before",
        ),
        Candidate(
            "two tables, one mixed with the third code",
            two_tables(2, masks[:2], lambda g: [_pair(g[0] ^ g[2], g[1]), _pair(g[0], g[1])]),
            header,
            "two_16",
        ),
        Candidate(
            "two tables, one of four codes mixed",
            two_tables(2, masks, lambda g: [_pair(g[0], g[1]), _pair(g[0] ^ g[2], g[1] ^ g[3])]),
            header,
            "two_mixed",
        ),
    ]


def _three_bits() -> list[Candidate]:
    header = ByteAndK(3)
    return [
        Candidate("table of 64", windowed(3, 6), header, after="pi-t3"),
        Candidate("table of 128", windowed(3, 7), header, after="table of 64"),
        Candidate("table of 256", windowed(3, 8), header, after="table of 128"),
        Candidate("table of 512", windowed(3, 9), header, after="table of 256"),
        Candidate(
            "table of 128, by planes",
            code(3, (7, 1), lambda g: [_lowest(g, 3) << 4 | _upper(g, 0)], (128,)),
            header,
            "three_free",
        ),
        Candidate(
            "two tables, of the halves of 8 bits",
            two_tables(3, (7, 6), lambda g: [g[0] << 1 | g[1] >> 2, (g[1] & 3) << 2 | g[2] >> 1]),
            header,
        ),
        Candidate(
            "two tables, one of each plane",
            two_tables(3, (7, 1, 1), lambda g: [_upper(g, 0), _lowest(g, 4)]),
            header,
            "three_planes",
        ),
        Candidate(
            "two tables, the lower plane's mixed",
            two_tables(3, (7, 7, 1), lambda g: [_upper(g, 0), _lowest(g, 4) ^ _upper(g, 1)]),
            header,
            "three_mixed",
        ),
    ]


def _computed(bits: int) -> list[Candidate]:
    """References: windows of 16 bits, whose values are computed, not looked up."""
    wide = windowed(bits, 16)
    return [
        Candidate(
            f"{name}, 16 bits",
            wide,
            Half((0.92, 0.96, 1.0)),
            kernel,
            (values(np.arange(1 << 16)),),
            reference=True,
        )
        for name, values, kernel in (("1MAD", mad, "two_hash" if bits == 2 else None), ("3INST", inst, None))
    ]


def candidates(bits: int) -> list[Candidate]:
    """All with codes of so many bits; the first is the format that the others have to beat."""
    tables = _two_bits() if bits == 2 else _three_bits()
    return [*_shipped(bits), *_mixed(bits), *tables, *_computed(bits)]
