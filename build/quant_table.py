"""The table of formats against bits and perplexity on stories260K, as Markdown.

    python build/quant_table.py                          prints it
    python build/quant_table.py --write docs/formats.md  puts it between the page's markers

Every line is one run of `ruvq quantize` and `ruvq eval` by the protocol of docs/formats.md; at the end stand
reference grids (build/reference_grids.py), whose weights are rounded and stored as F32. Needs the data folder
(RUVQ_DATA, docs/data.md); takes some minutes.
"""

from __future__ import annotations

import argparse
import os
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
from reference_grids import e8, flattened, normal_float
from ruvq.evaluate import perplexity
from ruvq.gguf import GGUFFile
from ruvq.gguf.types import TensorSpec
from ruvq.gguf.writer import write_gguf
from ruvq.quantize.pipeline import Report, quantize_model

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- quantization table: begin -->", "<!-- quantization table: end -->"
MAX_TOKENS = 8000
WRITERS_KEYS = ("general.architecture", "general.alignment", "ruvq.")
SEEDS = (0, 1, 2, 3, 4)  # of the Hadamard transform: one draw says little about a model this small

ABOUT = f"""\
Model: stories260K (260,032 weights; widths 64 and 172, so every row ends in a short block and actual bits
are well above nominal ones). Text: `tiny_stories_test.txt`, capped at {MAX_TOKENS:,} tokens, which ends
with the story it is reached in (43 windows, 8,283 tokens predicted). The layers' matrices are in the format
named, the embedding (tied: it is the output too) as the second column says. Norms are F32, activations int8
as in the engine, the KV cache is f16 (f32 for float formats). ± is the standard error over windows. With
Hadamard: the mean over {len(SEEDS)} seeds, and the range; a file has seed 0 unless told otherwise. The lines
marked * have no file here: their matrices are rounded and stored in F32, activations stay floats, and bits
are those of full blocks; "flat": the format's blocks of 256 cut from the whole matrix, because these rows are
too short for them."""


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
    Case("pi-q3", "pi-q3", "f16"),
    Case("pi-q3", "pi-q3"),
    Case("pi-q3, absmax scale", "pi-q3", "f16", {"scale": "absmax"}),
    Case("pi-q3, positive scale searched", "pi-q3", "f16", {"scale": "mse-unsigned"}),
    Case("pi-t2 + Hadamard", "pi-t2", "f16"),
    Case("pi-t2 + Hadamard", "pi-t2"),
    Case("pi-t2 without Hadamard", "pi-t2", "f16", {"incoherence": "none"}),
    Case("pi-q2", "pi-q2", "f16"),
    Case("pi-q2", "pi-q2"),
    Case("ternary, least squared error", "ternary", "f16"),
    Case("ternary, absmean scale", "ternary", "f16", {"scale": "absmean"}),
    Case("ternary, least squared error", "ternary"),
    Case("pi-ternary", "pi-ternary", "f16"),
    Case("pi-ternary", "pi-ternary"),
)


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


def rounded_model(reference: Reference, floats: Path, target: Path) -> float:
    """Writes the model with all matrices rounded, the embedding too; the signal-to-noise ratio in dB."""
    squares = errors = 0.0
    with GGUFFile.open(floats) as file:
        keys = {k: file.metadata.typed(k) for k in file.metadata if not k.startswith(WRITERS_KEYS)}
        entries = []
        for tensor in file.tensors:
            w = np.frombuffer(file.tensor_bytes(tensor.name), "<f4").reshape(tensor.shape)
            rounded = np.ascontiguousarray(reference.round(w)) if w.ndim > 1 else w
            squares += float((w.astype(np.float64) ** 2).sum())
            errors += float(((w.astype(np.float64) - rounded) ** 2).sum())
            entries.append((TensorSpec(tensor.name, "f32", w.shape), partial(np.asarray, rounded)))
        write_gguf(target, "llama", keys, entries)
    return float(10 * np.log10(squares / errors))


