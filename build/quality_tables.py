"""The tables of docs/pi-quant.md and of "A size instead of a format" in docs/quantize.md.

    python build/quality_tables.py            prints them
    python build/quality_tables.py --write    puts them between the pages' markers

They are what `ruvq gate g1`, `ruvq gate g3` and `ruvq quantize --target-bpw` give on the data folder
(RUVQ_DATA, docs/data.md): GPT-2's attention matrices, and stories260K calibrated on `tiny_stories_train.txt`.
ggml's own quantizers stand beside ruvq's where llama-cpp-python is there (RUVQ_LLAMA_PYTHON). Takes some
minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ruvq
from pages import insert
from ruvq.calibrate import calibrate
from ruvq.evaluate import perplexity
from ruvq.evaluate.gate_g1 import GateG1, gate_g1
from ruvq.evaluate.gate_g3 import gate_g3
from ruvq.evaluate.schemes import Matrices
from ruvq.quantize.pipeline import quantize_model

ROOT = Path(__file__).resolve().parent.parent
MAX_TOKENS, CALIBRATION_TOKENS, HELD_OUT_TOKENS = 8000, 32768, 16384
TARGETS = (2.6, 2.8, 3.1, 3.4, 3.8, 4.5)  # bits per weight of everything


@dataclass(frozen=True)
class Bench:
    """The data, and a folder for what is made of it."""

    data: Path
    folder: Path

    @property
    def model(self) -> dict[str, Any]:
        """stories260K, as the converter's arguments."""
        folder = self.data / "stories260K"
        return {"input": folder / "stories260K.bin", "tokenizer": str(folder / "tok512.bin")}

    @cached_property
    def text(self) -> str:
        """What perplexities are taken on."""
        return (self.data / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")

    @cached_property
    def calibration(self) -> Path:
        """From text for training, with sensitivities."""
        return self._calibrated("tiny_stories_train.txt", CALIBRATION_TOKENS, True)

    @cached_property
    def held_out(self) -> Path:
        """From the text that is tested on: to measure with, never to round with."""
        return self._calibrated("tiny_stories_test.txt", HELD_OUT_TOKENS, False)

    def _calibrated(self, text: str, tokens: int, sensitivity: bool) -> Path:
        target = self.folder / f"{text}.gguf"
        calibrate(
            self.model["input"],
            [str(self.data / "text" / text)],
            target,
            tokenizer=self.model["tokenizer"],
            max_tokens=tokens,
            sensitivity=sensitivity,
        )
        return target


def _verdicts(found: GateG1) -> str:
    lines = [
        f"- {v.candidate} against {v.baseline}, {v.preparation}: better on {len(v.better)} of 4"
        for v in found.verdicts
    ]
    return "\n".join([found.table(markdown=True), "", *lines])


def g1_gpt2(bench: Bench) -> str:
    """Real matrices with outliers, of widths that ggml's formats take as they are."""
    with Matrices(bench.data / "gpt2_attention" / "layers_0_5.safetensors") as matrices:
        return _verdicts(gate_g1(matrices))


def g1_stories(bench: Bench) -> str:
    """A model with calibration: error feedback on both sides, products measured on other text."""
    options: dict[str, Any] = {"calibration": bench.calibration, "held_out": bench.held_out}
    with Matrices(bench.model["input"], tokenizer=bench.model["tokenizer"], **options) as matrices:
        return _verdicts(gate_g1(matrices))


def g3(bench: Bench) -> str:
    """Two bits without training."""
    model = bench.model
    found = gate_g3(
        model["input"],
        bench.text,
        bench.calibration,
        tokenizer=model["tokenizer"],
        embeddings="f16",
        max_tokens=MAX_TOKENS,
    )
    lines = [line for line in found.statement().splitlines() if not line.startswith("note")]
    return "\n".join([found.table(markdown=True), "", *(f"- {line}" for line in lines)])


def targets(bench: Bench) -> str:
    """Perplexity of mixed files: with sensitivities, and by the weights' error alone."""
    rows = ["| bits asked for | got | by sensitivity | by weight error |", "| --- | --- | --- | --- |"]
    for bits in TARGETS:
        shown = []
        for sensitive in (True, False):
            target = bench.folder / "model.gguf"
            artifact = bench.calibration if sensitive else bench.folder / "plain.gguf"
            if not artifact.exists():
                _without_sensitivities(bench, artifact)
            report = quantize_model(
                output=target,
                target_bpw=bits,
                calibration=artifact,
                progress=False,
                overwrite=True,
                **bench.model,
            )
            with ruvq.Model.open(target) as model:
                found = perplexity(model, bench.text, max_tokens=MAX_TOKENS)
            shown.append(f"{float(found):.2f} ± {found.stderr:.2f}")
        rows.append(f"| {bits} | {report.bits_per_weight_actual:.2f} | {shown[0]} | {shown[1]} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def _without_sensitivities(bench: Bench, target: Path) -> None:
    """The same calibration, but for what errors cost."""
    calibrate(
        bench.model["input"],
        [str(bench.data / "text" / "tiny_stories_train.txt")],
        target,
        tokenizer=bench.model["tokenizer"],
        max_tokens=CALIBRATION_TOKENS,
    )


TABLES: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "g1 gpt2": ("pi-quant.md", g1_gpt2),
    "g1 stories": ("pi-quant.md", g1_stories),
    "g3": ("pi-quant.md", g3),
    "targets": ("quantize.md", targets),
}


def main() -> int:
    """Prints the tables or writes them into their pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("RUVQ_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--only", choices=TABLES, action="append", help="these tables (default: all)")
    parser.add_argument("--write", action="store_true", help="put them into the pages of docs/")
    args = parser.parse_args()
    if not (args.data / "stories260K").is_dir():
        print(f"no data in {args.data}: set RUVQ_DATA, or fetch it with `make data`", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.data, Path(folder))
        for name in args.only or TABLES:
            page, make = TABLES[name]
            content = make(bench)
            if args.write:
                insert(ROOT / "docs" / page, name, content)
            else:
                print(f"{name}\n\n{content}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
