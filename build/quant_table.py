"""The table of formats against bits and perplexity on stories260K, as Markdown.

    python build/quant_table.py                          prints it
    python build/quant_table.py --write docs/formats.md  puts it between the page's markers

Every line is one run of `ruvq quantize` and `ruvq eval` by the protocol of docs/formats.md. Needs the data
folder (RUVQ_DATA, docs/data.md); takes a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ruvq
from ruvq.evaluate import perplexity
from ruvq.quantize.pipeline import Report, quantize_model

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- quantization table: begin -->", "<!-- quantization table: end -->"
MAX_TOKENS = 8000
SEEDS = (0, 1, 2, 3, 4)  # of the Hadamard transform: one draw says little about a model this small

ABOUT = f"""\
Model: stories260K (260,032 weights; widths 64 and 172, so every row ends in a short block and actual bits
are well above nominal ones). Text: `tiny_stories_test.txt`, capped at {MAX_TOKENS:,} tokens, which ends
with the story it is reached in (43 windows, 8,283 tokens predicted). The layers' matrices are in the format
named, the embedding (tied: it is the output too) as the second column says. Norms are F32, activations int8
as in the engine, the KV cache is f16 (f32 for float formats). ± is the standard error over windows. With
Hadamard: the mean over {len(SEEDS)} seeds, and the range; a file has seed 0 unless told otherwise."""


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
