"""How long quantizing a model takes: random BF16 weights in a real shape, through ruvq.quantize_model.

    python build/bench/quantize_time.py            Qwen2.5-0.5B's shape to pi-t2, by a temporary file of 1 GB
    python build/bench/quantize_time.py --shape M --format pi-t3 --threads 2

Prints one line of JSON: seconds by the clock and of processor time (which other work on the machine doesn't
change), and weights per second by the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "py")]

from random_models import SHAPES, write_model  # noqa: E402
from ruvq import quantize_model  # noqa: E402
from ruvq.quantize.chunks import thread_count  # noqa: E402


def measure_encoding(shape: str, format_name: str, threads: int | None = None) -> dict[str, Any]:
    """Seconds by the clock and of processor time, weights a second, size and quality of the result."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source.gguf", Path(name) / "target.gguf"
        write_model(source, SHAPES[shape], "bf16")
        started, before = time.perf_counter(), time.process_time()
        report = quantize_model(source, target, format_name, threads=threads, progress=False)
        seconds, processor = time.perf_counter() - started, time.process_time() - before
    return {
        "shape": shape,
        "format": format_name,
        "threads": thread_count(threads),
        "weights": report.parameters,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "weights_per_second": round(report.parameters / seconds),
        "file_bytes": report.file_bytes,
        "snr_db": round(report.snr_db, 2),
    }


def main() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="Q")
    parser.add_argument("--format", default="pi-t2")
    parser.add_argument("--threads", type=int, default=None, help="default: one a processor")
    options = parser.parse_args()
    print(json.dumps(measure_encoding(options.shape, options.format, options.threads)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
