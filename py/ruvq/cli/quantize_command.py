"""`ruvq quantize`: the plan, the work, the report."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import SEED, Progress, note, number, whole

if TYPE_CHECKING:
    from ..quantize.plan import Plan
    from ..quantize.writing import Step
    from ..sources import Source

HAS_SETTINGS = True
DEFAULT_FORMAT = "pi-t3"
EXAMPLES = """  ruvq quantize --input model_dir/ --format pi-t3 --output model-pi-t3.gguf
  ruvq quantize --input stories260K.bin --tokenizer tok512.bin --format pi-t2 --output tiny.gguf --json
  ruvq quantize --input w.safetensors --config config.json --format q8_0 --fallback f16 --output model.gguf
  ruvq quantize --input model-f16.gguf --format pi-q3 --k 4 --embeddings f16 --output model-pi-q3.gguf
  ruvq quantize --input model_dir/ --format q4_k_m --calibration text.imatrix.gguf --output model-Q4_K_M.gguf
  ruvq quantize --input model_dir/ --format q3_k --fallback auto --output model-Q3_K.gguf
  ruvq quantize --input model_dir/ --format q2_k --rotate residual --output model-Q2_K.gguf
  ruvq quantize --input onnx_dir/model.onnx --format pi-t2 --output model-pi-t2.gguf
  ruvq quantize --input model_dir/ --format pi-t3 --plan
  ruvq quantize --input model_dir/ --target-size 130MB --calibration calibration.gguf --output model.gguf
  ruvq quantize --input model_dir/ --target-bpw 2.5 --candidates pi-t2,pi-t3,q8_0 --strict --plan
  ruvq quantize --input model_dir/ --target-bpw 4 --candidates stock --calibration cal.gguf --output m.gguf
  ruvq quantize --settings ruvq.toml --input model_dir/ --output model.gguf
  ruvq quantize --settings ruvq.toml --show-config"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="Hugging Face folder, .safetensors, .onnx, .gguf in floats or Q8_0, or llama2.c .bin",
    )
    files.add_argument("--output", metavar="FILE", help="the GGUF file to write")
    files.add_argument("--force", action="store_true", help="replace the output when it exists")
    files.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="tokenizer.json, tokenizer.model or tok*.bin (default: beside the weights)",
    )
    files.add_argument("--config", metavar="FILE", help="config.json of a .safetensors or .onnx file")
    files.add_argument(
        "--chat-template", metavar="FILE",
        help="take the chat template from a file; none: store none (default: the model's own)",
    )  # fmt: skip
    formats = parser.add_argument_group("formats")
    formats.add_argument(
        "--format",
        help="format of the weight matrices (default pi-t3): pi-t3, pi-t2, pi-x3, pi-x2 (better, slower), "
        "pi-q3, pi-q2, ternary, pi-ternary, q8_0, f16, bf16, f32; ggml's q6_k, q5_k, q4_k, q3_k, q2_k, q4_0, "
        "iq4_nl, iq4_xs, iq3_xxs, iq2_xs, iq2_xxs, tq1_0, tq2_0, and the mixes q4_k_m and q5_k_m",
    )
    formats.add_argument(
        "--embeddings", default="same", metavar="FORMAT", help="another format for token_embd"
    )
    formats.add_argument(
        "--output-tensor", default="same", metavar="FORMAT", help="another format for output"
    )
    formats.add_argument(
        "--fallback",
        metavar="FORMAT",
        help="format for tensors whose width --format can't hold; auto: the smallest with no fewer bits "
        "(default: stop)",
    )
    formats.add_argument("--k", type=whole(2, 5), help="divisor of pi for pi-q3, pi-q2 and pi-ternary")
    formats.add_argument(
        "--scale",
        metavar="RULE",
        help="how a block's scale is found: default, absmax, rms, absmean, mse, mse-unsigned",
    )
    formats.add_argument(
        "--incoherence",
        default="auto",
        choices=("auto", "none", "hadamard", "orthogonal"),
        help="transform of the rows: randomised Hadamard (auto: for pi-t and pi-x), or a dense rotation, "
        "for widths up to 256",
    )
    formats.add_argument(
        "--rotate",
        default="none",
        choices=("none", "residual", "values", "all"),
        help="rotate the residual stream, the values of attention, or both, and fold that into the weights: "
        "any reader runs the file",
    )
    formats.add_argument("--seed", type=SEED, default=0, help="seed of the transform (default 0)")
    formats.add_argument(
        "--type-ids", choices=("ruvllm",), help="write pi-q3 and pi-q2 under ruvllm's type ids 40 and 41"
    )
    formats.add_argument(
        "--allow-requantize", action="store_true", help="accept a GGUF whose tensors are quantized already"
    )
    formats.add_argument(
        "--calibration",
        metavar="FILE",
        help="what `ruvq calibrate` wrote, or llama.cpp's importance matrix: rounding with error feedback",
    )
    formats.add_argument(
        "--damping", type=number(0, 10), default=0.01, help="of the error feedback (default 0.01)"
    )
    formats.add_argument(
        "--fisher",
        action="store_true",
        help="with the artifact of `ruvq calibrate --fisher`: weigh errors by the gradients too",
    )
    formats.add_argument(
        "--sequential",
        action="store_true",
        help="with --calibration: round each matrix for the inputs that the quantized model will give it, "
        "towards the float model's outputs; better and slower",
    )
    formats.add_argument(
        "--thorough",
        action="store_true",
        help="pi-t, pi-x: search each block's scales longer; with --calibration several times as long",
    )
    size = parser.add_argument_group("a size instead of --format")
    size.add_argument(
        "--target-size", metavar="SIZE",
        help="choose each matrix's format so that the file takes at most this: 130MB, 124MiB",
    )  # fmt: skip
    size.add_argument(
        "--target-bpw", type=number(0.1, 64), metavar="BITS",
        help="choose each matrix's format so that all tensors together take at most so many bits a weight",
    )  # fmt: skip
    size.add_argument(
        "--candidates", metavar="LIST",
        help="the formats to choose from; stock: those that llama.cpp runs (default: those worth having)",
    )  # fmt: skip
    size.add_argument(
        "--strict", action="store_true",
        help="substitute nothing: no fallback, no matrix that candidates or calibration leave out",
    )  # fmt: skip
    work = parser.add_argument_group("work")
    work.add_argument(
        "--threads", type=whole(1, 1024), help="threads (default: all cores); never changes a byte"
    )
    work.add_argument("--timestamp", help="time to record, for files equal to the byte (default now)")
    work.add_argument("--plan", action="store_true", help="print the plan and stop")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    if args.format is not None and (args.target_size is not None or args.target_bpw is not None):
        raise UsageError(
            "a target chooses the formats itself",
            subject="--format",
            expected="--format, or --target-size, or --target-bpw",
            actual="several of them",
            hint="name the formats to choose from with --candidates",
        )
    if args.calibration and (args.target_size is not None or args.target_bpw is not None):
        _check_sensitivity(args)
    args.candidates = [c.strip() for c in (args.candidates or "").split(",") if c.strip()]
    if args.plan:
        return _plan_only(args)
    if not args.output:
        raise UsageError(
            "an output is needed", subject="--output", expected="--output FILE, or --plan", actual="neither"
        )
    from ..quantize.pipeline import quantize_model

    def planned(plan: Plan, source: Source) -> None:
        _show_plan(args, plan, source)

    with Progress(args.quiet, "B", "quantize", scale=True) as bar:

        def step(now: Step) -> None:
            bar.to(now.bytes_done, now.bytes_total, now.tensor, now.resumed)

        report = quantize_model(
            args.input,
            args.output,
            args.format or DEFAULT_FORMAT,
            incoherence=args.incoherence,
            seed=args.seed,
            tokenizer=args.tokenizer,
            config=args.config,
            embeddings=args.embeddings,
            output_tensor=args.output_tensor,
            fallback=args.fallback,
            k=args.k,
            scale=args.scale,
            calibration=args.calibration,
            damping=args.damping,
            sequential=args.sequential,
            fisher=args.fisher,
            thorough=args.thorough,
            target_size=args.target_size,
            target_bpw=args.target_bpw,
            candidates=args.candidates,
            strict=args.strict,
            rotate=args.rotate,
            threads=args.threads,
            progress=step,
            type_ids=args.type_ids,
            timestamp=args.timestamp,
            allow_requantize=args.allow_requantize,
            overwrite=args.force,
            command=recorded_command(args),
            on_plan=planned,
            chat_template=args.chat_template,
            settings=_recorded_settings(args),
        )
    note(args, report.summary())
    return report.as_dict()


