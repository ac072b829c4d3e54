"""What was tried around rounding, kept or not: transforms of both sides, and what may follow error feedback.

    python build/bench/rounding.py

Prints two tables in dB and ends with the same as one line of JSON. The first: signal to noise of weights,
mean over GPT-2's attention projections (768 x 768) and over stories260K's layers: without a transform, with
the Hadamard transform of the inputs' side, and of both sides. The second: of products with calibration's
inputs, mean over stories260K's matrices (rows of one block), rounded in several ways.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import ruvq  # noqa: E402
from data_folder import add_data  # noqa: E402
from encoders import read_matrices  # noqa: E402
from ruvq import formats  # noqa: E402
from ruvq.calibrate import calibrate  # noqa: E402
from ruvq.formats.transform import Transform  # noqa: E402
from ruvq.quantize import QuantizedTensor, quantize  # noqa: E402
from ruvq.quantize.calibration import Calibration, input_of  # noqa: E402
from ruvq.quantize.feedback import Factor, Guide, factorise, turn  # noqa: E402
from ruvq.quantize.rows import EncodeOptions, RowEncoder  # noqa: E402
from ruvq.sources import open_source  # noqa: E402

TRELLIS, GRIDS = ("pi-t3", "pi-t2"), ("pi-q3", "pi-q2")
SEED, TOKENS, DAMPING, PASSES = 0, 8192, 0.01, 4
# docs/formats.md: [code << 2 | state of the code before]
TABLES = {
    "pi-t3": [-11, 26, -4, 3, -34, 43, 14, -20, 33, -27, -14, -48, 8, -4, 63, 20,
              -20, -63, 4, -8, 48, 14, 27, -33, 20, -14, -43, 34, -3, 4, -26, 11],
    "pi-t2": [9, 39, -14, -41, -21, -1, 26, 63, -63, -26, 1, 21, 41, 14, -39, -9],
}  # fmt: skip


def decibels(signal: float, noise: float) -> float:
    """Ratio of two energies."""
    return float(10 * np.log10(signal / noise))


def transformed(w: np.ndarray, sides: int) -> np.ndarray:
    """(rows, width) after the transform of no side, the inputs' side, or both."""
    if sides:
        w = np.asarray(ruvq.hadamard(w, SEED))
    if sides > 1:
        w = np.ascontiguousarray(np.asarray(ruvq.hadamard(np.ascontiguousarray(w.T), SEED + 1)).T)
    return w


