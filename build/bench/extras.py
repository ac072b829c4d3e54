"""Small figures beside the kernels: the Hadamard transform of 4,096 values, natively and in Chromium, and
quantization with a given scale, natively on all cores. The targets name them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import ruvq
from page import in_browser
from ruvq import core
from ruvq.core import CONSTANTS
from timing import interleaved, seconds, summary

WIDTH = 4096
SCALAR = ("pi-q3", "pi-q2")  # the scalar pi formats
GIVEN = 0.02


def measure_extras(page: Any, rounds: int) -> dict[str, Any]:
    """Microseconds of the transform by host; GB/s of floats that the encoders read."""
    c = core.get()
    x = c.place(np.sin(np.arange(WIDTH, dtype=np.float32)))
    w = np.random.default_rng(1).normal(size=(1024, WIDTH)).astype(np.float32) * np.float32(GIVEN)
    threads = os.cpu_count() or 1

    def hadamard() -> None:
        c.call("rq_hadamard", x.address, 1, WIDTH, 1, 0, 0, CONSTANTS["RQ_SIMD"])

    tasks = {"hadamard": lambda: seconds(hadamard)}
    for name in SCALAR:
        tasks[name] = lambda name=name: seconds(  # type: ignore[misc]
            lambda: ruvq.quantize(w, name, scale=GIVEN, threads=threads)
        )
    times = {name: summary(values)["median"] for name, values in interleaved(tasks, rounds).items()}
    browser = in_browser(page, "hadamard", width=WIDTH, rounds=rounds)
    return {
        "hadamard_4096_us": {
            "native": 1e6 * times["hadamard"],
            "chromium": 1e6 * summary(browser["hadamard"])["median"],
        },
        "quantize_given_scale_gb_per_s": {name: w.nbytes / times[name] / 1e9 for name in SCALAR},
    }
