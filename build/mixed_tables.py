"""Designs the tables of pi-x3 and pi-x2 and prints them as wasm_kernels/formats/own.c has them.

    python build/mixed_tables.py --bits 2 --seeds 12      prints every seed's error, then the best tables

As in build/format_search.py, which measures what they are worth: a generalised Lloyd algorithm on Gaussian
weights of which each 64 take the best of four scales, from random starts; the seed whose integer tables have
the least error on other Gaussian weights wins. C[k] = pi u / k, with u so that the root mean square over all
branches is that of pi-t3's or pi-t2's, whatever the tables' unit is. Needs clang-19.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from trellis.candidates import MIXED
from trellis.design import BLOCK, GROUP, Designer, Effort
from trellis.headers import KS, ByteAndK
from trellis.viterbi import search

TESTED_BLOCKS = 1024


def error_of(designer: Designer, tables: list[np.ndarray]) -> float:
    """Mean squared error of unit Gaussian weights that the design hasn't seen, alpha free."""
    random = np.random.default_rng(1 << 20)
    x = random.standard_normal((TESTED_BLOCKS, BLOCK)).astype(np.float32)
    trellis = designer.code.trellis(tables)
    tries = ByteAndK(designer.code.bits, radius=2).scales(x, trellis.values)
    costs = [search(trellis, x, scales, GROUP).cost for scales in tries]
    return float(np.min(costs, axis=0).sum(dtype=np.float64)) / x.size


def constants(bits: int, values: np.ndarray) -> list[str]:
    """C[k] of k = 2 to 5, as hexadecimal f32."""
    header = ByteAndK(bits)
    numbers = header.constants(values)
    return [float(c).hex().replace("0000000p", "p") + "f" for c, _ in zip(numbers, KS, strict=True)]


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bits", type=int, choices=sorted(MIXED), required=True)
    parser.add_argument("--seeds", type=int, default=12, help="designs, from seed 0 on (default 12)")
    parser.add_argument("--blocks", type=int, default=Effort.blocks, help="of 256 weights, for the design")
    args = parser.parse_args()
    if args.seeds < 1 or args.blocks < 1:
        parser.error("expected at least one seed and one block")
    best: tuple[float, list[np.ndarray]] | None = None
    code = MIXED[args.bits]
    for seed in range(args.seeds):
        designer = Designer(code, Effort(blocks=args.blocks), seed)
        tables = designer.design()
        error = error_of(designer, tables)
        print(f"seed {seed}: {-10 * np.log10(error):.3f} dB", file=sys.stderr, flush=True)
        if best is None or error < best[0]:
            best = error, tables
    assert best is not None
    for table in best[1]:
        print("{" + ", ".join(str(int(v)) for v in table) + "},")
    print(", ".join(constants(args.bits, code.trellis(best[1]).values)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
