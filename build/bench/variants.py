"""Products of every format with each set of instructions this machine has: nanoseconds a weight, one thread.

    python build/bench/variants.py
    python build/bench/variants.py --formats q4_k q6_k q8_0 --widths 768 2048 --rounds 60

rq_matvec on 1 MB of weights, which stay in the cache; the least of interleaved rounds, so that other work on
the machine counts for little. The table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "py")]

import numpy as np  # noqa: E402

from random_models import random_rows  # noqa: E402
from ruvq import core, formats  # noqa: E402
from ruvq.core import CONSTANTS  # noqa: E402
from timing import interleaved  # noqa: E402

VARIANTS = ("SCALAR", "SIMD128", "AVX2", "AVX512")
GGML = {  # upper bytes of a block's f16 scales: (block bytes, places)
    "q4_0": (18, (1,)),
    "q4_1": (20, (1, 3)),
    "q5_0": (22, (1,)),
    "q5_1": (24, (1, 3)),
    "q2_k": (84, (81, 83)),
    "q3_k": (110, (109,)),
    "q4_k": (144, (1, 3)),
    "q5_k": (176, (1, 3)),
    "q6_k": (210, (209,)),
    "iq4_nl": (18, (1,)),
    "iq4_xs": (136, (1,)),
}
FORMATS = ("pi-t2", "pi-t3", "pi-x2", "pi-x3", "pi-q2", "pi-q3", "ternary", "q8_0", "f16", "f32", *GGML)
BYTES = 1_000_000


def rows_of(name: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random rows; scales of ggml's blocks near 0.01."""
    if name not in GGML:
        return random_rows(name, rows, width, rng)
    block, places = GGML[name]
    data = rng.integers(0, 256, (rows, formats.get(name).row_bytes(width)), np.uint8)
    blocks = data.reshape(rows, -1, block)
    for place in places:
        blocks[..., place] = 0x20
    return data


def timed(name: str, width: int, variant: int) -> tuple[Callable[[], float], int]:
    """A call that gives the seconds of one product, and the weights in it."""
    c = core.get()
    number = formats.get(name).id
    count = max(16, BYTES // formats.get(name).row_bytes(width) // 16 * 16)
    data = c.place(np.ascontiguousarray(rows_of(name, count, width, np.random.default_rng(1))))
    x = c.place(np.sin(np.arange(1, width + 1, dtype=np.float32)))
    y, scratch = c.alloc(4 * count), c.alloc(c.call("rq_matvec_scratch", number, width))

    def seconds() -> float:
        where = (number, data.address, count, width, x.address, y.address, scratch.address, scratch.end)
        start = time.perf_counter()
        c.call("rq_matvec", *where, variant)
        return time.perf_counter() - start

    return seconds, count * width


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--widths", type=int, nargs="+", default=[768, 2048])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    here = [v for v in VARIANTS if core.get().raw("rq_variant", CONSTANTS[f"RQ_{v}"]) == CONSTANTS[f"RQ_{v}"]]
    report: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.formats:
        for width in options.widths:
            pairs = {variant: timed(name, width, CONSTANTS[f"RQ_{variant}"]) for variant in here}
            samples = interleaved({v: call for v, (call, _) in pairs.items()}, options.rounds)
            figures = {v: 1e9 * min(samples[v]) / weights for v, (_, weights) in pairs.items()}
            report.setdefault(name, {})[str(width)] = figures
    print(f"ns a weight   {'  '.join(f'{v:>8}' for v in here)}", file=sys.stderr)
    for name, by_width in report.items():
        for shown, figures in by_width.items():
            print(f"{name:8} {shown:>5}  {'  '.join(f'{figures[v]:8.4f}' for v in here)}", file=sys.stderr)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
