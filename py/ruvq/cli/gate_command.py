"""`ruvq gate`: the project's gates on quality, computed: g1 (3 bits against a uniform grid), g2
(training), g3 (2 bits without it)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import SEED, Progress, note, number, whole
from .main import FAILED

if TYPE_CHECKING:
    from ..evaluate.gate import Gate
    from ..evaluate.gate_g2 import Asked
    from ..evaluate.tasks import Task

EXAMPLES = """  ruvq gate g1 --input layers.safetensors
  ruvq gate g1 --input model_dir/ --calibration train.gguf --held-out test.gguf --format pi-t3 --json
  RUVQ_LLAMA_PYTHON=peers/bin/python ruvq gate g1 --input layers.safetensors   (beside ggml's own quantizers)
  ruvq gate g2 --input model_dir/ --train-text train.txt --text test.txt --max-minutes 10 --ladder
  ruvq gate g2 --input model_dir/ --trained qat.gguf --events run.jsonl --text test.txt --gsm8k q.jsonl
  ruvq gate g3 --input model_dir/ --calibration train.gguf --text test.txt --max-tokens 8000
  ruvq gate g3 --input model_dir/ --calibration train.gguf --text test.txt --embeddings f16 --table
  ruvq gate g3 --input model_dir/ --calibration train.gguf --text test.txt --sequential --thorough"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "gate", choices=("g1", "g2", "g3"), help="which gate; exit code 1 where it says no-go"
    )
    parser.add_argument(
        "--input", required=True, metavar="PATH",
        help="the float model, as for `ruvq quantize`; for g1 also a .safetensors file of matrices alone",
    )  # fmt: skip
    parser.add_argument("--tokenizer", metavar="PATH", help="as for `ruvq quantize`")
    parser.add_argument("--config", metavar="FILE", help="config.json of a single .safetensors file")
    parser.add_argument(
        "--calibration", metavar="FILE", help="what `ruvq calibrate` wrote: for error feedback (g3 needs it)"
    )
    parser.add_argument("--no-peers", action="store_true", help="without ggml's quantizers")
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--format",
        help="g1: the candidate, pi-q3 (default) or pi-t3; g2: what is trained (default pi-t2)",
    )
    first = parser.add_argument_group("g1")
    first.add_argument("--held-out", metavar="FILE", help="calibration over other text, to measure with")
    first.add_argument("--rows", type=whole(1), help="at most so many rows of each matrix (default: all)")
    first.add_argument("--seed", type=SEED, default=0, help="of the transform's signs (default 0)")
    _add_g2(parser)
    both = parser.add_argument_group("g2 and g3")
    both.add_argument("--text", metavar="FILE", help="what perplexity is measured on")
    both.add_argument("--max-tokens", type=whole(1), help="as for `ruvq eval`")
    third = parser.add_argument_group("g3")
    third.add_argument("--seeds", type=whole(1, 100), default=3, help="transforms to average (default 3)")
    third.add_argument(
        "--embeddings", default="same", metavar="FORMAT", help="another format for embedding and output"
    )
    third.add_argument(
        "--limit", type=number(1, 100), default=1.3, help="times the float perplexity at most (default 1.3)"
    )
    third.add_argument("--sequential", action="store_true", help="as for `ruvq quantize`: better, and slower")
    third.add_argument("--thorough", action="store_true", help="as for `ruvq quantize`: better, and slower")


