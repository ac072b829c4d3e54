"""The table of formats against bits and perplexity on stories260K, calibrated and not, as Markdown.

    python build/quant_table.py                          prints it
    python build/quant_table.py --write docs/formats.md  puts it between the page's markers

Every line is a run of `ruvq quantize` and `ruvq eval` by the protocol of docs/formats.md, and one more with
`--calibration`. At the end stand ggml's own quantizers, where llama-cpp-python is there (RUVQ_LLAMA_PYTHON),
and reference grids (build/reference_grids.py), whose weights are rounded and stored as F32. Needs the data
folder (RUVQ_DATA, docs/data.md); takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import ruvq
from data_folder import add_data, lacks
from pages import insert
from reference_grids import e8, flattened, normal_float
from ruvq import formats
from ruvq.calibrate import calibrate
from ruvq.evaluate import ggml_peer, perplexity
from ruvq.evaluate.round_trip import write_round_trip
from ruvq.quantize.calibration import Calibration
from ruvq.quantize.pipeline import quantize_model
from ruvq.quantize.reports import Report

MARKER = "quantization table"
MAX_TOKENS = 8000
CALIBRATION_TOKENS = 32768
SEEDS = (0, 1, 2)  # of the Hadamard transform: one draw says little about a model this small

ABOUT = f"""\
Model: stories260K (260,032 weights; widths 64 and 172, so every row ends in a short block and actual bits
are well above nominal ones). Text: `tiny_stories_test.txt`, capped at {MAX_TOKENS:,} tokens, which ends
with the story it is reached in (43 windows, 8,283 tokens predicted). The layers' matrices are in the format
named, the embedding (tied: it is the output too) as the second column says. Norms are F32, activations int8
as in the engine, the KV cache is f16 (f32 for float formats). ± is the standard error over windows. With
Hadamard: the mean over {len(SEEDS)} seeds, and the range; a file has seed 0 unless told otherwise.
Calibrated: with error feedback (LDLQ) from {CALIBRATION_TOKENS:,} tokens of `tiny_stories_train.txt`; ggml's
quantizers get those tokens' importance matrix instead. Their formats need rows of 256: the matrices are cut
into such rows (bits are those of such rows), and their decoded weights run as floats, with float
activations. The lines marked * are rounded so too, by ruvq's own encoders for ggml's formats and by
reference grids; "flat" are blocks of 256 cut from the whole matrix."""


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    label: str
    format: str
    embeddings: str = "same"
    options: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("f32", "f32"),
    Case("f16", "f16"),
    Case("bf16", "bf16"),
    Case("q8_0, width 172 in f16", "q8_0", options={"fallback": "f16"}),
    Case("pi-t3 + Hadamard", "pi-t3", "f16"),
    Case("pi-t3 + Hadamard", "pi-t3"),
    Case("pi-t3 without Hadamard", "pi-t3", "f16", {"incoherence": "none"}),
    Case("pi-t3 without Hadamard", "pi-t3", options={"incoherence": "none"}),
    Case("pi-x3 + Hadamard", "pi-x3", "f16"),
    Case("pi-x3 + Hadamard", "pi-x3"),
    Case("pi-q3", "pi-q3", "f16"),
    Case("pi-q3", "pi-q3"),
    Case("pi-q3 + Hadamard", "pi-q3", "f16", {"incoherence": "hadamard"}),
    Case("pi-q3, absmax scale", "pi-q3", "f16", {"scale": "absmax"}),
    Case("pi-q3, positive scale searched", "pi-q3", "f16", {"scale": "mse-unsigned"}),
    Case("pi-t2 + Hadamard", "pi-t2", "f16"),
    Case("pi-t2 + Hadamard", "pi-t2"),
    Case("pi-t2 without Hadamard", "pi-t2", "f16", {"incoherence": "none"}),
    Case("pi-x2 + Hadamard", "pi-x2", "f16"),
    Case("pi-x2 + Hadamard", "pi-x2"),
    Case("pi-q2", "pi-q2", "f16"),
    Case("pi-q2", "pi-q2"),
    Case("pi-q2 + Hadamard", "pi-q2", "f16", {"incoherence": "hadamard"}),
    Case("ternary, least squared error", "ternary", "f16"),
    Case("ternary, absmean scale", "ternary", "f16", {"scale": "absmean"}),
    Case("ternary, least squared error", "ternary"),
    Case("pi-ternary", "pi-ternary", "f16"),
    Case("pi-ternary", "pi-ternary"),
)


PEERS = ("q3_k", "iq3_xxs", "q2_k", "iq2_xxs")
FLOATS = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Bench:
    """What all measurements share: data, a folder for files, text, the calibration artifact."""

    data: Path
    folder: Path
    text: str
    artifact: Path

    @property
    def model(self) -> dict[str, Any]:
        """The float model, as the converter's arguments."""
        folder = self.data / "stories260K"
        return {"input": folder / "stories260K.bin", "tokenizer": folder / "tok512.bin"}

    def perplexity(self, path: Path, kv: str) -> Any:
        """The engine's own, with its standard error."""
        with ruvq.Model.open(path, kv=kv) as opened:
            return perplexity(opened, self.text, max_tokens=MAX_TOKENS)


