"""`ruvq run`: generates text from a prompt."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import StorageError, UsageError
from .console import note, whole
from .opening import add_model_arguments, open_model
from .sampling import add_sampling_arguments, sampling_options

EXAMPLES = """  ruvq run model.gguf --prompt "Once upon a time" --max-tokens 100
  ruvq run model.gguf --prompt "Once upon a time" --temperature 0 --json
  ruvq run model.gguf --prompt-file story.txt --seed 7 --top-p 0.9 --stop "The end" """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_model_arguments(parser)
    parser.add_argument("--prompt", help="text to continue (default: none, the model begins)")
    parser.add_argument(
        "--prompt-file", metavar="FILE", help="read the prompt from a file; - is standard input"
    )
    parser.add_argument(
        "--max-tokens",
        type=whole(0, 1 << 24),
        default=256,
        help="tokens to generate (default 256); with an empty prompt the begin-of-text token is the first",
    )
    add_sampling_arguments(parser)
    parser.add_argument(
        "--hashes", action="store_true", help="with --json: hashes of the activations after every layer"
    )
    parser.add_argument("--verify", action="store_true", help="check all data and digests of the file first")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the command."""
    prompt = _prompt(args)
    started = time.perf_counter()
    if args.verify:
        _verify(args.file)
    model, kv = open_model(args, hashes=args.hashes)
    with model:
        loaded = time.perf_counter() - started
        begins = not prompt and model.tokenizer.add_bos  # nothing is given: BOS is the text's first token
        generation = model.generate(
            prompt,
            max(0, args.max_tokens - 1) if begins else args.max_tokens,
            **sampling_options(args),
        )
        for piece in generation:
            if not args.json:
                print(piece, end="", flush=True)
        stats = generation.stats
        if not args.json:
            print(flush=True)
        note(
            args,
            f"{stats.decode_tokens} tokens at {stats.tokens_per_second:.1f} tokens/s, prompt of "
            f"{stats.prompt_tokens} at {stats.prompt_tokens_per_second:.1f} tokens/s, KV cache {kv}, "
            f"ended by {generation.finish_reason}",
        )
        result = {
            "text": generation.text,
            "tokens_per_second": stats.tokens_per_second,
            "tokens": list(generation.tokens),
            "finish_reason": generation.finish_reason,
            "prompt_tokens": stats.prompt_tokens,
            "prompt_tokens_per_second": stats.prompt_tokens_per_second,
            "load_seconds": round(loaded, 4),
            "seed": generation.sampling.seed if args.temperature > 0 else None,
            "kv": kv,
            "context": model.info.context_tokens,
            "memory_bytes": model.info.memory_bytes + model.info.weight_bytes,
            "file": args.file,
        }
        if args.hashes:
            result["hashes"] = [f"{h:08x}" for h in model.hashes()]
        return result


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt is not None and args.prompt_file is not None:
        raise UsageError(
            "two prompts are given",
            subject="--prompt-file",
            expected="--prompt or --prompt-file",
            actual="both",
        )
    if args.prompt_file is None:
        return args.prompt or ""
    try:
        raw = sys.stdin.buffer.read() if args.prompt_file == "-" else Path(args.prompt_file).read_bytes()
    except OSError as error:
        raise StorageError(
            "the prompt can't be read",
            subject=args.prompt_file,
            actual=error.strerror or str(error),
            hint="check the path",
        ) from error
    return raw.decode("utf-8", "replace")


def _verify(name: str) -> None:
    from ..gguf import GGUFFile
    from .files import existing_gguf

    with GGUFFile.open(existing_gguf(name)) as file:
        file.verify().raise_first()
