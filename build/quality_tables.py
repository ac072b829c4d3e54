"""The tables of docs/pi-quant.md, and those of targets and of calibrated ggml formats in docs/quantize.md.

    python build/quality_tables.py            prints them
    python build/quality_tables.py --write    puts them between the pages' markers

They are what `ruvq gate g1`, `ruvq gate g3` and `ruvq quantize` give on the data folder (RUVQ_DATA,
docs/data.md): GPT-2's attention matrices, and stories260K calibrated on `tiny_stories_train.txt`.
ggml's own quantizers stand beside ruvq's where llama-cpp-python is there (RUVQ_LLAMA_PYTHON). Takes some
minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "build" / "bench"))

import numpy as np  # noqa: E402

import ruvq  # noqa: E402
from data_folder import add_data, lacks  # noqa: E402
from padded_model import write_padded  # noqa: E402
from pages import insert  # noqa: E402
from ruvq.calibrate import calibrate  # noqa: E402
from ruvq.evaluate import perplexity  # noqa: E402
from ruvq.evaluate.gate_g1 import GateG1, gate_g1  # noqa: E402
from ruvq.evaluate.gate_g3 import gate_g3  # noqa: E402
from ruvq.evaluate.schemes import Matrices  # noqa: E402
from ruvq.quantize.pipeline import quantize_model  # noqa: E402
from ruvq.runtime.windows import WINDOW, eval_windows  # noqa: E402

MAX_TOKENS, CALIBRATION_TOKENS, HELD_OUT_TOKENS = 8000, 32768, 16384
TARGETS = (2.6, 2.8, 3.1, 3.4, 3.8, 4.5)  # bits per weight of everything
FEW = ("pi-t2", "pi-t3", "q8_0", "f16")
SEEDS = (0, 1, 2)  # of the Hadamard transform
GGML = ("q4_k", "iq4_xs", "q3_k", "iq3_xxs", "q2_k", "iq2_xs")  # where rounding costs something


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
        return self.calibrated(self.folder / "train.gguf", sensitivity=True)

    @cached_property
    def held_out(self) -> Path:
        """From the text that is tested on: to measure with, never to round with."""
        path = self.folder / "test.gguf"
        return self.calibrated(path, "tiny_stories_test.txt", max_tokens=HELD_OUT_TOKENS)

    def calibrated(self, target: Path, text: str = "tiny_stories_train.txt", **options: Any) -> Path:
        """An artifact from one of the texts, as `target`; of stories260K unless another `input` is given."""
        texts = [str(self.data / "text" / text)]
        usual = {"texts": texts, "output": target, "max_tokens": CALIBRATION_TOKENS}
        calibrate(**{**self.model, **usual, **options})
        return target

    def perplexity(self, path: Path) -> Any:
        """Of a quantized file, with its standard error."""
        with ruvq.Model.open(path) as model:
            return perplexity(model, self.text, max_tokens=MAX_TOKENS)

    def losses(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Nats and predicted tokens of each window."""
        with ruvq.Model.open(path) as model:
            size = min(WINDOW, model.info.context_tokens)
            windows = list(eval_windows(self.text, model.tokenizer, size, MAX_TOKENS))
            nats = [-sum(model.score(tokens)) for tokens in windows]
        return np.array(nats), np.array([len(tokens) - 1 for tokens in windows])


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


def g3(bench: Bench, **options: Any) -> str:
    """Two bits without training."""
    model = bench.model
    found = gate_g3(
        model["input"],
        bench.text,
        bench.calibration,
        tokenizer=model["tokenizer"],
        embeddings="f16",
        max_tokens=MAX_TOKENS,
        **options,
    )
    lines = [line for line in found.statement().splitlines() if not line.startswith("note")]
    return "\n".join([found.table(markdown=True), "", *(f"- {line}" for line in lines)])


def g3_sequential(bench: Bench) -> str:
    """The same, rounded as well as can be."""
    return g3(bench, sequential=True, thorough=True)


def _shown(nats: np.ndarray, tokens: np.ndarray) -> str:
    """Perplexity, the mean over the seeds (rows of `nats`), and the range."""
    found = np.exp(nats.sum(1) / tokens.sum())
    return f"{found.mean():.2f} ({found.min():.2f} to {found.max():.2f})"


def _difference(a: np.ndarray, b: np.ndarray, tokens: np.ndarray) -> str:
    """Of the nats a token, over the same windows: mean and standard error over windows."""
    apart = (a - b).mean(0)
    mean = apart.sum() / tokens.sum()
    spread = ((apart - mean * tokens) ** 2).sum() * len(tokens) / (len(tokens) - 1)
    return f"{mean:+.3f} ± {np.sqrt(spread) / tokens.sum():.3f}"


def targets(bench: Bench) -> str:
    """Perplexity of mixed files: with sensitivities, by weight error alone, from few candidates."""
    rows = ["| bits | by sensitivity | by weight error | worse by | few candidates | worse by |"]
    rows.append("|" + " --- |" * 6)
    plain = bench.calibrated(bench.folder / "plain.gguf")
    ways: tuple[dict[str, Any], ...] = (
        {"calibration": bench.calibration},
        {"calibration": plain},
        {"calibration": bench.calibration, "candidates": FEW},
    )
    for bits in TARGETS:
        nats: list[np.ndarray] = []
        cells = [f"{bits}"]
        for way in ways:
            found = [_target_losses(bench, target_bpw=bits, seed=seed, **way) for seed in SEEDS]
            tokens = found[0][1]
            nats.append(np.array([n for n, _ in found]))
            cells.append(_shown(nats[-1], tokens))
            if len(nats) > 1:
                cells.append(_difference(nats[-1], nats[0], tokens))
        rows.append("| " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def _target_losses(bench: Bench, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    target = bench.folder / "model.gguf"
    quantize_model(output=target, progress=False, overwrite=True, **options, **bench.model)
    return bench.losses(target)


def ggml(bench: Bench) -> str:
    """stories260K, padded so that blocks of 256 fit, in ggml's formats: what calibration is worth."""
    rows = ["| format | without calibration | importance | error feedback | `--sequential` |"]
    rows.append("|" + " --- |" * 5)
    narrow, padded, target = (bench.folder / f"{name}.gguf" for name in ("narrow", "padded", "model"))
    quantize_model(output=narrow, format="f32", progress=False, overwrite=True, **bench.model)
    write_padded(narrow, padded)
    source: dict[str, Any] = {"input": padded, "tokenizer": None}
    weighed = bench.calibrated(bench.folder / "importance.gguf", diagonal=True, **source)
    whole = bench.calibrated(bench.folder / "moments.gguf", **source)
    ways: tuple[dict[str, Any], ...] = ({}, {"calibration": weighed}, {"calibration": whole})
    for name in GGML:
        cells = []
        for way in (*ways, {"calibration": whole, "sequential": True}):
            quantize_model(padded, target, name, progress=False, overwrite=True, **way)
            cells.append(f"{float(bench.perplexity(target)):.2f}")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


TABLES: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "g1 gpt2": ("pi-quant.md", g1_gpt2),
    "g1 stories": ("pi-quant.md", g1_stories),
    "g3": ("pi-quant.md", g3),
    "g3 sequential": ("pi-quant.md", g3_sequential),
    "targets": ("quantize.md", targets),
    "ggml calibrated": ("quantize.md", ggml),
}


def main() -> int:
    """Prints the tables or writes them into their pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--only", choices=TABLES, action="append", help="these tables (default: all)")
    parser.add_argument("--write", action="store_true", help="put them into the pages of docs/")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
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
