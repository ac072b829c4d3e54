"""How long quantizing a model takes: random BF16 weights in a real shape, through ruvq.quantize_model.

    python build/bench/quantize_time.py            Qwen2.5-0.5B's shape to pi-t2, by a temporary file of 1 GB
    python build/bench/quantize_time.py --shape M --format pi-t3 --threads 2
    python build/bench/quantize_time.py --calibration-tokens 32768 --layers 2    calibrated, from a slice

Prints one line of JSON: seconds by the clock and of processor time (which other work on the machine doesn't
change), and weights per second by the clock. With --layers a model of so many layers and a vocabulary of
8,192 is measured, and `estimate_seconds` says what the whole shape takes, by layers and embedding rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "py")]

from random_models import SHAPES, write_model  # noqa: E402
from ruvq import quantize_model  # noqa: E402
from ruvq.calibrate import calibrate  # noqa: E402
from ruvq.quantize.chunks import thread_count  # noqa: E402

SLICE_VOCABULARY = 8192


def measure_encoding(
    shape: str,
    format_name: str,
    threads: int | None = None,
    *,
    layers: int | None = None,
    tokens: int = 0,
    sequential: bool = False,
) -> dict[str, Any]:
    """Seconds by the clock and of processor time, weights a second, size and quality of the result.

    `layers`: of a slice instead of the whole shape. `tokens`: of calibration, 0 for none.
    """
    whole = SHAPES[shape]
    used = (
        whole if layers is None else replace(whole, layers=layers, vocab=min(whole.vocab, SLICE_VOCABULARY))
    )
    calibration: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source.gguf", Path(name) / "target.gguf"
        write_model(source, used, "bf16")
        if tokens:
            text, artifact = Path(name) / "text.txt", Path(name) / "calibration.gguf"
            letters = np.random.default_rng(1).integers(97, 123, 8 * tokens, np.uint8)
            letters[::6] = ord(" ")
            text.write_bytes(letters.tobytes())
            before = time.process_time()
            report = calibrate(source, [str(text)], artifact, max_tokens=tokens, threads=threads)
            calibration = {
                "tokens": report.tokens,
                "calibration_seconds": report.seconds,
                "calibration_processor_seconds": round(time.process_time() - before, 2),
            }
        options = {"calibration": artifact, "sequential": sequential} if tokens else {}
        started, before = time.perf_counter(), time.process_time()
        result = quantize_model(source, target, format_name, threads=threads, progress=False, **options)
        seconds, processor = time.perf_counter() - started, time.process_time() - before
    out = {
        "shape": shape,
        "format": format_name,
        "threads": thread_count(threads),
        "weights": result.parameters,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "weights_per_second": round(result.parameters / seconds),
        "file_bytes": result.file_bytes,
        "snr_db": round(result.snr_db, 2),
        **calibration,
        "sequential": sequential,
    }
    if layers is not None:
        embedding = next(t.seconds for t in result.tensors if t.name == "token_embd.weight")
        per_layer = (seconds - embedding + calibration.get("calibration_seconds", 0.0)) / layers
        out["layers"] = layers
        out["embedding_seconds"] = round(embedding, 2)
        out["estimate_seconds"] = round(per_layer * whole.layers + embedding * whole.vocab / used.vocab)
    return out


def main() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="Q")
    parser.add_argument("--format", default="pi-t2")
    parser.add_argument("--threads", type=int, default=None, help="default: one a processor")
    parser.add_argument("--layers", type=int, help="measure a slice of so many layers")
    parser.add_argument("--calibration-tokens", type=int, default=0)
    parser.add_argument("--sequential", action="store_true")
    options = parser.parse_args()
    result = measure_encoding(
        options.shape,
        options.format,
        options.threads,
        layers=options.layers,
        tokens=options.calibration_tokens,
        sequential=options.sequential,
    )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
