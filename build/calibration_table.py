"""What calibration is worth: perplexities of stories260K by format and way of rounding, as Markdown.

    python build/calibration_table.py                              prints it
    python build/calibration_table.py --write docs/calibration.md  puts it between the page's markers
    python build/calibration_table.py --ways calibrated fisher     only these columns

Calibrated on `tiny_stories_train.txt`, evaluated on `tiny_stories_test.txt` (protocol of docs/formats.md).
Needs the data folder (RUVQ_DATA, docs/data.md), and the extra `train` for Fisher information; takes some
minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import ruvq
from data_folder import add_data, lacks
from pages import insert
from quant_table import MARKER, MAX_TOKENS
from ruvq.calibrate import calibrate
from ruvq.evaluate import perplexity
from ruvq.quantize.pipeline import quantize_model

TOKENS, SEEDS = 30000, 3
FORMATS = ("pi-t3", "pi-t2")
# Columns: their heading and what is asked of `quantize_model`; `calibration` stands for the artifact.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("without calibration", {}),
    "calibrated": ("calibrated", {"calibration": True}),
    "fisher": ("`--fisher`", {"calibration": True, "fisher": True}),
    "sequential": ("`--sequential`", {"calibration": True, "sequential": True}),
    "thorough": (
        "`--sequential --thorough`",
        {"calibration": True, "sequential": True, "thorough": True},
    ),
}


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


def command(args: argparse.Namespace) -> str:
    """What prints the same table again."""
    words = ["python build/calibration_table.py"]
    for flag, default in (("tokens", TOKENS), ("seeds", SEEDS)):
        if getattr(args, flag) != default:
            words.append(f"--{flag} {getattr(args, flag)}")
    for flag, all_of_them in (("formats", FORMATS), ("ways", tuple(WAYS))):
        if tuple(getattr(args, flag)) != all_of_them:
            words += ["--" + flag, *getattr(args, flag)]
    return " ".join(words)


def table(args: argparse.Namespace) -> str:
    """The table, with what was measured above it."""
    model, texts = args.data / "stories260K", args.data / "text"
    text = (texts / "tiny_stories_test.txt").read_text(encoding="utf-8")
    lines = [
        f"stories260K, layers in the format named, embeddings in f16, {args.tokens:,} tokens of calibration,",
        f"Hadamard everywhere: perplexity, mean over {args.seeds} seeds and the range (float: 5.56).",
        f"Made by `{command(args)}`.",
        "",
        "| format | " + " | ".join(WAYS[way][0] for way in args.ways) + " |",
        "| --- |" + " --- |" * len(args.ways),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = folder / "calibration.gguf"
        calibrate(
            model / "stories260K.bin", [str(texts / "tiny_stories_train.txt")], artifact,
            tokenizer=model / "tok512.bin", max_tokens=args.tokens, fisher="fisher" in args.ways,
            threads=1,  # gradients' last digits depend on it
        )  # fmt: skip
        for format in args.formats:
            cells = []
            for way in args.ways:
                options = {"incoherence": "hadamard", **WAYS[way][1]}
                if "calibration" in options:
                    options["calibration"] = artifact
                results = [
                    measure(model, folder, text, format, {"seed": seed, **options})
                    for seed in range(args.seeds)
                ]
                cells.append(cell(results))
                print(f"{format}, {way}: {cells[-1]}", file=sys.stderr, flush=True)
            lines.append(f"| {format} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data(parser)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=tuple(WAYS), help="columns")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
        return 3
    content = table(args)
    if args.write:
        insert(args.write, MARKER, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
