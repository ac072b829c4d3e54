"""The table of quantization-aware training on stories260K and on the bundled model, as Markdown.

    python build/qat_table.py --minutes 3                    measures what the journal lacks, prints it
    python build/qat_table.py --minutes 8 --pieces stories260K/pi-t2/qat --again
                                                             one run again, with another budget
    python build/qat_table.py --write docs/qat.md            and puts it between the page's markers
    python build/qat_table.py --steps 200                    the same number of steps on any machine

Each piece is one quantization or one run of `ruvq qat`, and `ruvq eval` of its file on a text that was not
trained on (protocol of docs/formats.md). A piece that is done is a line of the journal, so that the table can
be stopped and gone on with; its time is bounded by --minutes of training. Needs the data folder (RUVQ_DATA,
docs/data.md) and the extra `train`.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import journal
import ruvq
from data_folder import add_data, lacks
from pages import insert
from qat_models import Subject, subjects
from ruvq.calibrate import calibrate
from ruvq.cli.qat_command import DEFAULTS
from ruvq.evaluate import perplexity
from ruvq.quantize.pipeline import quantize_model
from ruvq.train import QatConfig, RunOptions, Work, qat
from ruvq.train.run import AUTO_RATE

ROOT = Path(__file__).resolve().parent.parent
MARKER = "qat table"
FORMATS = ("pi-t3", "pi-t2", "ternary")
WAYS = ("ptq", "calibrated", "thorough", "qat", "lora")
NAMES = {"stories260K": "stories260K", "bundled": "The bundled model"}
PIECES = tuple(
    f"{model}/{piece}"
    for model in NAMES
    for piece in ("float", *(f"{format}/{way}" for format in FORMATS for way in WAYS))
)
TRAINED_ON = "text/tiny_stories_train.txt"
CALIBRATED = 16384  # tokens of the training text


def measured(path: Path, text: str, tokens: int | None, kv: str) -> Any:
    """The engine's perplexity of a file."""
    with ruvq.Model.open(path, kv=kv) as model:
        return perplexity(model, text, max_tokens=tokens)


def quantized(subject: Subject, data: Path, folder: Path, format: str, way: str) -> Any:
    """The file of one format without training: `calibrated` and `thorough` with a calibration."""
    options: dict[str, Any] = {}
    if way in ("calibrated", "thorough"):
        artifact, texts = folder / "calibration.gguf", [str(data / TRAINED_ON)]
        calibrate(subject.model, texts, artifact, tokenizer=subject.tokenizer, max_tokens=CALIBRATED)
        options = {"calibration": artifact, "incoherence": "hadamard"}
    if way == "thorough":
        options |= {"sequential": True, "thorough": format.startswith("pi-t")}
    return quantize_model(
        subject.model, folder / "model.gguf", format, tokenizer=subject.tokenizer, progress=False,
        overwrite=True, **options,
    )  # fmt: skip


def piece(name: str, args: argparse.Namespace, folder: Path, text: str) -> dict[str, Any]:
    """Makes one file and measures it."""
    model, _, rest = name.partition("/")
    format, _, way = rest.partition("/")
    subject = subjects(args.data)[model]
    out: dict[str, Any] = {"piece": name}
    if way in ("qat", "lora"):
        config = QatConfig.preset(format, use_lora=way == "lora", **DEFAULTS)
        seconds, began = None if args.steps else 60 * args.minutes, time.process_time()
        report = qat(
            subject.model, [str(args.data / TRAINED_ON)], folder / "model.gguf", config,
            RunOptions(steps=args.steps or 10**9, max_seconds=seconds, auto_rate=AUTO_RATE),
            Work(threads=args.threads, device=args.device), tokenizer=subject.tokenizer, overwrite=True,
        )  # fmt: skip
        out |= {"steps": report.steps, "tokens": report.tokens, "minutes": report.seconds / 60}
        out["cpu_minutes"] = (time.process_time() - began) / 60
        out["device"] = f"{report.device}, {args.threads} threads"
        bits = report.bits_per_weight_actual
    else:
        bits = quantized(
            subject, args.data, folder, "f32" if format == "float" else format, way
        ).bits_per_weight_actual
    found = measured(folder / "model.gguf", text, subject.evaluated, "f32" if format == "float" else "f16")
    return {**out, "bits": bits, "perplexity": float(found), "stderr": found.stderr, "of": found.tokens}


