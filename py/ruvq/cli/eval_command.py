"""`ruvq eval`: perplexity on a text."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..errors import StorageError, UsageError
from .console import Progress, whole
from .opening import add_model_arguments, open_model

EXAMPLES = """  ruvq eval model.gguf --text stories.txt
  ruvq eval model.gguf --text stories.txt --max-tokens 8000 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_model_arguments(parser)
    parser.add_argument(
        "--text", required=True, metavar="FILE", help="UTF-8 text, pieces separated by <|endoftext|>"
    )
    parser.add_argument(
        "--max-tokens", type=whole(1),
        help="end with the piece (of a text without pieces: the window) in which so many are predicted",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=whole(2), default=256, help="tokens of a window (default 256, the protocol's)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    from ..evaluate import perplexity

    text = _text(args.text)
    model, kv = open_model(args)
    with model, Progress(args.quiet, "tok", "eval") as bar:
        started = time.perf_counter()
        result = perplexity(
            model,
            text,
            window=args.window,
            max_tokens=args.max_tokens,
            progress=lambda done, total, current: bar.to(done, total, f"perplexity {current:.3f}"),
        )
        seconds = time.perf_counter() - started
        context = model.info.context_tokens
    if not args.json:
        print(
            f"perplexity {float(result):.4f} ± {result.stderr:.4f} "
            f"({result.tokens} tokens in {result.windows} windows, {result.tokens / seconds:.0f} tokens/s)"
        )
    return {
        "perplexity": float(result),
        "stderr": result.stderr,
        "tokens": result.tokens,
        "windows": result.windows,
        "window": min(args.window, context),
        "tokens_per_second": result.tokens / seconds,
        "kv": kv,
        "text": args.text,
        "file": args.file,
    }


def _text(name: str) -> str:
    try:
        raw = Path(name).read_bytes()
    except OSError as error:
        raise StorageError(
            "the text can't be read", subject=name, actual=error.strerror or str(error), hint="check the path"
        ) from error
    text = raw.decode("utf-8", "replace")
    if not text.strip():
        raise UsageError(
            "the text is empty", subject=name, expected="text to predict", actual=f"{len(raw)} bytes"
        )
    return text
