"""ggml's formats as ruvq writes them, beside ggml's own quantizers and in llama.cpp.

    RUVQ_LLAMA_PYTHON=.../python python build/bench/ggml_formats.py          the tables of docs/quantize.md

First table: signal-to-noise ratio of every format, ours and ggml's (ggml_quantize_chunk through
llama-cpp-python), over the first rows of GPT-2's attention projections in the data folder and over Gaussian
weights, once with all columns counting the same and once weighted: lognormal importance, the error weighted
with it. Where all count the same, ggml gets the better of no importance and an importance of ones. Speed on
one thread. The exit status is 1 where ours is the worse one.

Second: what turning the rows of GPT-2's matrices by the Hadamard transform gains, as --rotate residual does.

Third: stories260K, its widths padded to multiples of 256 with zeros so that it computes the same; quantized
here, with calibration too, and by llama.cpp; perplexity of some stories in this engine and in llama.cpp, and
how far the logits of the two are apart on the same file. Q3_K and Q2_K in all matrices ("pure"), without
llama.cpp's mixture. A table goes to standard error, JSON to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

import ruvq  # noqa: E402
from data_folder import add_data  # noqa: E402
from encoders import read_matrices  # noqa: E402
from padded_model import write_padded  # noqa: E402
from peers import call_llama  # noqa: E402
from ruvq import formats  # noqa: E402
from ruvq.calibrate import calibrate  # noqa: E402
from ruvq.quantize import quantize  # noqa: E402
from ruvq.quantize.mixes import MIXES  # noqa: E402
from ruvq.quantize.pipeline import quantize_model  # noqa: E402

NAMES = (
    "q6_k",
    "q5_k",
    "q4_k",
    "q4_0",
    "iq4_nl",
    "iq4_xs",
    "q3_k",
    "iq3_xxs",
    "q2_k",
    "iq2_xs",
    "iq2_xxs",
    "tq2_0",
    "tq1_0",
)
NEEDS_IMPORTANCE = ("iq2_xs", "iq2_xxs")  # ggml refuses to go without
WIDTH = 768
TOLERANCE_DB = 0.005
TOKENS, STORIES = 256, 8
CALIBRATION_TOKENS = 16384


def snr_db(w: np.ndarray, y: np.ndarray, importance: np.ndarray | None) -> float:
    """Of the whole matrix; each column's squares times its importance."""
    weight = 1.0 if importance is None else importance.astype(np.float64)
    noise = (weight * (w.astype(np.float64) - y) ** 2).sum()
    return float(10 * np.log10((weight * w.astype(np.float64) ** 2).sum() / noise))


class Ggml:
    """ggml's own encoder, called through files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def encode(self, w: np.ndarray, name: str, importance: np.ndarray | None) -> tuple[np.ndarray, float]:
        """What its bytes decode to, and weights a second."""
        paths = [self._folder / n for n in ("weights", "out", "importance")]
        w.tofile(paths[0])
        arguments: list[Any] = ["--type-id", formats.get(name).ggml_type, "--width", w.shape[1]]
        if importance is not None:
            importance.tofile(paths[2])
            arguments += ["--importance", paths[2]]
        result = call_llama("encode", *paths[:2], *arguments)
        decoded = ruvq.dequantize(ruvq.QuantizedTensor(name, w.shape, paths[1].read_bytes()))
        return decoded, result["weights_per_s"]


def compare(name: str, w: np.ndarray, importance: np.ndarray | None, ggml: Ggml) -> dict[str, Any]:
    """One format, one matrix."""
    started = time.perf_counter()
    q = quantize(w, name, importance=importance, threads=1)
    speed = w.size / (time.perf_counter() - started)
    ones = np.ones(w.shape[1], np.float32)
    tries = [importance] if importance is not None else [None, ones]
    tries = [t for t in tries if t is not None or name not in NEEDS_IMPORTANCE]
    theirs = [ggml.encode(w, name, t) for t in tries]
    best = max(snr_db(w, decoded, importance) for decoded, _ in theirs)
    ours = snr_db(w, ruvq.dequantize(q), importance)
    return {"ours_db": ours, "ggml_db": best, "ours_per_s": speed, "ggml_per_s": theirs[0][1]}


def error_table(matrices: dict[str, np.ndarray], ggml: Ggml) -> list[dict[str, Any]]:
    """A row for every format."""
    importance = np.random.default_rng(2).lognormal(0, 1.5, WIDTH).astype(np.float32)
    rows = []
    print(
        "| format | bits | " + " | ".join(f"{m}{w}" for m in matrices for w in ("", ", weighted")),
        end=" |",
        file=sys.stderr,
    )
    print(" M weights/s |", file=sys.stderr)
    for name in NAMES:
        row: dict[str, Any] = {"format": name, "bits": formats.get(name).nominal_bits}
        for label, w in matrices.items():
            row[label] = compare(name, w, None, ggml)
            row[f"{label}, weighted"] = compare(name, w, importance, ggml)
        rows.append(row)
        found = [v for v in row.values() if isinstance(v, dict)]
        cells = [f"{v['ours_db']:.2f} / {v['ggml_db']:.2f}" for v in found]
        speed = [f"{np.median([v[key] for v in found]) / 1e6:.1f}" for key in ("ours_per_s", "ggml_per_s")]
        print(
            f"| {name} | {row['bits']:.4g} | " + " | ".join([*cells, " / ".join(speed)]) + " |",
            file=sys.stderr,
        )
    return rows


def rotation_table(matrices: Iterable[np.ndarray], names: Iterable[str]) -> list[dict[str, Any]]:
    """What turning the rows of GPT-2's matrices gains, in dB: mean over the matrices, and the largest."""
    rows = []
    listed = list(matrices)
    for name in names:
        gains = []
        for w in listed:
            before, after = (
                ruvq.compare(x, ruvq.dequantize(quantize(x, name))).snr_db for x in (w, ruvq.hadamard(w, 0))
            )
            gains.append(after - before)
        rows.append({"format": name, "mean_db": float(np.mean(gains)), "largest_db": max(gains)})
        print(f"{name}, rows turned: {np.mean(gains):+.2f} dB, at most {max(gains):+.2f}", file=sys.stderr)
    return rows


