"""Measures the encoders: signal-to-noise ratio on real matrices and speed, natively.

    python build/bench/encoders.py                 the table of docs/quantize.md, a minute or two
    python build/bench/encoders.py --rows 64       fewer rows of each matrix

Quality: all of GPT-2's attention projections in the data folder, and Gaussian weights of the same shape;
the figure is the mean of the matrices' ratios in dB. Speed: millions of weights a second, the median of three
rounds interleaved over the rows of the table, one thread. A table goes to standard error, JSON to standard
output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

import ruvq  # noqa: E402
from data_folder import add_data  # noqa: E402
from timing import interleaved, seconds, summary  # noqa: E402

# (format, options): what is compared
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pi-t3", {}),
    ("pi-t3", {"effort": 1}),
    ("pi-t3", {"effort": 247}),
    ("pi-q3", {}),
    ("pi-q3", {"scale": "mse-unsigned"}),
    ("pi-q3", {"scale": "rms"}),
    ("pi-q3", {"scale": "absmax"}),
    ("pi-t2", {}),
    ("pi-t2", {"effort": 247}),
    ("pi-x3", {}),
    ("pi-x2", {}),
    ("pi-q2", {}),
    ("pi-q2", {"scale": "mse-unsigned"}),
    ("ternary", {}),
    ("ternary", {"scale": "absmean"}),
    ("q8_0", {}),
)
ROUNDS = 3


def read_matrices(path: Path, rows: int) -> dict[str, np.ndarray]:
    """The first rows of every matrix of a safetensors file of float32."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        start, count = 8 + length + entry["data_offsets"][0], int(np.prod(entry["shape"]))
        values = np.frombuffer(data, "<f4", count, start).reshape(entry["shape"])
        out[name] = np.ascontiguousarray(values[:rows])
    return out


def mean_snr(matrices: list[np.ndarray], name: str, options: dict[str, Any]) -> float:
    """Mean of the matrices' signal-to-noise ratios in dB."""
    decoded = (ruvq.dequantize(ruvq.quantize(w, name, **options)) for w in matrices)
    return float(np.mean([ruvq.compare(w, y).snr_db for w, y in zip(matrices, decoded, strict=True)]))


def speeds(w: np.ndarray) -> list[float]:
    """Weights a second of every case, one thread."""

    def task(name: str, options: dict[str, Any]) -> Callable[[], float]:
        return lambda: seconds(lambda: ruvq.quantize(w, name, threads=1, **options))

    runs = interleaved({str(i): task(*case) for i, case in enumerate(CASES)}, ROUNDS)
    return [w.size / summary(samples)["median"] for samples in runs.values()]


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add_data(parser)
    parser.add_argument("--rows", type=int, default=768, help="rows of each matrix")
    options = parser.parse_args()
    path = options.data / "gpt2_attention" / "layers_0_5.safetensors"
    real = list(read_matrices(path, options.rows).values())
    gaussian = [np.random.default_rng(1).normal(size=(options.rows, 768)).astype(np.float32)]
    rows = []
    titles = f"{'format':10} {'options':26} {'bits':>7} {'GPT-2 dB':>9} {'Gauss dB':>9} {'M/s':>7}"
    print(titles, file=sys.stderr)
    for (name, case), speed in zip(CASES, speeds(gaussian[0][:96]), strict=True):
        row = {
            "format": name,
            "options": case,
            "bits_per_weight": ruvq.quantize(gaussian[0][:1], name).bits_per_weight,
            "snr_db_gpt2": mean_snr(real, name, case),
            "snr_db_gaussian": mean_snr(gaussian, name, case),
            "weights_per_second": speed,
        }
        rows.append(row)
        shown = ", ".join(f"{key}={value}" for key, value in case.items()) or "default"
        print(
            f"{name:10} {shown:26} {row['bits_per_weight']:7.4f} {row['snr_db_gpt2']:9.2f} "
            f"{row['snr_db_gaussian']:9.2f} {speed / 1e6:7.1f}",
            file=sys.stderr,
        )
    print(json.dumps({"rows_of_each_matrix": options.rows, "encoders": rows}))


if __name__ == "__main__":
    main()
