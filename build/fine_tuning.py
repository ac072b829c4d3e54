"""What fine-tuning layer by layer after rounding is worth: codes stay, gains and scales learn.

    python build/fine_tuning.py                              prints the table of docs/pi-quant.md
    python build/fine_tuning.py --formats pi-t3 --steps 20   another format, quickly
    python build/fine_tuning.py --write                      puts it between the page's markers

stories260K is quantized by `--sequential --thorough` (everything, calibrated on 16,384 tokens). Then each
layer in turn is brought near the float model's by Adam: the mean squared error of its output, where its
input is what the quantized layers before it give. The norms' gains are stored in float32 and the blocks'
scales as the format holds them, so that the file keeps its size. The engine measures the exported file on
text that was not trained on. Needs the data folder (RUVQ_DATA, docs/data.md) and the extra `train`; takes
some ten minutes for each format.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ruvq
from data_folder import add_data, lacks
from pages import insert
from ruvq.evaluate import perplexity
from ruvq.sources import open_source
from ruvq.train import QatConfig, export_gguf, load_model, prepare_qat
from ruvq.train.data import Batches, read_records, tokenize, tokenizer_of
from ruvq.train.layers import quantized_layers
from ruvq.train.start import make_start, start_model, take_codes

ROOT = Path(__file__).resolve().parent.parent
MARKER = "fine-tuning"
WINDOW, BATCH, MAX_TOKENS = 256, 4, 8000
RATE = 1e-2  # of gains and of log alpha: both are near 1 or relative
KEPT = 10**9  # assignments apart: never


class Bench:
    """One quantized model and its float original."""

    def __init__(self, data: Path, folder: Path, format: str) -> None:
        self.input = data / "stories260K" / "stories260K.bin"
        self.tokenizer = data / "stories260K" / "tok512.bin"
        self.text = (data / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
        train = str(data / "text" / "tiny_stories_train.txt")
        self.config = QatConfig.preset(format, ste="lsq", refresh_every=KEPT)
        self.file = make_start(self.input, [train], folder, self.config, tokenizer=self.tokenizer, threads=1)
        with open_source(self.input, self.tokenizer) as source:
            self.teacher: Any = load_model(source).eval().requires_grad_(False)
            stream = tokenize(read_records([train]), tokenizer_of(source), source.parameters.vocab_size)
        self.batches = Batches(stream, WINDOW, BATCH, seed=0)

    def student(self) -> nn.Module:
        """The file's codes and scales, frozen."""
        with open_source(self.input, self.tokenizer) as source:
            model = prepare_qat(start_model(self.file, source.parameters), self.config)
            take_codes(model, self.file, self.config, source.parameters)
        return model.requires_grad_(False).train()

    def perplexity(self, path: Path) -> float:
        """On the text that is only tested on."""
        with ruvq.Model.open(path) as model:
            return float(perplexity(model, self.text, max_tokens=MAX_TOKENS))

    def exported(self, model: nn.Module, target: Path) -> float:
        """The perplexity of what is exported."""
        with open_source(self.input, self.tokenizer) as source:
            export_gguf(model.eval(), target, source, overwrite=True)
        return self.perplexity(target)


def gains(part: nn.Module) -> Iterator[nn.Parameter]:
    """Of the norms in it."""
    for module in part.modules():
        if "RMSNorm" in type(module).__name__:
            yield from module.parameters(recurse=False)


def scales(part: nn.Module) -> Iterator[nn.Parameter]:
    """Log alpha of the matrices in it, each once."""
    found = {id(layer.quantizer): layer.quantizer.log_alpha for _, layer in quantized_layers(part)}
    yield from (alpha for alpha in found.values() if alpha is not None)


def chosen(part: nn.Module, what: str) -> list[nn.Parameter]:
    """What learns: "gains" or "gains and scales"."""
    return [*gains(part), *(scales(part) if "scales" in what else ())]


def fit(learning: list[nn.Parameter], loss: Callable[[int], Tensor], steps: int) -> None:
    """Adam with a cosine to 0; `loss` of a batch's number."""
    for parameter in learning:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(learning, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for number in range(steps):
        optimizer.zero_grad()
        loss(number).backward()
        optimizer.step()
        schedule.step()
    for parameter in learning:
        parameter.requires_grad_(False)


class Output:
    """What a layer gave in the last forward pass."""

    def __init__(self, layer: nn.Module) -> None:
        layer.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: Any, found: Any) -> None:
        self.value: Tensor = found[0] if isinstance(found, tuple) else found


def by_layer(bench: Bench, student: Any, what: str, steps: int) -> None:
    """Each layer's output towards the float model's."""
    for mine, theirs in zip(student.model.layers, bench.teacher.model.layers, strict=True):
        got, wanted = Output(mine), Output(theirs)

        def loss(number: int, got: Output = got, wanted: Output = wanted) -> Tensor:
            tokens = torch.from_numpy(bench.batches[number][0])
            with torch.no_grad():
                bench.teacher(tokens, use_cache=False)
            student(tokens, use_cache=False)
            return F.mse_loss(got.value, wanted.value) / wanted.value.square().mean()

        fit(chosen(mine, what), loss, steps)


WAYS = ("gains", "gains and scales")


def row(bench: Bench, format: str, steps: int, folder: Path) -> str:
    """One format's line."""
    cells = [format, f"{bench.perplexity(bench.file):.2f}"]
    for what in WAYS:
        student = bench.student()
        by_layer(bench, student, what, steps)
        cells.append(f"{bench.exported(student, folder / 'tuned.gguf'):.2f}")
        print(format, cells, file=sys.stderr, flush=True)
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """Prints the table or writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--formats", nargs="+", default=["pi-t2"])
    parser.add_argument("--steps", type=int, default=60, help="for each layer")
    parser.add_argument("--write", action="store_true", help="put it into docs/pi-quant.md")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
        return 3
    torch.manual_seed(0)
    rows = [
        "| format | rounded | " + " | ".join(f"{what} tuned" for what in WAYS) + " |",
        "|" + " --- |" * (2 + len(WAYS)),
    ]
    for format in args.formats:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(Bench(args.data, Path(folder), format), format, args.steps, Path(folder)))
    content = "\n".join(rows)
    if args.write:
        insert(ROOT / "docs" / "pi-quant.md", MARKER, content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