@dataclass(frozen=True)
class Reference:
    """A line of weights that are only rounded."""

    label: str
    bits: float
    round: Callable[[np.ndarray], np.ndarray]
    rotated: bool = False  # of a source whose residual stream is rotated, once for each of SEEDS


REFERENCES = (
    Reference("NF4, blocks of 64*", 4.25, partial(normal_float, bits=4)),
    Reference("NF3, blocks of 64*", 3.25, partial(normal_float, bits=3)),
    Reference("E8 lattice, 2 bits*", 2.0625, e8),
    *(
        Reference(f"{name}, flat*", ruvq.formats.get(name).nominal_bits, partial(flattened, name=name))
        for name in ("q4_k", "q3_k", "iq3_xxs", "q2_k", "iq2_xxs")
    ),
    *(
        Reference(
            f"{name}, flat, rotated residual*",
            ruvq.formats.get(name).nominal_bits,
            partial(flattened, name=name),
            True,
        )
        for name in ("q3_k", "q2_k")
    ),
)


def reference_line(bench: Bench, reference: Reference) -> str:
    """A row of the table: all matrices rounded, the embedding too; rotated, the mean over SEEDS."""
    whole, target = bench.folder / "rotated.gguf", bench.folder / "model.gguf"
    snrs, found = [], []
    for seed in SEEDS if reference.rotated else SEEDS[:1]:
        quantize_model(
            output=whole,
            format="f32",
            rotate="residual" if reference.rotated else "none",
            seed=seed,
            progress=False,
            overwrite=True,
            **bench.model,
        )
        write_round_trip(whole, target, lambda name, values: reference.round(values))
        errors, squares = _difference(whole, target)
        snrs.append(10 * np.log10(squares / errors))
        found.append(bench.perplexity(target, "f16"))
    snr = float(np.mean(snrs))
    cells = [reference.label, "same", f"{reference.bits:.2f}", "", f"{snr:.2f}", *_shown(found), "", ""]
    return "| " + " | ".join(cells) + " |"


def measure(bench: Bench, case: Case, seed: int, calibrated: bool) -> tuple[Report, Any]:
    """Quantizes and evaluates."""
    target = bench.folder / "model.gguf"
    report = quantize_model(
        output=target,
        format=case.format,
        embeddings=case.embeddings,
        seed=seed,
        calibration=bench.artifact if calibrated else None,
        progress=False,
        overwrite=True,
        **bench.model,
        **case.options,
    )
    return report, bench.perplexity(target, "f32" if case.format in FLOATS else "f16")


def _shown(values: list[Any]) -> list[str]:
    """Two cells: the mean with the mean of the errors, and the range."""
    if not values:
        return ["", ""]
    numbers = [float(p) for p in values]
    mean, error = sum(numbers) / len(numbers), sum(p.stderr for p in values) / len(values)
    spread = f"{min(numbers):.2f} to {max(numbers):.2f}" if len(numbers) > 1 else ""
    return [f"{mean:.2f} ± {error:.2f}", spread]


def line(bench: Bench, case: Case) -> str:
    """A row of the table; with a transform the mean over SEEDS and the range."""
    report, first = measure(bench, case, SEEDS[0], False)
    seeds = SEEDS if report.incoherence == "hadamard" else SEEDS[:1]
    plain = [(report, first), *(measure(bench, case, seed, False) for seed in seeds[1:])]
    quantized = case.format not in FLOATS
    guided = [measure(bench, case, seed, True)[1] for seed in seeds] if quantized else []
    cells = [
        case.label,
        case.embeddings if quantized else "",
        f"{report.bits_per_weight:.2f}",
        f"{report.bits_per_weight_actual:.2f}",
        f"{sum(r.snr_db for r, _ in plain) / len(plain):.2f}" if report.mse else "exact",
        *_shown([p for _, p in plain]),
        *_shown(guided),
    ]
    return "| " + " | ".join(cells) + " |"


