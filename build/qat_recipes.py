"""Recipes of quantization-aware training side by side, at 2 bits, as Markdown.

    python build/qat_recipes.py                              measures what the journal lacks, prints the table
    python build/qat_recipes.py --seconds 60 --only window=64 batch_size=8
    python build/qat_recipes.py --model bundled --seconds 180    on the demo's model instead of stories260K
    python build/qat_recipes.py --write docs/qat.md          puts it between the page's markers

Every recipe has the same CPU time of training, on one thread, whatever else the machine does; the learning
rate follows it. Perplexities are of windows of 256 tokens, whatever the recipe trains on. A recipe is `ruvq
qat`'s with changes: fields of QatConfig, and `window`, `rate` (in place of `--learning-rate auto`'s 0.01),
`format` and `start`. Needs the data folder (RUVQ_DATA, docs/data.md) and the extra `train`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import journal
from data_folder import add_data, lacks
from pages import insert
from qat_models import subjects
from ruvq.cli.qat_command import DEFAULTS
from ruvq.sources import open_source
from ruvq.train import QatConfig, RunOptions, Trainer, Work, load_model
from ruvq.train.data import Stream, read_records, tokenize, tokenizer_of
from ruvq.train.run import AUTO_RATE, split, student_of
from ruvq.train.schedule import Budget
from ruvq.train.start import make_start
from ruvq.train.teacher import ModelTeacher

ROOT = Path(__file__).resolve().parent.parent
MARKERS = {"stories260K": "qat recipes", "bundled": "qat recipes bundled"}
FORMAT = "pi-t2"
TEST_PIECES = 40
WINDOW = 256  # of the evaluations
RECIPES = {
    "stories260K": (
        "",
        "refresh_every=1",
        "beta_kd=0.25",
        "beta_kd=4",
        "alpha_task=0",
        "batch_size=8",
        "window=256",
        "start=ptq",
    ),
    "bundled": ("", "refresh_every=1", "format=pi-x2", "format=uniform bits=8"),
}


class CpuBudget(Budget):
    """Seconds of this process's CPU time."""

    def start(self) -> None:
        """From now on time counts."""
        self._started = time.process_time()

    def elapsed(self) -> float:
        """Seconds so far."""
        return time.process_time() - (self._started or 0.0)


def changes_of(recipe: str) -> dict[str, Any]:
    """`name=value ...` as values."""
    pairs = (word.partition("=") for word in recipe.split())
    return {name: value if name in ("start", "format") else json.loads(value) for name, _, value in pairs}


def measure(recipe: str, args: argparse.Namespace) -> dict[str, Any]:
    """Trains by one recipe; perplexities before and after, steps and tokens."""
    changes = changes_of(recipe)
    subject = subjects(args.data)[args.model]
    window, rate = changes.pop("window", RunOptions.window), changes.pop("rate", AUTO_RATE)
    start = changes.pop("start", "float")
    config = QatConfig.preset(changes.pop("format", FORMAT), **{**DEFAULTS, **changes})
    options = RunOptions(window=window, steps=10**9, max_seconds=args.seconds, auto_rate=rate)
    model, tokenizer = subject.model, subject.tokenizer
    text, test = (args.data / f"text/tiny_stories_{part}.txt" for part in ("train", "test"))
    with open_source(model, tokenizer) as source, tempfile.TemporaryDirectory(prefix="ruvq-recipe-") as name:
        reader, vocab = tokenizer_of(source), source.parameters.vocab_size
        train, held_out = split(read_records([text]))
        streams = [tokenize(r, reader, vocab) for r in (train, held_out, read_records([test])[:TEST_PIECES])]
        teacher = ModelTeacher(load_model(source), vocab)
        began = time.process_time()
        file = None
        if start == "ptq":
            file = make_start(model, [str(text)], Path(name), config, tokenizer=tokenizer, threads=1)
        student = student_of(source, file, config, Work(), torch.device("cpu"))
        prepared = time.process_time() - began
    trainer = Trainer(student, config, options, streams[0], streams[1], teacher)
    out = {
        "model": args.model,
        "recipe": recipe,
        "seconds": args.seconds,
        "prepared": prepared,
        "start": test_of(trainer, streams),
    }
    trainer.budget = CpuBudget(options.steps or 1, args.seconds)
    trainer.budget.start()
    while trainer.budget.done(trainer.state.step) < 1:
        trainer.step()
    state = trainer.state
    return {**out, "steps": state.step, "tokens": state.tokens, "end": test_of(trainer, streams)}


def test_of(trainer: Trainer, streams: list[Stream]) -> list[float]:
    """Perplexity of the held-out and of the test text."""
    teacher, options = trainer.teacher, trainer.options
    trainer.teacher, trainer.options = None, RunOptions(window=WINDOW)
    found = []
    for trainer.held_out in streams[1:]:
        found.append(trainer.evaluate().perplexity)
    trainer.teacher, trainer.options = teacher, options
    return found


def table(lines: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """What the journal has of this budget."""
    done = {
        line["recipe"]: line
        for line in lines
        if (line["model"], line["seconds"]) == (args.model, args.seconds)
    }
    known = RECIPES[args.model]
    rows = [
        f"`python build/qat_recipes.py --model {args.model} --seconds {args.seconds:g} --write docs/qat.md`:",
        "one run of each, one thread, on a CPU that was busy with other work too. Before: the perplexity",
        "of the test text when training starts; prepared: CPU seconds until then, which aren't among those",
        "of training.",
        "",
        "| changed from the default | prepared, s | before | steps | tokens | held-out | test |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for recipe in [r for r in known if r in done] + [r for r in done if r not in known]:
        found = done[recipe]
        name = f"`{recipe}`" if recipe else "nothing"
        cells = [name, f"{found['prepared']:.0f}", f"{found['start'][1]:.2f}", f"{found['steps']}"]
        cells += [f"{found['tokens']:,}", *(f"{perplexity:.2f}" for perplexity in found["end"])]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> int:
    """Prints the table or writes it into a page."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add_data(parser)
    parser.add_argument("--model", choices=sorted(RECIPES), default="stories260K")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of training for each recipe")
    parser.add_argument("--only", nargs="*", metavar="CHANGE", help="one recipe, by its changes")
    parser.add_argument("--journal", type=Path, default=ROOT / "out" / "qat_recipes.jsonl")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to put the table into")
    args = parser.parse_args()
    if lacks(args.data, "stories260K"):
        return 3
    torch.set_num_threads(1)
    for recipe in RECIPES[args.model] if args.only is None else [" ".join(args.only)]:
        done = {(line["model"], line["recipe"], line["seconds"]) for line in journal.read(args.journal)}
        if (args.model, recipe, args.seconds) not in done:
            torch.manual_seed(0)
            journal.add(args.journal, measure(recipe, args))
    content = table(journal.read(args.journal), args)
    if args.write:
        insert(args.write, MARKERS[args.model], content)
    else:
        print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
