"""The table of quantization-aware training on stories260K, as Markdown.

    python build/qat_table.py --minutes 12                          prints it
    python build/qat_table.py --minutes 12 --write docs/qat.md      puts it between the page's markers
    python build/qat_table.py --steps 200 --cases pi-t2             the same number of steps on any machine

Every line is one run of `ruvq qat`, and of `ruvq eval` by the protocol of docs/formats.md on a text that was
not trained on. Needs the data folder (RUVQ_DATA, docs/data.md) and the extra `train`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ruvq
from pages import insert
from ruvq.evaluate import perplexity
from ruvq.quantize.pipeline import quantize_model
from ruvq.train import QatConfig, RunOptions, Work, qat
from ruvq.train.run import AUTO_RATE

ROOT = Path(__file__).resolve().parent.parent
MARKER = "qat table"
BATCH = {"batch_size": 8, "gradient_accumulation": 1}


@dataclass(frozen=True)
class Case:
    """One line: a name, and what is changed of the format's preset."""

    name: str
    format: str
    lora: bool = False


CASES = (
    Case("pi-t2", "pi-t2"),
    Case("pi-t3", "pi-t3"),
    Case("ternary", "ternary"),
    Case("pi-t2-lora", "pi-t2", lora=True),
    Case("pi-t3-lora", "pi-t3", lora=True),
)


def measured(path: Path, text: str, tokens: int) -> Any:
    """The engine's perplexity of a file."""
    with ruvq.Model.open(path, kv="f32" if path.stem == "f32" else "f16") as model:
        return perplexity(model, text, max_tokens=tokens)


def line(case: Case, args: argparse.Namespace, folder: Path, text: str, float_loss: float) -> str:
    """Plain quantization against training."""
    model, tokenizer = args.data / "stories260K/stories260K.bin", args.data / "stories260K/tok512.bin"
    quantize_model(
        model, folder / "ptq.gguf", case.format, tokenizer=tokenizer, progress=False, overwrite=True
    )
    before = measured(folder / "ptq.gguf", text, args.max_tokens)
    config = QatConfig.preset(case.format, use_lora=case.lora, **BATCH)
    seconds = None if args.steps else 60 * args.minutes
    options = RunOptions(steps=args.steps or 10**9, max_seconds=seconds, auto_rate=AUTO_RATE)
    train = str(args.data / "text/tiny_stories_train.txt")
    report = qat(
        model, [train], folder / "qat.gguf", config, options, Work(threads=args.threads, device=args.device),
        tokenizer=tokenizer, overwrite=True,
    )  # fmt: skip
    after = measured(folder / "qat.gguf", text, args.max_tokens)
    lost = math.log(before) - float_loss
    recovered = (math.log(before) - math.log(after)) / lost
    cells = [
        case.format + (" + LoRA" if case.lora else ""),
        f"{report.bits_per_weight_actual:.2f}",
        f"{float(before):.2f} ± {before.stderr:.2f}",
        f"{float(after):.2f} ± {after.stderr:.2f}",
        f"{100 * recovered:.0f} %",
        f"{report.steps:,}",
        f"{report.tokens / 1e6:.2f} M",
        f"{report.seconds / 60:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def table(args: argparse.Namespace) -> str:
    """The whole table."""
    text = (args.data / "text/tiny_stories_test.txt").read_text(encoding="utf-8")
    chosen = [c for c in CASES if not args.cases or c.name in args.cases]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quantize_model(
            args.data / "stories260K/stories260K.bin", folder / "f32.gguf", "f32",
            tokenizer=args.data / "stories260K/tok512.bin", progress=False,
        )  # fmt: skip
        floats = measured(folder / "f32.gguf", text, args.max_tokens)
        limit = f"--steps {args.steps}" if args.steps else f"--minutes {args.minutes:g}"
        rows = [
            "stories260K, embeddings quantized too; `tiny_stories_test.txt`, "
            f"{args.max_tokens:,} tokens at least. Float: {float(floats):.2f} ± {floats.stderr:.2f}.",
            f"Made by `python build/qat_table.py {limit} --threads {args.threads}`; of the loss that plain",
            "quantization adds to the float model's, in nats, training takes back the share that is named.",
            "",
            "| format | bits | quantized | trained | taken back | steps | tokens | minutes |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for case in chosen:
            rows.append(line(case, args, folder, text, math.log(floats)))
            print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("RUVQ_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--minutes", type=float, default=12.0, help="of training, for each line")
    parser.add_argument("--steps", type=int, default=0, help="so many steps instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max-tokens", type=int, default=8000, help="of the evaluation")
    parser.add_argument("--cases", nargs="*", choices=[c.name for c in CASES], help="only these lines")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if not (args.data / "stories260K").is_dir():
        print(f"no data in {args.data}: set RUVQ_DATA, or fetch it with `make data`", file=sys.stderr)
        return 3
    content = table(args)
    if args.write:
        insert(args.write, MARKER, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