def pieces(path: Path) -> dict[str, dict[str, Any]]:
    """Those that are done, the last of each name."""
    return {line["piece"]: line for line in journal.read(path)}


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Does what the journal lacks, one line after the other."""
    text = (args.data / "text/tiny_stories_test.txt").read_text(encoding="utf-8")
    done = pieces(args.journal)
    for name in args.pieces or PIECES:
        if name in done and not args.again:
            continue
        with tempfile.TemporaryDirectory(prefix="ruvq-table-") as folder:
            found = piece(name, args, Path(folder), text)
        journal.add(args.journal, found)
    return pieces(args.journal)


def cell(found: dict[str, Any] | None) -> str:
    """A perplexity with its error, and what it was trained with."""
    if found is None:
        return "not measured"
    text = f"{found['perplexity']:.2f} ± {found['stderr']:.2f}"
    if "steps" not in found:
        return text
    spent = f"{found['minutes']:.1f} min"
    if "cpu_minutes" in found:
        spent += f", of CPU {found['cpu_minutes']:.1f}"
    return f"{text} ({found['steps']:,} steps, {found['tokens'] / 1e6:.2f} M tokens, {spent})"


def table(done: dict[str, dict[str, Any]]) -> str:
    """What the journal has."""
    rows = [
        "Embeddings quantized too; perplexity on `tiny_stories_test.txt`. One run of each, on a CPU that was",
        "busy with other work too; made by `python build/qat_table.py --write docs/qat.md`. PTQ is the best",
        f"of `ruvq quantize` without `--calibration`, with it ({CALIBRATED:,} tokens) and with `--sequential",
        "--thorough`, chosen on the same text. Taken back: of the loss in nats that PTQ adds to the floats',",
        "what training undoes.",
    ]
    for model in NAMES:
        if f"{model}/float" in done:
            prefix = f"{model}/"
            own = {name.removeprefix(prefix): done[name] for name in done if name.startswith(prefix)}
            rows += ["", *table_of(model, own)]
    return "\n".join(rows)


def table_of(model: str, done: dict[str, dict[str, Any]]) -> list[str]:
    """The rows of one model."""
    whole = done["float"]
    rows = [
        f"**{NAMES[model]}**, {whole['of']:,} tokens; floats: {cell(whole)}.",
        "",
        "| format | bits | PTQ | QAT | of float | taken back | LoRA-QAT, rank 16 | taken back |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for format in FORMATS:
        ptq = [done[f"{format}/{way}"] for way in WAYS[:3] if f"{format}/{way}" in done]
        best = min(ptq, key=lambda found: found["perplexity"], default=None)
        trained, lora = (done.get(f"{format}/{way}") for way in ("qat", "lora"))
        bits = best or trained or lora
        if bits is None:
            continue
        way = f", {best['piece'].rpartition('/')[2]}" if best else ""
        ratio = f"{trained['perplexity'] / whole['perplexity']:.2f}" if trained else ""
        cells = [format, f"{bits['bits']:.2f}", cell(best) + way, cell(trained), ratio,
                 back(whole, best, trained), cell(lora), back(whole, best, lora)]  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def back(whole: dict[str, Any], ptq: dict[str, Any] | None, trained: dict[str, Any] | None) -> str:
    """The share of the loss that training takes back."""
    if ptq is None or trained is None:
        return ""
    losses = [math.log(found["perplexity"]) for found in (whole, ptq, trained)]
    return f"{100 * (losses[1] - losses[2]) / (losses[1] - losses[0]):.0f} %"


def main() -> int:
    """Prints the table or writes it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--minutes", type=float, default=12.0, help="of training, for each run")
    parser.add_argument("--steps", type=int, default=0, help="so many steps instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pieces", nargs="*", choices=PIECES, metavar="PIECE", help="only these")
    parser.add_argument("--again", action="store_true", help="also those that are done")
    parser.add_argument("--journal", type=Path, default=ROOT / "out" / "qat_table.jsonl")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
        return 3
    done = measure(args)
    content = table(done)
    if args.write:
        insert(args.write, MARKER, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