def perplexity_of(logits: np.ndarray, tokens: list[int]) -> float:
    """Of each token after those before it."""
    shifted = logits[:-1].astype(np.float64)
    top = shifted.max(1, keepdims=True)
    log_sum = np.log(np.exp(shifted - top).sum(1)) + top[:, 0]
    return float(np.exp(np.mean(log_sum - shifted[np.arange(len(tokens) - 1), tokens[1:]])))


def llama_logits(path: Path, tokens: list[int], folder: Path) -> np.ndarray:
    """float32 (tokens, vocabulary) of llama.cpp."""
    (folder / "tokens.json").write_text(json.dumps(tokens))
    size = call_llama("logits", path, folder / "tokens.json", folder / "logits")
    return np.fromfile(folder / "logits", "<f4").reshape(size["tokens"], size["vocab_size"])


def own_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """The same of this engine."""
    with ruvq.Model.open(path) as model:
        return np.asarray(model.logits(tokens))


def windows(path: Path, text: str, count: int) -> list[list[int]]:
    """The first tokens of so many stories, BOS in front."""
    with ruvq.Model.open(path) as model:
        stories = [s.strip() for s in text.split("<|endoftext|>") if s.strip()]
        return [model.tokenizer.encode(s, add_special=True)[:TOKENS] for s in stories[:count]]


def model_table(data: Path, folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Perplexities of stories260K here and in llama.cpp."""
    source, model = folder / "f32.gguf", data / "stories260K"
    quantize_model(
        model / "stories260K.bin",
        folder / "narrow.gguf",
        "f32",
        tokenizer=model / "tok512.bin",
        progress=False,
    )
    write_padded(folder / "narrow.gguf", source)
    texts = data / "text"
    artifact = folder / "calibration.gguf"
    calibrate(source, [str(texts / "tiny_stories_train.txt")], artifact, max_tokens=CALIBRATION_TOKENS)
    text = (texts / "tiny_stories_test.txt").read_text(encoding="utf-8")
    tokens = windows(source, text, STORIES)
    rows = []
    print("| file | perplexity here | in llama.cpp | logits apart, rms of their spread |", file=sys.stderr)
    for name in ("f32", *names):
        files = {f"{name}, written here": source}
        if name != "f32":
            files = {
                f"{name}, written here": folder / f"{name}.gguf",
                f"{name}, written here, rotated": folder / f"{name}-rotated.gguf",
                f"{name}, written here, calibrated": folder / f"{name}-calibrated.gguf",
                f"{name}, by llama.cpp": folder / "t.gguf",
            }
            quantize_model(source, folder / f"{name}.gguf", name, progress=False)
            rotated = folder / f"{name}-rotated.gguf"
            quantize_model(source, rotated, name, rotate="residual", progress=False)
            calibrated = folder / f"{name}-calibrated.gguf"
            quantize_model(source, calibrated, name, calibration=artifact, progress=False)
            pure = [] if name in MIXES else ["--pure"]
            call_llama("quantize", source, folder / "t.gguf", name.upper(), *pure)
        for label, path in files.items():
            pairs = [(own_logits(path, t), llama_logits(path, t, folder)) for t in tokens]
            apart = np.sqrt(
                np.mean([((a - b) ** 2).mean() for a, b in pairs]) / np.mean([a.var() for a, _ in pairs])
            )
            # mean over the stories' logarithms
            here, there = (
                float(
                    np.exp(
                        np.mean([np.log(perplexity_of(p[i], t)) for p, t in zip(pairs, tokens, strict=True)])
                    )
                )
                for i in (0, 1)
            )
            rows.append(
                {"file": label, "perplexity": here, "perplexity_llama_cpp": there, "apart": float(apart)}
            )
            print(f"| {label} | {here:.3f} | {there:.3f} | {apart:.4f} |", file=sys.stderr)
    return rows


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add_data(parser)
    parser.add_argument("--rows", type=int, default=16, help="rows of each of GPT-2's matrices")
    options = parser.parse_args()
    try:
        version = call_llama("version")
    except (OSError, RuntimeError, ValueError) as error:
        print(f"llama-cpp-python can't be used: {error} (see build/bench/peers.py)", file=sys.stderr)
        return 3
    real = read_matrices(options.data / "gpt2_attention" / "layers_0_5.safetensors", options.rows)
    gaussian = np.random.default_rng(1).normal(size=(8 * options.rows, WIDTH)).astype(np.float32)
    matrices = {"GPT-2": np.concatenate(list(real.values())), "Gaussian": gaussian}
    with tempfile.TemporaryDirectory() as folder:
        rows = error_table(matrices, Ggml(Path(folder)))
        turned = rotation_table(real.values(), ("q4_k", "q3_k", "q2_k"))
        models = model_table(options.data, Path(folder), ("q4_k_m", "q3_k", "q2_k"))
    found = [(r["format"], v) for r in rows for v in r.values() if isinstance(v, dict)]
    worse = sorted({name for name, v in found if v["ours_db"] < v["ggml_db"] - TOLERANCE_DB})
    print(
        json.dumps(
            {
                "llama_cpp": version,
                "rows": options.rows,
                "formats": rows,
                "turned": turned,
                "models": models,
                "worse": worse,
            }
        )
    )
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