def _check_sensitivity(args: argparse.Namespace) -> None:
    """Says so where a target could be met better."""
    from ..quantize.calibration import Calibration

    with Calibration.open(args.calibration) as calibration:
        if calibration.sensitivities() is None:
            note(
                args,
                "note: the calibration has no sensitivities (--sensitivity): weight error decides",
            )


def recorded_command(args: argparse.Namespace) -> str:
    """The command for the recipe: what decides the bytes, without folders and threads."""
    from pathlib import Path

    words = ["ruvq", "quantize", "--input", Path(args.input).name]
    if args.target_size is None and args.target_bpw is None:
        words += ["--format", args.format or DEFAULT_FORMAT]
    for flag, default in (
        ("tokenizer", None),
        ("config", None),
        ("chat_template", None),
        ("embeddings", "same"),
        ("output_tensor", "same"),
        ("fallback", None),
        ("k", None),
        ("scale", None),
        ("incoherence", "auto"),
        ("rotate", "none"),
        ("seed", 0),
        ("type_ids", None),
        ("calibration", None),
        ("damping", 0.01),
        ("target_size", None),
        ("target_bpw", None),
        ("candidates", []),
    ):
        value = getattr(args, flag)
        if value != default:
            files = ("tokenizer", "config", "chat_template", "calibration")
            shown = Path(value).name if flag in files else str(value)
            shown = ",".join(value) if isinstance(value, list) else shown
            words += ["--" + flag.replace("_", "-"), shown]
    given = ("fisher", "sequential", "thorough", "allow_requantize", "strict")
    words += ["--" + flag.replace("_", "-") for flag in given if getattr(args, flag)]
    return shlex.join(words)


