"""Small figures beside the kernels: the Hadamard transform of 4,096 values, natively and in Chromium, and
quantization with a given scale, natively on all cores. The targets name them; `make bench` measures them too.

    python build/bench/extras.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import ruvq  # noqa: E402
from page import browser_page, in_browser  # noqa: E402
from ruvq import core  # noqa: E402
from ruvq.core import CONSTANTS  # noqa: E402
from timing import interleaved, seconds, summary  # noqa: E402

WIDTH = 4096
ROWS = 32  # vectors of one call: signs are made once, as an engine makes them once for a model
SCALAR = ("pi-q3", "pi-q2")  # the scalar pi formats
GIVEN = 0.02


def measure_extras(page: Any, rounds: int) -> dict[str, Any]:
    """Microseconds of the transform by host; GB/s of floats that the encoders read."""
    c = core.get()
    x = c.place(np.sin(np.arange(ROWS * WIDTH, dtype=np.float32)))
    w = np.random.default_rng(1).normal(size=(1024, WIDTH)).astype(np.float32) * np.float32(GIVEN)
    threads = os.cpu_count() or 1

    def hadamard() -> None:
        c.call("rq_hadamard", x.address, ROWS, WIDTH, 1, 0, 0, CONSTANTS["RQ_SIMD"])

    tasks = {"hadamard": lambda: seconds(hadamard)}
    for name in SCALAR:
        tasks[name] = lambda name=name: seconds(  # type: ignore[misc]
            lambda: ruvq.quantize(w, name, scale=GIVEN, threads=threads)
        )
    times = {name: summary(values)["median"] for name, values in interleaved(tasks, rounds).items()}
    browser = in_browser(page, "hadamard", rows=ROWS, width=WIDTH, rounds=rounds)
    return {
        "hadamard_4096_us": {
            "native": 1e6 * times["hadamard"] / ROWS,
            "chromium": 1e6 * summary(browser["hadamard"])["median"] / ROWS,
        },
        "quantize_given_scale_gb_per_s": {name: w.nbytes / times[name] / 1e9 for name in SCALAR},
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, browser_page(Path(folder) / "files") as (page, _):
        print(json.dumps(measure_extras(page, 5)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
