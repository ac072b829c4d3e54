"""What calibration is worth: perplexities of stories260K by format and way of rounding, as Markdown.

    python build/calibration_table.py                              prints it
    python build/calibration_table.py --write docs/calibration.md  puts it between the page's markers

Calibrated on `tiny_stories_train.txt`, evaluated on `tiny_stories_test.txt` (protocol of docs/formats.md).
Needs the data folder (RUVQ_DATA, docs/data.md); takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import ruvq
from pages import insert
from quant_table import MARKER, MAX_TOKENS
from ruvq.calibrate import calibrate
from ruvq.evaluate import perplexity
from ruvq.quantize.pipeline import quantize_model

ROOT = Path(__file__).resolve().parent.parent
FORMATS = ("pi-t3", "pi-t2", "pi-q3", "pi-q2")


def measure(model: Path, folder: Path, text: str, format: str, options: dict[str, Any]) -> float:
    """Perplexity of one quantized file; embeddings stay in f16."""
    target = folder / "model.gguf"
    quantize_model(
        model / "stories260K.bin", target, format, tokenizer=model / "tok512.bin", embeddings="f16",
        progress=False, overwrite=True, **options,
    )  # fmt: skip
    with ruvq.Model.open(target) as opened:
        return float(perplexity(opened, text, max_tokens=MAX_TOKENS))


def cell(values: list[float]) -> str:
    """The mean, and the range."""
    mean = sum(values) / len(values)
    return f"{mean:.2f} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else f"{mean:.2f}"


def table(data: Path, tokens: int, seeds: int, formats: tuple[str, ...]) -> str:
    """The table, with what was measured above it."""
    model = data / "stories260K"
    text = (data / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    lines = [
        f"stories260K, layers in the format named, embeddings in f16, {tokens:,} tokens of calibration,",
        f"Hadamard everywhere: perplexity, mean over {seeds} seeds and the range (float: 5.56).",
        "Made by `python build/calibration_table.py`.",
        "",
        "| format | without calibration | calibrated | `--sequential` | `--sequential --thorough` |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = folder / "calibration.gguf"
        source = [str(data / "text" / "tiny_stories_train.txt")]
        calibrate(
            model / "stories260K.bin", source, artifact, tokenizer=model / "tok512.bin", max_tokens=tokens
        )
        ways: tuple[dict[str, Any], ...] = (
            {},
            {"calibration": artifact},
            {"calibration": artifact, "sequential": True},
            {"calibration": artifact, "sequential": True, "thorough": True},
        )
        for format in formats:
            cells = []
            for way in ways:
                options = {"incoherence": "hadamard", **way}
                results = [
                    measure(model, folder, text, format, {"seed": seed, **options}) for seed in range(seeds)
                ]
                cells.append(cell(results))
            lines.append(f"| {format} | " + " | ".join(cells) + " |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RUVQ_DATA", "data")))
    parser.add_argument("--tokens", type=int, default=30000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if not (args.data / "stories260K").is_dir():
        print(f"no data in {args.data}: set RUVQ_DATA, or fetch it with `make data`", file=sys.stderr)
        return 3
    content = table(args.data, args.tokens, args.seeds, tuple(args.formats))
    if args.write:
        insert(args.write, MARKER, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
