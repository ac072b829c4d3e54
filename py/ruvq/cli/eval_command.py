"""`ruvq eval`: perplexity on a text, and how far a model's predictions are from the float model's."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StorageError, UsageError
from .console import Progress, whole
from .opening import add_model_arguments, open_model

if TYPE_CHECKING:
    from ..evaluate.divergence import Divergence

EXAMPLES = """  ruvq eval model.gguf --text stories.txt
  ruvq eval model.gguf --text stories.txt --max-tokens 8000 --json
  ruvq eval model-pi-t3.gguf --against model-f16.gguf --text stories.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_model_arguments(parser)
    parser.add_argument(
        "--text", required=True, metavar="FILE", help="UTF-8 text, pieces separated by <|endoftext|>"
    )
    parser.add_argument(
        "--against", metavar="FILE",
        help="the float model: also KL divergence, same top token, perplexities' ratio, each with its error",
    )  # fmt: skip
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
    from ..evaluate.divergence import compare_models

    text = read_text(args.text)
    with ExitStack() as stack:
        model, kv = open_model(args)
        stack.enter_context(model)
        reference = None
        if args.against is not None:
            reference, _ = open_model(
                argparse.Namespace(**{**vars(args), "file": args.against, "adapter": []})
            )
            stack.enter_context(reference)
        bar = stack.enter_context(Progress(args.quiet, "tok", "eval"))
        options: dict[str, Any] = {
            "window": args.window,
            "max_tokens": args.max_tokens,
            "progress": lambda done, total, current: bar.to(done, total, f"perplexity {current:.3f}"),
        }
        started = time.perf_counter()
        divergence = None if reference is None else compare_models(model, reference, text, **options)
        result = divergence.perplexity if divergence else perplexity(model, text, **options)
        seconds = time.perf_counter() - started
        context = model.info.context_tokens
    if not args.json:
        print(
            f"perplexity {float(result):.4f} ± {result.stderr:.4f} "
            f"({result.tokens} tokens in {result.windows} windows, {result.tokens / seconds:.0f} tokens/s)"
        )
        if divergence is not None:
            print(_described(divergence))
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
        **({"against": args.against, **divergence.as_dict()} if divergence else {}),
    }


def _described(found: Divergence) -> str:
    """A few lines for people."""
    figures = found.as_dict()
    percentiles = ", ".join(f"{p} %: {v:.4f}" for p, v in found.kl_percentiles.items())
    return (
        f"float model: perplexity {float(found.reference):.4f} ± {found.reference.stderr:.4f}, ratio "
        f"{figures['perplexity_ratio']:.4f} ± {figures['perplexity_ratio_stderr']:.4f}\n"
        f"KL divergence {found.kl.value:.5f} ± {found.kl.stderr:.5f} nats a token ({percentiles})\n"
        f"same top token {100 * found.same_top.value:.2f} ± {100 * found.same_top.stderr:.2f} %"
    )


def read_text(name: str) -> str:
    """A text to evaluate on. StorageError, UsageError."""
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
