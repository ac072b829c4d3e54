"""`ruvq qat`: train a model with its quantization in the loop."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .console import SEED, Progress, note, number, whole

EXAMPLES = """  ruvq qat --model stories260K.bin --tokenizer tok512.bin --format pi-t2 --text stories.txt \\
      --max-minutes 12 --output qat.gguf
  ruvq qat --model model_dir/ --format pi-t2 --text stories.txt --steps 4000 --device cuda --output qat.gguf
  ruvq qat --model model_dir/ --format pi-t3 --text gsm8k_train.jsonl --teacher large_dir/ --epochs 3 \\
      --checkpoint run/ --resume --events run.jsonl --output qat.gguf
  ruvq qat --model model_dir/ --settings ruvq.toml --text stories.txt --output qat.gguf
  ruvq qat --model model_dir/ --dataset train.parquet --dataset-field question,answer --output qat.gguf
  ruvq qat --model model_dir/ --start calibrated-pi-t2.gguf --text stories.txt --output qat.gguf"""

# flags that change a field of QatConfig: (flag, field, type, what it says)
SETTINGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--bits", "bits", whole(2, 8), "bits of the reference grids"),
    ("--k", "k", whole(2, 5), "divisor of pi, the same in all layers"),
    ("--ste", "ste", str, "how gradients pass rounding: standard, clipped, lsq (learned steps), ewgs"),
    ("--ewgs-delta", "ewgs_delta", number(0, 0.99), "of ewgs (default 0.1)"),
    ("--granularity", "granularity", str, "steps of the reference grids: tensor, channel, block"),
    ("--incoherence", "incoherence", str, "auto, none, hadamard or orthogonal"),
    (
        "--activation-bits",
        "activation_bits",
        whole(0, 8),
        "round activations in training, as the engine with 8",
    ),
    ("--seed", "seed", SEED, "of the transform and of the order of the text"),
    ("--refresh-every", "refresh_every", whole(1), "steps between assignments of codes"),
    ("--search-every", "search_every", whole(1), "assignments between searches of scales (GPU)"),
    ("--quantizer-learning-rate", "quantizer_learning_rate", number(1e-9, 1), "of learned steps"),
    ("--epochs", "epochs", whole(1), "how often the text is read"),
    ("--batch-size", "batch_size", whole(1), "windows of a batch"),
    ("--gradient-accumulation", "gradient_accumulation", whole(1), "batches of a step"),
    ("--warmup", "warmup", number(0, 1), "share of the run in which the rate rises"),
    ("--weight-decay", "weight_decay", number(0, 1), "of the matrices"),
    ("--task-weight", "alpha_task", number(0, 1e6), "weight of the next-token loss"),
    ("--kd-weight", "beta_kd", number(0, 1e6), "weight of the distance from the teacher"),
    ("--reasoning-weight", "gamma_reasoning", number(0, 1e6), "weight of it along reasoning steps"),
    ("--temperature", "temperature", number(0.01, 100), "of the distillation"),
    ("--lora-rank", "lora_rank", whole(1), "rank of the adapters"),
    ("--lora-alpha", "lora_alpha", number(1e-6, 1e6), "their scale times rank"),
    ("--lora-init", "lora_init", str, "zero, or error: from the quantization's error"),
)
HAS_SETTINGS = True
# what a run starts from, beside the preset of the format (measured: docs/qat.md)
DEFAULTS = {
    "batch_size": 4,
    "gradient_accumulation": 1,
    "refresh_every": 4,
    "beta_kd": 1.0,
    "temperature": 1.0,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="Hugging Face folder, .safetensors, .gguf or llama2.c .bin",
    )
    files.add_argument("--tokenizer", metavar="PATH", help="as for `ruvq quantize`")
    files.add_argument(
        "--text", action="append", default=[], metavar="FILE",
        help="UTF-8 text (pieces separated by <|endoftext|>) or .jsonl; may be given several times",
    )  # fmt: skip
    files.add_argument(
        "--dataset", metavar="NAME_OR_PATH",
        help="a data set for the `datasets` library: .jsonl, .parquet, folder, or a name on the hub",
    )  # fmt: skip
    files.add_argument(
        "--dataset-field", metavar="FIELD", help="what holds its text, or QUESTION,ANSWER (default: found)"
    )
    files.add_argument("--dataset-split", default="train", help="of the data set (default train)")
    files.add_argument(
        "--eval-text", action="append", default=[], metavar="FILE",
        help="what is evaluated on (default: 4 %% of the pieces, which aren't trained on then)",
    )  # fmt: skip
    files.add_argument("--output", required=True, metavar="FILE", help="the GGUF file to write")
    files.add_argument("--force", action="store_true", help="replace the output when it exists")
    files.add_argument("--checkpoint", metavar="FOLDER", help="where checkpoints go, one a minute")
    files.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    files.add_argument("--events", metavar="FILE", help="losses and evaluations, one JSON object a line")
    files.add_argument("--tensorboard", metavar="FOLDER", help="the same for TensorBoard")
    files.add_argument(
        "--adapters", metavar="FOLDER", help="with --use-lora: keep the adapters, in PEFT's format"
    )
    files.add_argument(
        "--ship-adapter", metavar="FILE.gguf",
        help="with --use-lora: train the adapters beside the quantized base, not through the quantizer, "
        "and write them here; the output is the base alone, to be run with --adapter",
    )  # fmt: skip
    files.add_argument(
        "--start", default="float", metavar="float|ptq|FILE.gguf",
        help="what the first codes and scales are from: the floats (default), calibrated quantization done "
        "first (ptq), or a file that `ruvq quantize` made of the model in this format",
    )  # fmt: skip
    files.add_argument(
        "--calibration",
        metavar="FILE",
        help="with --start ptq: what `ruvq calibrate` wrote, instead of doing so",
    )
    teacher = parser.add_argument_group("teacher")
    teacher.add_argument(
        "--teacher", default="self", metavar="PATH",
        help="what is imitated: the model in floats (self, the default), another model, or none",
    )  # fmt: skip
    teacher.add_argument("--teacher-cache", metavar="FILE", help="keep the teacher's logits on disk")
    _add_settings(parser.add_argument_group("settings (defaults: docs/qat.md)"))
    work = parser.add_argument_group("work")
    work.add_argument("--steps", type=whole(1), help="steps at most (default: what --epochs give)")
    work.add_argument("--max-minutes", type=number(0.01, 1e5), help="minutes of training at most")
    work.add_argument(
        "--window", type=whole(2, 1 << 20), default=128, help="tokens of a window (default 128)"
    )
    work.add_argument("--eval-every", type=whole(1), default=100, help="steps (default 100)")
    work.add_argument(
        "--patience", type=whole(0), default=0, help="stop after so many evaluations without progress"
    )
    work.add_argument("--device", default="cpu", help="cpu, cuda or auto (default cpu)")
    work.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="auto: bfloat16 on a GPU"
    )
    work.add_argument("--threads", type=whole(1, 1024), help="CPU threads (default: torch's choice)")
    work.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    work.add_argument(
        "--allow-float-layers", action="store_true", help="train layers that can't be quantized in floats"
    )
    work.add_argument("--timestamp", help="time to record (default now)")


def _add_settings(group: Any) -> None:
    group.add_argument(
        "--format",
        help="pi-t2 (default), pi-t3, pi-x2, pi-x3, pi-q2, pi-q3, ternary, pi-ternary, uniform, stretched",
    )
    group.add_argument(
        "--learning-rate", metavar="RATE",
        help="of the weights: a number, or auto (the default): 1 %% of each matrix's root mean square, less "
        "for rows wider than 64",
    )  # fmt: skip
    group.add_argument(
        "--embeddings", choices=("same", "f16"), help="f16: embedding and output stay floats (default same)"
    )
    group.add_argument(
        "--k-per-layer", action="store_true", default=None,
        help="pi-t and pi-x: one k for each matrix, searched with the scales, instead of one for 64 weights",
    )  # fmt: skip
    group.add_argument("--use-lora", action="store_true", default=None, help="train only adapters")
    group.add_argument("--target-modules", metavar="LIST", help="layers with adapters (default: q, k, v, o)")
    for flag, _, kind, text in SETTINGS:
        group.add_argument(flag, type=kind, help=text)


def settings_of(args: argparse.Namespace) -> Any:
    """QatConfig from the flags, which have the file's values where they weren't given."""
    from ..train import QatConfig

    changes = {
        field: getattr(args, flag[2:].replace("-", "_"))
        for flag, field, _, _ in SETTINGS
        if getattr(args, flag[2:].replace("-", "_")) is not None
    }
    if args.embeddings is not None:
        changes["embeddings"] = args.embeddings == "same"
    for switch in ("use_lora", "k_per_layer"):
        if getattr(args, switch):
            changes[switch] = True
    if args.learning_rate not in (None, "auto"):
        try:
            changes["learning_rate"] = float(args.learning_rate)
        except ValueError:
            raise UsageError(
                "not a learning rate", subject="--learning-rate", expected="a number or auto",
                actual=args.learning_rate,
            ) from None  # fmt: skip
    if args.target_modules:
        changes["target_modules"] = tuple(m.strip() for m in args.target_modules.split(",") if m.strip())
    return QatConfig.preset(args.format or "pi-t2", **{**DEFAULTS, **changes})


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    if not args.text and not args.dataset:
        raise UsageError("there is nothing to train on", subject="--text", expected="--text or --dataset")
    config = settings_of(args)
    from ..train.loop import RunOptions
    from ..train.run import AUTO_RATE, Work, qat

    automatic = args.learning_rate in (None, "auto")
    bfloat16 = args.precision == "bfloat16" or (args.precision == "auto" and args.device.startswith("cuda"))
    options = RunOptions(
        window=args.window,
        steps=args.steps if args.steps or not args.max_minutes else 10**9,
        max_seconds=60 * args.max_minutes if args.max_minutes else None,
        auto_rate=AUTO_RATE if automatic else None,
        eval_every=args.eval_every,
        patience=args.patience,
        folder=Path(args.checkpoint) if args.checkpoint else None,
        precision="bfloat16" if bfloat16 else "float32",
    )
    work = Work(
        dataset=args.dataset,
        dataset_fields=[f.strip() for f in (args.dataset_field or "").split(",") if f.strip()],
        dataset_split=args.dataset_split,
        teacher=args.teacher, teacher_cache=args.teacher_cache, eval_texts=args.eval_text, device=args.device,
        threads=args.threads, gradient_checkpointing=args.gradient_checkpointing,
        allow_float_layers=args.allow_float_layers, resume=args.resume, events=args.events,
        tensorboard=args.tensorboard, adapters=args.adapters, ship_adapter=args.ship_adapter,
        start=args.start, calibration=args.calibration,
    )  # fmt: skip
    with Progress(args.quiet, "%", "qat") as bar:
        report = qat(
            args.model, args.text, args.output, config, options, work,
            tokenizer=args.tokenizer, overwrite=args.force, command=_recorded(args), timestamp=args.timestamp,
            progress=lambda done, text: bar.to(round(100 * done), 100, text),
            settings=_recorded_settings(args),
        )  # fmt: skip
    note(
        args,
        f"{report.output}: {report.file_bytes:,} bytes, {report.format}, "
        f"{report.bits_per_weight_actual:.2f} bits per weight; "
        f"{report.steps} steps, {report.tokens:,} tokens, {report.seconds:.0f} s\n"
        f"held-out perplexity: float {report.perplexity_float:.2f}, quantized {report.perplexity_start:.2f}, "
        f"trained {report.perplexity:.2f}",
    )
    return report.as_dict()


def _recorded_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The effective configuration, without folders."""
    from .settings import effective

    found = effective(args, "qat")
    found["distillation"]["teacher_path"] = Path(args.teacher).name
    return found


def _recorded(args: argparse.Namespace) -> str:
    """The command for the recipe, without folders."""
    words = ["ruvq", "qat", "--model", Path(args.model).name]
    for text in args.text:
        words += ["--text", Path(text).name]
    if args.dataset:
        words += ["--dataset", Path(args.dataset).name]
    flags = [flag for flag, _, _, _ in SETTINGS] + ["--format", "--learning-rate", "--embeddings", "--steps"]
    for flag in [*flags, "--max-minutes", "--window"]:
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            words += [flag, str(value)]
    if args.start != "float":
        words += ["--start", args.start if args.start == "ptq" else Path(args.start).name]
    if args.k_per_layer:
        words.append("--k-per-layer")
    if args.ship_adapter:
        words += ["--ship-adapter", Path(args.ship_adapter).name]
    return shlex.join([*words, "--use-lora"] if args.use_lora else words)