def peer_line(bench: Bench, format: str, embeddings: str) -> str:
    """A row for ggml's quantizer: without importance (even importance where it demands one), and with."""
    whole, target = bench.folder / "float.gguf", bench.folder / "model.gguf"
    found, errors, squares = [], 0.0, 0.0
    for calibrated in (False, True):
        with Calibration.open(bench.artifact) as calibration:

            def change(
                name: str,
                values: np.ndarray,
                source: Calibration | None = calibration if calibrated else None,
            ) -> np.ndarray:
                if name == "token_embd.weight" and embeddings != "same":
                    return values
                weights = source.importance(name, values.shape[1]) if source else None
                each = None if weights is None else np.broadcast_to(weights, values.shape).reshape(-1, 256)
                return ggml_peer.quantize(values.reshape(-1, 256), format, each).reshape(values.shape)

            write_round_trip(whole, target, change)
        found.append(bench.perplexity(target, "f32"))
        if not calibrated:
            errors, squares = _difference(whole, target)
    cells = [
        f"ggml's {format}, rows of 256",
        embeddings,
        *_peer_bits(whole, format, embeddings),
        f"{10 * np.log10(squares / errors):.2f}",
        *_shown(found[:1]),
        *_shown(found[1:]),
    ]
    return "| " + " | ".join(cells) + " |"


def _peer_bits(whole: Path, format: str, embeddings: str) -> list[str]:
    """Bits of the matrices and of everything, as a plan counts them, for rows of 256."""
    with ruvq.GGUFFile.open(whole) as file:
        matrices = {t.name: t.weights for t in file.tensors if len(t.shape) > 1}
        others = sum(t.weights for t in file.tensors) - sum(matrices.values())
    bits = dict.fromkeys(matrices, formats.get(format).nominal_bits)
    if embeddings != "same":
        bits["token_embd.weight"] = formats.get(embeddings).nominal_bits
    stored = sum(bits[name] * n for name, n in matrices.items())
    everything = (stored + 32 * others) / (sum(matrices.values()) + others)
    return [f"{stored / sum(matrices.values()):.2f}", f"{everything:.2f}"]


def _difference(a: Path, b: Path) -> tuple[float, float]:
    """Sums of squares over all tensors of two F32 files: of the difference, and of the first."""
    errors = squares = 0.0
    with ruvq.GGUFFile.open(a) as first, ruvq.GGUFFile.open(b) as second:
        for tensor in first.tensors:
            x, y = (np.frombuffer(f.tensor_bytes(tensor.name), "<f4").astype(float) for f in (first, second))
            errors += float(np.sum((x - y) ** 2))
            squares += float(np.sum(x**2))
    return errors, squares


def table(data: Path) -> str:
    """The whole table, with what was measured above it."""
    texts = data / "text"
    peer = f" and llama-cpp-python {ggml_peer.version(ggml_peer.python())}" if ggml_peer.available() else ""
    head = [
        *textwrap.wrap(ABOUT, 110),
        f"Made by `python build/quant_table.py` with ruvq {ruvq.__version__}{peer}.",
        "",
        "| layers | embeddings | bits nominal | actual | SNR, dB | perplexity | range over seeds "
        "| calibrated | range over seeds |",
        "|" + " --- |" * 9,
    ]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            data,
            Path(folder),
            (texts / "tiny_stories_test.txt").read_text(encoding="utf-8"),
            Path(folder) / "calibration.gguf",
        )
        source, train = bench.model, str(texts / "tiny_stories_train.txt")
        calibrate(
            source["input"],
            [train],
            bench.artifact,
            tokenizer=source["tokenizer"],
            max_tokens=CALIBRATION_TOKENS,
        )
        rows = []
        for case in CASES:
            rows.append(line(bench, case))
            print(rows[-1], file=sys.stderr, flush=True)
        floats = bench.folder / "float.gguf"
        quantize_model(output=floats, format="f32", progress=False, **bench.model)
        for name in PEERS if ggml_peer.available() else ():
            for embeddings in ("f16", "same"):
                rows.append(peer_line(bench, name, embeddings))
                print(rows[-1], file=sys.stderr, flush=True)
        for reference in REFERENCES:
            rows.append(reference_line(bench, reference))
            print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join([*head, *rows])


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
        return 3
    content = table(args.data)
    if args.write:
        insert(args.write, MARKER, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
