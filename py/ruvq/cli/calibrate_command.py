"""`ruvq calibrate`: run the float model on text, for `ruvq quantize --calibration`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .console import SEED, Progress, note, whole

HAS_SETTINGS = True
EXAMPLES = """  ruvq calibrate --input model_dir/ --text my_text.txt --output model-calibration.gguf
  ruvq calibrate --input model_dir/ --text math=gsm8k.jsonl --text code=code.jsonl --text books.txt \\
      --domains math,code,language --samples 10000 --output model-calibration.gguf
  ruvq calibrate --input model-f16.gguf --text my_text.txt --diagonal --output imatrix.gguf
  ruvq calibrate --input model_dir/ --text my_text.txt --sensitivity --output model-calibration.gguf
  ruvq calibrate --input model_dir/ --text my_text.txt --fisher --output model-fisher.gguf
  ruvq calibrate --settings ruvq.toml --input model_dir/ --output model-calibration.gguf
  ruvq quantize --input model_dir/ --calibration model-calibration.gguf --format pi-t2 --output model.gguf"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--input", required=True, metavar="PATH", help="the float model, as for `ruvq quantize`"
    )
    files.add_argument(
        "--text",
        action="append",
        required=True,
        metavar="[DOMAIN=]FILE",
        help="UTF-8 text (pieces separated by <|endoftext|>) or .jsonl with text, question and answer, "
        "prompt and completion, or messages; may be given several times",
    )
    files.add_argument("--output", required=True, metavar="FILE", help="the artifact to write")
    files.add_argument("--force", action="store_true", help="replace the output when it exists")
    files.add_argument("--tokenizer", metavar="PATH", help="as for `ruvq quantize`")
    files.add_argument("--config", metavar="FILE", help="config.json of a single .safetensors file")
    text = parser.add_argument_group("what is used of the text")
    text.add_argument(
        "--domains", metavar="LIST", help="only these: math, code, language, reasoning, tool-use"
    )
    text.add_argument("--samples", type=whole(1), help="samples in all, shared out over the domains")
    text.add_argument(
        "--count",
        action="append",
        metavar="DOMAIN=N",
        help="samples of one domain; may be given several times",
    )
    text.add_argument("--max-tokens", type=whole(1024), default=32768, help="tokens at most (default 32768)")
    text.add_argument("--window", type=whole(2), default=256, help="tokens of a context (default 256)")
    text.add_argument("--seed", type=SEED, default=0, help="decides which samples are taken (default 0)")
    text.add_argument(
        "--allow-outliers", action="store_true", help="take windows that stand far from the others"
    )
    work = parser.add_argument_group("work")
    work.add_argument(
        "--diagonal",
        action="store_true",
        help="only an importance matrix: little memory, a small file, no error feedback",
    )
    work.add_argument(
        "--sensitivity",
        action="store_true",
        help="also measure what an error in each matrix costs, for `ruvq quantize --target-size`: "
        "two short runs of the model for each",
    )
    work.add_argument(
        "--fisher",
        action="store_true",
        help="also collect Fisher information, by gradients, for `ruvq quantize --fisher`: needs the extra "
        "train (torch)",
    )
    work.add_argument("--threads", type=whole(1, 1024), help="threads; change no byte, but of --fisher")
    work.add_argument("--timestamp", help="time to record, for files equal to the byte (default now)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    from ..calibrate import calibrate

    with (
        Progress(args.quiet, "tok", "calibrate", scale=True) as bar,
        Progress(args.quiet, "matrix", "sensitivity") as probing,
        Progress(args.quiet, "tok", "gradients", scale=True) as gradients,
    ):
        report = calibrate(
            args.input,
            args.text,
            args.output,
            tokenizer=args.tokenizer,
            config=args.config,
            domains=_domains(args.domains),
            counts=dict(_count(text) for text in args.count or ()),
            samples=args.samples,
            max_tokens=args.max_tokens,
            window=args.window,
            diagonal=args.diagonal,
            sensitivity=args.sensitivity,
            fisher=args.fisher,
            allow_outliers=args.allow_outliers,
            seed=args.seed,
            threads=args.threads,
            timestamp=args.timestamp,
            overwrite=args.force,
            command=_recorded(args),
            settings=_recorded_settings(args),
            progress=lambda done, total, resumed: bar.to(done, total, resumed=resumed),
            probing=probing.to,
            gradients=gradients.to,
        )
    for outlier in report.outliers:
        note(args, f"note: {outlier}")
    domains = ", ".join(f"{name} {count}" for name, count in report.domains.items())
    note(
        args,
        f"{report.output}: {report.tokens:,} tokens of {report.samples} samples ({domains}) "
        f"in {report.windows} windows, {report.seconds:.1f} s",
    )
    return report.as_dict()


def _domains(text: str | None) -> list[str] | None:
    return None if text is None else [d.strip().replace("_", "-") for d in text.split(",") if d.strip()]


def _count(text: str) -> tuple[str, int]:
    domain, _, number = text.partition("=")
    if not number.isdigit() or int(number) < 1:
        raise UsageError("not a count", subject="--count", expected="DOMAIN=N", actual=text)
    return domain.replace("_", "-"), int(number)


def _recorded_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The effective configuration, without folders."""
    from .settings import effective

    found = effective(args, "calibrate")
    found["calibration"]["text"] = [_without_folder(text) for text in args.text]
    return found


def _without_folder(text: str) -> str:
    """ "math=folder/a.jsonl" → "math=a.jsonl"."""
    domain, equals, path = text.rpartition("=")
    return f"{domain}{equals}{Path(path).name}"


def _recorded(args: argparse.Namespace) -> str:
    """The command for the recipe, without folders."""
    words = ["ruvq", "calibrate", "--input", Path(args.input).name]
    for text in args.text:
        words += ["--text", _without_folder(text)]
    for flag in ("domains", "samples", "max_tokens", "window", "seed"):
        if getattr(args, flag) is not None:
            words += ["--" + flag.replace("_", "-"), str(getattr(args, flag))]
    words += ["--" + flag for flag in ("diagonal", "sensitivity", "fisher") if getattr(args, flag)]
    return shlex.join([*words, *(w for c in args.count or () for w in ("--count", c))])