def transforms(matrices: dict[str, list[np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each format and set of matrices: mean SNR in dB by the number of sides."""
    out = []
    for name in (*TRELLIS, *GRIDS):
        for kind, members in matrices.items():
            row: dict[str, Any] = {"format": name, "matrices": kind}
            for sides, label in enumerate(("none", "one side", "both sides")):
                values = [transformed(w, sides) for w in members]
                decoded = [ruvq.dequantize(quantize(w, name)) for w in values]
                snr = [ruvq.compare(a, b).snr_db for a, b in zip(values, decoded, strict=True)]
                row[label] = round(float(np.mean(snr)), 3)
            out.append(row)
    return out


def rounded(w: np.ndarray, format: str, factor: Factor, effort: int = 0) -> tuple[bytes, np.ndarray]:
    """Bytes and decoded weights of `w`, which went through its transform already."""
    options = EncodeOptions(effort=effort)
    encoder = RowEncoder(formats.get(format), w.shape[1], options, None, None, Guide(factor=factor))
    data = encoder.encode(0, w).data
    return data, np.asarray(ruvq.dequantize(QuantizedTensor(format, w.shape, data)))


def act_order(w: np.ndarray, format: str, moment: np.ndarray) -> np.ndarray:
    """Decoded weights of a grid whose columns are rounded in falling order of their diagonal."""
    order = np.argsort(-np.diagonal(moment), kind="stable")
    factor = factorise(np.ascontiguousarray(moment[np.ix_(order, order)]), None, DAMPING, "act-order")
    out = np.empty_like(w)
    out[:, order] = rounded(np.ascontiguousarray(w[:, order]), format, factor)[1]
    return out


def codes_of(data: bytes, format: str, rows: int, width: int) -> np.ndarray:
    """Codes (rows, width) of rows of one block, by docs/formats.md."""
    raw = np.frombuffer(data, np.uint8).reshape(rows, -1)
    steps = -(-width // 16)
    plane = 16 * -(-steps // 4)
    lane, step = np.divmod(np.arange(width), steps)
    codes = (raw[:, 16 * (step // 4) + lane] >> 2 * (step % 4)).astype(int) & 3
    if format == "pi-t2":
        return codes
    whole = (step // 8 < steps // 8) | (steps % 8 >= 5)
    at = plane + 16 * (step // 8) + np.where(whole, lane, lane % 8)
    shift = step % 8 + np.where(whole, 0, 4 * (lane // 8))
    return codes << 1 | ((raw[:, at] >> shift) & 1)


def descended(w: np.ndarray, format: str, moment: np.ndarray, data: bytes, decoded: np.ndarray) -> np.ndarray:
    """Decoded weights after single codes were changed wherever that lowers e H e^T, a few times over all."""
    table, low = np.array(TABLES[format], float), 1 if format == "pi-t3" else 0
    codes = codes_of(data, format, *w.shape)
    before = np.pad(codes, ((0, 0), (1, 0)))[:, :-1] >> low
    steps = -(-w.shape[1] // 16)
    scale = np.abs(decoded / table[codes << 2 | before])
    for start in range(0, w.shape[1], 4 * steps):  # one scale to a group
        scale[:, start : start + 4 * steps] = scale[:, start : start + 4 * steps].max(axis=1, keepdims=True)
    q = decoded.astype(float)
    g = (w - q) @ moment
    h, width = moment, w.shape[1]
    for i in range(width * PASSES):
        i %= width
        j = min(i + 1, width - 1)
        state = codes[:, i - 1] >> low if i else np.zeros(len(w), int)
        best, change = np.zeros(len(w)), np.full(len(w), -1)
        for code in range(len(table) // 4):
            a = table[code << 2 | state] * scale[:, i] - q[:, i]
            b = (table[codes[:, j] << 2 | code >> low] * scale[:, j] - q[:, j]) * (j > i)
            cost = -2 * (g[:, i] * a + g[:, j] * b) + h[i, i] * a * a + 2 * h[i, j] * a * b * (j > i)
            cost += h[j, j] * b * b
            better = cost < best - 1e-9
            best[better], change[better] = cost[better], code
        codes[:, i] = np.where(change >= 0, change, codes[:, i])
        for k in {i, j}:
            state = codes[:, k - 1] >> low if k else np.zeros(len(w), int)
            new = table[codes[:, k] << 2 | state] * scale[:, k]
            g -= (new - q[:, k])[:, None] * h[k]
            q[:, k] = new
    return q


def refitted(w: np.ndarray, moment: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """The decoded weights with the best real number in place of each group's scale: no header beats it."""
    group = np.arange(w.shape[1]) // (4 * -(-w.shape[1] // 16))
    out = np.empty(w.shape)
    for row, (target, values) in enumerate(zip(w, decoded, strict=True)):
        parts = np.array([np.where(group == g, values, 0) for g in range(group[-1] + 1)], float)
        best = np.linalg.lstsq(parts @ moment @ parts.T, parts @ moment @ target, rcond=None)[0]
        out[row] = best @ parts
    return out


def feedback(weights: dict[str, np.ndarray], calibration: Calibration) -> list[dict[str, Any]]:
    """A row for each format: mean output SNR in dB by the way of rounding."""
    out = []
    for format in (*TRELLIS, *GRIDS):
        sums: dict[str, list[float]] = {}
        for name, w in weights.items():
            moment = calibration.moment(str(input_of(name)), w.shape[1])
            moment = turn(moment / np.float32(np.mean(np.diagonal(moment))), Transform(SEED))
            factor = factorise(moment, None, DAMPING, name)
            w = transformed(w, 1)
            data, decoded = rounded(w, format, factor)
            h = moment.astype(float)
            ways = {"feedback": decoded}
            if format in TRELLIS:
                ways["thorough"] = rounded(w, format, factor, 8)[1]
                ways["coordinate descent"] = descended(w, format, h, data, decoded)
                ways["real scales"] = refitted(w, h, decoded)
            else:
                ways["act-order"] = act_order(w, format, moment)
            for label, way in ways.items():
                e = w - way
                sums.setdefault(label, []).append(decibels(np.sum((w @ h) * w), np.sum((e @ h) * e)))
        out.append({"format": format} | {k: round(float(np.mean(v)), 3) for k, v in sums.items()})
    return out


def show(rows: list[dict[str, Any]]) -> None:
    """Rows for people."""
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data(parser)
    data = parser.parse_args().data
    model = data / "stories260K"
    gpt2 = list(read_matrices(data / "gpt2_attention" / "layers_0_5.safetensors", 768).values())
    with open_source(str(model / "stories260K.bin"), str(model / "tok512.bin")) as source:
        layers = {n: t for n, t in source.tensors.items() if n.startswith("blk.") and len(t.shape) > 1}
        weights = {name: np.array(t.load(), np.float32) for name, t in layers.items()}
    first = transforms({"gpt2_attention": gpt2, "stories260K": list(weights.values())})
    show(first)
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "calibration.gguf"
        text = str(data / "text" / "tiny_stories_train.txt")
        calibrate(
            model / "stories260K.bin", [text], artifact, tokenizer=model / "tok512.bin", max_tokens=TOKENS
        )
        with Calibration.open(artifact) as calibration:
            second = feedback(weights, calibration)
    show(second)
    print(json.dumps({"transforms": first, "feedback": second}))


if __name__ == "__main__":
    main()