def reference_line(reference: Reference, data: Path, folder: Path, text: str) -> str:
    """A row of the table."""
    floats, model = folder / "floats.gguf", data / "stories260K"
    snrs, found = [], []
    for seed in SEEDS if reference.rotated else SEEDS[:1]:
        quantize_model(
            model / "stories260K.bin",
            floats,
            "f32",
            tokenizer=model / "tok512.bin",
            rotate="residual" if reference.rotated else "none",
            seed=seed,
            progress=False,
            overwrite=True,
        )
        snrs.append(rounded_model(reference, floats, folder / "rounded.gguf"))
        with ruvq.Model.open(folder / "rounded.gguf", kv="f16") as opened:
            found.append(perplexity(opened, text, max_tokens=MAX_TOKENS))
    values = [float(p) for p in found]
    error = sum(p.stderr for p in found) / len(found)
    cells = [reference.label, "same", f"{reference.bits:.2f}", "", f"{np.mean(snrs):.2f}"]
    cells.append(f"{np.mean(values):.2f} ± {error:.2f}")
    cells.append(f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else "")
    return "| " + " | ".join(cells) + " |"


def measure(case: Case, data: Path, folder: Path, text: str, seed: int) -> tuple[Report, Any]:
    """Quantizes and evaluates; the engine's own perplexity and its standard error."""
    model, target = data / "stories260K", folder / "model.gguf"
    report = quantize_model(
        model / "stories260K.bin",
        target,
        case.format,
        tokenizer=model / "tok512.bin",
        embeddings=case.embeddings,
        seed=seed,
        progress=False,
        overwrite=True,
        **case.options,
    )
    kv = "f32" if case.format in ("f32", "f16", "bf16") else "f16"
    with ruvq.Model.open(target, kv=kv) as opened:
        return report, perplexity(opened, text, max_tokens=MAX_TOKENS)


def line(case: Case, data: Path, folder: Path, text: str) -> str:
    """A row of the table; with a transform the mean over SEEDS and the range."""
    results = [measure(case, data, folder, text, SEEDS[0])]
    report = results[0][0]
    if report.incoherence == "hadamard":
        results += [measure(case, data, folder, text, seed) for seed in SEEDS[1:]]
    values = [float(p) for _, p in results]
    mean = sum(values) / len(values)
    error = sum(p.stderr for _, p in results) / len(results)
    spread = f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else ""
    quantized = case.format not in ("f32", "f16", "bf16")
    embeddings = "same" if case.embeddings == "same" and quantized else case.embeddings if quantized else ""
    cells = [
        case.label,
        embeddings,
        f"{report.bits_per_weight:.2f}",
        f"{report.bits_per_weight_actual:.2f}",
        f"{sum(r.snr_db for r, _ in results) / len(results):.2f}" if report.mse else "exact",
        f"{mean:.2f} ± {error:.2f}",
        spread,
    ]
    return "| " + " | ".join(cells) + " |"


def table(data: Path) -> str:
    """The whole table, with what was measured above it."""
    text = (data / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    head = [
        *textwrap.wrap(ABOUT, 110),
        f"Made by `python build/quant_table.py` with ruvq {ruvq.__version__}.",
        "",
        "| layers | embeddings | bits nominal | actual | SNR, dB | perplexity | range over seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for case in CASES:
            rows.append(line(case, data, Path(folder), text))
            print(rows[-1], file=sys.stderr, flush=True)
        for reference in REFERENCES:
            rows.append(reference_line(reference, data, Path(folder), text))
            print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join([*head, *rows])


def insert(page: Path, content: str) -> None:
    """Puts the table between the page's markers, which are added at its end where they are missing."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Formats\n"
    if BEGIN not in text or END not in text:
        text = f"{text.rstrip()}\n\n## Measured\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    temporary = page.with_suffix(".tmp")
    temporary.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}", encoding="utf-8")
    temporary.replace(page)


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("RUVQ_DATA", ROOT.parent / "shared" / "data"))
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if not (args.data / "stories260K").is_dir():
        print(f"no data in {args.data}: set RUVQ_DATA, or fetch it with `make data`", file=sys.stderr)
        return 3
    content = table(args.data)
    if args.write:
        insert(args.write, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