def _recorded_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The effective configuration, without folders."""
    from pathlib import Path

    from .settings import effective

    found = effective(args, "quantize")
    if args.calibration:
        found["calibration"]["artifact"] = Path(args.calibration).name
    return found


def _show_plan(args: argparse.Namespace, plan: Plan, source: Source) -> None:
    note(args, f"{args.input}: {source.kind}, {source.architecture}, {source.weights:,} weights")
    for text in (*source.notes, *getattr(source.tokenizer, "notes", ())):
        note(args, f"note: {text}")
    note(args, plan.table())


def _plan_only(args: argparse.Namespace) -> dict[str, Any]:
    from contextlib import ExitStack

    from ..quantize import rotation
    from ..quantize.calibration import Calibration
    from ..quantize.target import make_target, plan_model
    from ..sources import open_source

    with ExitStack() as stack:
        opened = stack.enter_context(
            open_source(args.input, args.tokenizer, args.config, allow_requantize=args.allow_requantize)
        )
        source = rotation.apply(opened, args.rotate, args.seed)
        calibrated = stack.enter_context(Calibration.open(args.calibration)) if args.calibration else None
        with Progress(args.quiet, "w", "plan", scale=True) as bar:
            plan = plan_model(
                source,
                args.format or DEFAULT_FORMAT,
                target=make_target(args.target_size, args.target_bpw, args.candidates),
                calibration=calibrated,
                incoherence=args.incoherence,
                seed=args.seed,
                embeddings=args.embeddings,
                output_tensor=args.output_tensor,
                fallback=args.fallback,
                type_ids=args.type_ids,
                strict=args.strict,
                progress=bar.to,
            )
        print(plan.table(), file=sys.stderr if args.json else sys.stdout)
        return {
            "format": plan.format,
            "settings": _recorded_settings(args),
            "source": source.kind,
            "parameters": plan.weights,
            "tensor_bytes": plan.nbytes,
            "bits_per_weight": plan.nominal_bits,
            "bits_per_weight_actual": plan.actual_bits,
            "tensors": [
                {
                    "name": t.name,
                    "format": t.format,
                    "bpw": t.bits,
                    "bpw_nominal": t.nominal_bits,
                    "bytes": t.nbytes,
                    "shape": list(t.shape),
                    "hadamard": t.method == "hadamard",
                    "transform": t.method or None,
                    "from": t.source_dtype,
                    "instead_of": t.instead_of or None,
                }
                for t in plan.tensors
            ],
        }
