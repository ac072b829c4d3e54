"""`ruvq gate`: the project's gates on quality, computed: g1 (3 bits against a uniform grid), g3 (2 bits)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import SEED, Progress, note, number, whole
from .main import FAILED

if TYPE_CHECKING:
    from ..evaluate.gate_g1 import GateG1
    from ..evaluate.gate_g3 import GateG3

EXAMPLES = """  ruvq gate g1 --input layers.safetensors
  ruvq gate g1 --input model_dir/ --calibration train.gguf --held-out test.gguf --format pi-t3 --json
  RUVQ_LLAMA_PYTHON=peers/bin/python ruvq gate g1 --input layers.safetensors   (beside ggml's own quantizers)
  ruvq gate g3 --input model_dir/ --calibration train.gguf --text test.txt --max-tokens 8000
  ruvq gate g3 --input model_dir/ --calibration train.gguf --text test.txt --embeddings f16 --table"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("gate", choices=("g1", "g3"), help="which gate; exit code 1 where it says no-go")
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
    first = parser.add_argument_group("g1")
    first.add_argument("--format", default="pi-q3", help="the candidate: pi-q3 (default) or pi-t3")
    first.add_argument("--held-out", metavar="FILE", help="calibration over other text, to measure with")
    first.add_argument("--rows", type=whole(1), help="at most so many rows of each matrix (default: all)")
    first.add_argument("--seed", type=SEED, default=0, help="of the transform's signs (default 0)")
    third = parser.add_argument_group("g3")
    third.add_argument("--text", metavar="FILE", help="what perplexity is measured on")
    third.add_argument("--max-tokens", type=whole(1), help="as for `ruvq eval`")
    third.add_argument("--seeds", type=whole(1, 100), default=3, help="transforms to average (default 3)")
    third.add_argument(
        "--embeddings", default="same", metavar="FORMAT", help="another format for embedding and output"
    )
    third.add_argument(
        "--limit", type=number(1, 100), default=1.3, help="times the float perplexity at most (default 1.3)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the gate; no-go is exit code 1."""
    found = _g1(args) if args.gate == "g1" else _g3(args)
    if not args.json:
        print(found.table(markdown=args.table))
    note(args, found.statement())
    return {**found.as_dict(), "exit_code": 0 if found.go else FAILED}


def _g1(args: argparse.Namespace) -> GateG1:
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
        return gate_g1(matrices, args.format, peers=not args.no_peers, seed=args.seed, progress=bar.to)


def _g3(args: argparse.Namespace) -> GateG3:
    from ..evaluate.gate_g3 import gate_g3
    from .eval_command import read_text

    for flag in ("text", "calibration"):
        if getattr(args, flag) is None:
            raise UsageError("g3 needs this", subject=f"--{flag}", expected="a file", actual="none")
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
            progress=bar.to,
        )