def _add_g2(parser: argparse.ArgumentParser) -> None:
    second = parser.add_argument_group("g2")
    second.add_argument(
        "--train-text", action="append", default=[], metavar="FILE", help="as --text of `ruvq qat`"
    )
    second.add_argument("--trained", metavar="FILE", help="judge this file of `ruvq qat` instead of training")
    second.add_argument("--events", metavar="FILE", help="with --trained: the journal of its run")
    second.add_argument("--output", metavar="FILE", help="keep the trained file that was judged last")
    second.add_argument("--steps", type=whole(1), help="as for `ruvq qat`")
    second.add_argument("--max-minutes", type=number(0.01, 1e5), help="of each training")
    second.add_argument("--lora-rank", type=whole(1), default=16, help="of the adapters (default 16)")
    second.add_argument("--full", action="store_true", help="train all weights, not adapters")
    second.add_argument(
        "--ladder", action="store_true", help="on failure try rank 16, 8, 4, more KD, no training"
    )
    second.add_argument(
        "--memory-limit", type=number(0.01, 1e6), default=2.0, help="GiB of training (default 2)"
    )
    second.add_argument("--gsm8k", metavar="FILE", help="its test.jsonl")
    second.add_argument("--humaneval", metavar="FILE", help="its HumanEval.jsonl.gz; needs --run-code")
    second.add_argument(
        "--run-code", action="store_true",
        help="run the programs that the model writes, with limits but without a sandbox",
    )  # fmt: skip
    second.add_argument(
        "--tool-use", metavar="FILE", help="BFCL's simple calls, with possible_answer/ beside it"
    )
    second.add_argument("--questions", type=whole(1), default=50, help="of each task at most (default 50)")
    second.add_argument("--threads", type=whole(1, 1024), help="CPU threads of the training")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the gate; no-go is exit code 1."""
    found = {"g1": _g1, "g2": _g2, "g3": _g3}[args.gate](args)
    if not args.json:
        print(found.table(markdown=args.table))
    note(args, found.statement())
    return {**found.as_dict(), "exit_code": 0 if found.go else FAILED}


def _g1(args: argparse.Namespace) -> Gate:
    from ..evaluate.gate_g1 import gate_g1
    from ..evaluate.schemes import Matrices

    with (
        Matrices(
            args.input,
            tokenizer=args.tokenizer,
            config=args.config,
            calibration=args.calibration,
            held_out=args.held_out,
            rows=args.rows,
        ) as matrices,
        Progress(args.quiet, "matrix", "gate g1") as bar,
    ):
        return gate_g1(
            matrices, args.format or "pi-q3", peers=not args.no_peers, seed=args.seed, progress=bar.to
        )


def _g3(args: argparse.Namespace) -> Gate:
    from ..evaluate.gate_g3 import gate_g3
    from .eval_command import read_text

    _need(args, "text", "calibration")
    with Progress(args.quiet, "model", "gate g3") as bar:
        return gate_g3(
            args.input,
            read_text(args.text),
            args.calibration,
            tokenizer=args.tokenizer,
            config=args.config,
            embeddings=args.embeddings,
            max_tokens=args.max_tokens,
            seeds=args.seeds,
            limit=args.limit,
            peers=not args.no_peers,
            sequential=args.sequential,
            thorough=args.thorough,
            progress=bar.to,
        )


def _need(args: argparse.Namespace, *flags: str) -> None:
    for flag in flags:
        if not getattr(args, flag):
            subject = "--" + flag.replace("_", "-")
            raise UsageError(f"{args.gate} needs this", subject=subject, expected="a file", actual="none")


def _g2(args: argparse.Namespace) -> Gate:
    _need(args, "text", *(("events",) if args.trained else ("train_text",)))
    asked = _asked(args)
    if args.trained:
        return _judged(args, asked)
    from ..train import QatConfig, RunOptions, Work
    from ..train.gate import Job, gate_g2
    from ..train.run import AUTO_RATE
    from .qat_command import DEFAULTS

    config = QatConfig.preset(
        args.format or "pi-t2", use_lora=not args.full, lora_rank=args.lora_rank, **DEFAULTS
    )
    options = RunOptions(
        steps=args.steps if args.steps or not args.max_minutes else 10**9,
        max_seconds=60 * args.max_minutes if args.max_minutes else None,
        auto_rate=AUTO_RATE,
    )
    job = Job(
        args.input, args.train_text, config, options, Work(threads=args.threads), args.tokenizer,
        args.calibration, round(args.memory_limit * 2**30),
    )  # fmt: skip
    with Progress(args.quiet, "%", "gate g2") as bar:
        return gate_g2(
            job, asked, climb=args.ladder, keep=args.output,
            progress=lambda way, done, text: bar.to(round(100 * done), 100, f"{way}: {text}"),
        )  # fmt: skip


def _judged(args: argparse.Namespace, asked: Asked) -> Gate:
    import tempfile
    from pathlib import Path

    from ..evaluate.gate_g2 import GateG2, Rung, compare, read_journal
    from ..quantize.pipeline import quantize_model

    training = read_journal(args.events)
    with tempfile.TemporaryDirectory(prefix="ruvq-gate-") as folder:
        whole = Path(folder) / "float.gguf"
        quantize_model(args.input, whole, "f32", tokenizer=args.tokenizer, config=args.config, progress=False)
        found = compare(whole, args.trained, asked)
    return GateG2(rungs=[Rung(Path(args.trained).name, training, found, round(args.memory_limit * 2**30))])


def _asked(args: argparse.Namespace) -> Asked:
    """The tasks whose files were given, and why the others are missing."""
    from ..evaluate.gate_g2 import Asked
    from ..evaluate.tasks import LongContext, Programs, ToolCalls, WordProblems
    from .eval_command import read_text

    text = read_text(args.text)
    tasks: list[Task] = [LongContext(text)]
    missing = {"gsm8k": "no --gsm8k", "humaneval": "no --humaneval", "tool use": "no --tool-use"}
    if args.gsm8k:
        tasks.append(WordProblems(args.gsm8k))
    if args.humaneval and args.run_code:
        tasks.append(Programs(args.humaneval))
    elif args.humaneval:
        missing["humaneval"] = "it runs what the model writes, and --run-code was not given"
    if args.tool_use:
        tasks.append(ToolCalls(args.tool_use))
    return Asked(text, tasks, missing, args.max_tokens, args.questions)
