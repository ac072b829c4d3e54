"""`ruvq adapter`: LoRA adapters from PEFT's format to GGUF and back, and several merged into one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import SEED, note, number, whole

if TYPE_CHECKING:
    from ..adapters import Lora

EXAMPLES = """  ruvq adapter convert pirate_folder/ --base model-pi-t2.gguf --output pirate.gguf
  ruvq adapter convert pirate.gguf --base model_dir/ --output pirate_folder/
  ruvq adapter merge pirate_folder/ poet_folder/ --method ties --weights 0.7 0.3 --density 0.5 --output both/
  ruvq adapter merge pirate.gguf poet.gguf --method slerp --weights 0.5 0.5 --output both.gguf
  ruvq run model-pi-t2.gguf --adapter pirate.gguf:0.8 --prompt "Once upon a time" """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("action", choices=("convert", "merge"), help="what to do")
    parser.add_argument(
        "adapters", nargs="+", metavar="ADAPTER", help="a folder in PEFT's format, or a GGUF file"
    )
    parser.add_argument(
        "--output", "-o", required=True, metavar="PATH", help="a new FILE.gguf, or a folder for PEFT's format"
    )
    parser.add_argument("--force", action="store_true", help="replace the output when it exists")
    parser.add_argument(
        "--type", choices=("f16", "f32"), default="f16", help="numbers of a GGUF output (default f16)"
    )
    convert = parser.add_argument_group("convert")
    convert.add_argument(
        "--base",
        metavar="PATH",
        help="the model it belongs to, as for `ruvq quantize`, or a quantized GGUF file",
    )
    convert.add_argument("--tokenizer", metavar="PATH", help="as for `ruvq quantize`")
    merge = parser.add_argument_group("merge (methods: docs/qat.md)")
    merge.add_argument(
        "--method", default="cat", metavar="NAME",
        help="cat (exact, the default), svd, linear, ties, dare_linear, dare_ties, magnitude_prune, "
        "the last four also with _svd behind, or slerp",
    )  # fmt: skip
    merge.add_argument(
        "--weights",
        nargs="+",
        type=number(-1e6, 1e6),
        metavar="W",
        help="one each (default: equal, 1 in all)",
    )
    merge.add_argument(
        "--density",
        type=number(1e-6, 1),
        default=1.0,
        help="part of the values that stays (ties, dare, prune)",
    )
    merge.add_argument("--rank", type=whole(1, 1 << 16), help="of methods with svd (default: the largest)")
    merge.add_argument(
        "--majority", choices=("total", "frequency"), default="total", help="how ties finds the sign"
    )
    merge.add_argument("--seed", type=SEED, default=0, help="of dare (default 0)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    from ..adapters import convert_adapter, merge_adapters

    if args.action == "convert":
        if len(args.adapters) != 1 or args.base is None:
            raise UsageError(
                "convert takes one adapter and its base", subject="convert", expected="ADAPTER --base PATH",
                actual=f"{len(args.adapters)} adapters" + ("" if args.base else " and no --base"),
            )  # fmt: skip
        lora = convert_adapter(
            args.adapters[0], args.output, args.base, tokenizer=args.tokenizer, type=args.type,
            overwrite=args.force,
        )  # fmt: skip
    else:
        lora = merge_adapters(
            args.adapters, args.output, args.method, args.weights, density=args.density, rank=args.rank,
            majority=args.majority, seed=args.seed, type=args.type, overwrite=args.force,
        )  # fmt: skip
    report = _described(lora, args.output)
    note(args, f"{args.output}: {report['matrices']} matrices, rank {report['rank']}")
    return report


def _described(lora: Lora, output: str) -> dict[str, Any]:
    pairs = lora.pairs.values()
    return {
        "output": output,
        "kind": "gguf" if lora.architecture else "peft",
        "matrices": len(pairs),
        "rank": max(pair.rank for pair in pairs),
        "parameters": sum(pair.a.size + pair.b.size for pair in pairs),
    }
