"""`ruvq report`: what quantization changed, as one HTML page and as JSON."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from .. import formats
from ..errors import StorageError
from .console import Progress, note, whole
from .files import existing_gguf

EXAMPLES = """  ruvq report model-pi-t3.gguf --against model_dir/ --output report.html
  ruvq report a.gguf b.gguf --against model_dir/ --text test.txt --max-tokens 8000 --output report.html
  ruvq report model.gguf --against model_dir/ --calibration test-calibration.gguf --formats none --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="GGUF files that were made from the model")
    parser.add_argument(
        "--against", required=True, metavar="PATH", help="the float model, as for `ruvq quantize`"
    )
    parser.add_argument("--output", metavar="FILE", help="the page to write (default: none, figures only)")
    parser.add_argument("--force", action="store_true", help="replace the page when it exists")
    parser.add_argument("--tokenizer", metavar="PATH", help="as for `ruvq quantize`")
    parser.add_argument("--config", metavar="FILE", help="config.json of a single .safetensors file")
    parser.add_argument(
        "--calibration", metavar="FILE",
        help="what `ruvq calibrate` wrote, best over other text: errors of products too",
    )  # fmt: skip
    parser.add_argument(
        "--text", metavar="FILE", help="perplexity, KL divergence and same top token on this text too"
    )
    parser.add_argument("--max-tokens", type=whole(1), help="as for `ruvq eval`")
    parser.add_argument(
        "--formats", metavar="LIST", help="formats to draw error against bits for (default: many; none: none)"
    )
    parser.add_argument("--no-peers", action="store_true", help="without ggml's quantizers")
    parser.add_argument("--threads", type=whole(1, 1024), help="threads; they don't change the result")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    from ..evaluate.page import render_page
    from ..evaluate.report import Options, build_report, default_formats
    from ..evaluate.tables import render
    from .eval_command import read_text

    for name in args.files:
        existing_gguf(name)
    target = None if args.output is None else Path(args.output)
    if target is not None:
        _check(target, args.force)
    if args.formats is None:
        chosen = default_formats()
    else:
        names = [name.strip() for name in args.formats.split(",") if name.strip() not in ("", "none")]
        chosen = tuple(formats.get_writable(name).name for name in names)
    options = Options(
        against=args.against,
        tokenizer=args.tokenizer,
        config=args.config,
        calibration=args.calibration,
        text=None if args.text is None else read_text(args.text),
        max_tokens=args.max_tokens,
        formats=chosen,
        peers=not args.no_peers,
        threads=args.threads,
    )
    with Progress(args.quiet, "step", "report") as bar:
        report = build_report(args.files, options, bar.to)
    if target is not None:
        _write(target, render_page(report))
        note(args, f"{target}: {target.stat().st_size:,} bytes")
    if not args.json:
        print(render(_summary(report), False, 1))
    return {**report, "output": None if target is None else str(target)}


def _summary(report: dict[str, Any]) -> list[tuple[str, ...]]:
    head = ("file", "bits", "SNR, dB", "products, dB", "cosine", "perplexity", "KL", "same top, %")
    rows: list[tuple[str, ...]] = [head]
    for file in report["files"]:
        overall, found = file["overall"], file.get("predictions")
        products = overall["output_snr_db"]
        rows.append(
            (
                os.path.basename(file["path"]),
                f"{file['bits']:.3f}",
                f"{overall['snr_db']:.2f}",
                "" if products is None else f"{products:.2f}",
                f"{overall['cosine']:.5f}",
                f"{found['perplexity']:.3f} ± {found['stderr']:.3f}" if found else "",
                f"{found['kl_divergence']:.4f} ± {found['kl_stderr']:.4f}" if found else "",
                _percent(found["same_top_token"], found["same_top_stderr"]) if found else "",
            )
        )
    return rows


def _percent(value: float, stderr: float) -> str:
    return f"{100 * value:.1f} ± {100 * stderr:.1f}"


def _check(target: Path, force: bool) -> None:
    """Refuses what can't become the page, before any work."""
    from ..quantize.checks import check_absent

    if target.is_dir() or not target.parent.is_dir():
        raise StorageError(
            "the page can't be written there",
            subject=str(target),
            expected="a file name in an existing folder",
            actual="a folder" if target.is_dir() else f"no folder {target.parent}",
        )
    check_absent(target, "page", force)


def _write(target: Path, page: str) -> None:
    """Under a temporary name first, so that no half page stays."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise StorageError(
            "the page can't be written", subject=str(target), actual=error.strerror or str(error)
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
