"""Loss and perplexity by the project's protocol: stories apart, each with BOS, windows of 256, no overlap.

    python build/model/evaluate.py --model web/model --text DATA/text/tiny_stories_test.txt

Besides perplexity per token it prints bits per byte of text, which compares across tokenizers.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from sample_teacher import SEPARATOR

WINDOW = 256


def windows_of(text: str, tokenizer: Tokenizer, bos: int) -> tuple[list[list[int]], int]:
    """Token windows of at least two tokens, and the bytes of text in the stories."""
    windows, text_bytes = [], 0
    for story in text.split(SEPARATOR):
        if not story.strip():
            continue
        text_bytes += len(story.encode())
        tokens = [bos, *tokenizer.encode(story, add_special_tokens=False).ids]
        windows += [tokens[i : i + WINDOW] for i in range(0, len(tokens), WINDOW)]
    return [w for w in windows if len(w) > 1], text_bytes


@torch.inference_mode()
def evaluate(
    logits_of: Callable[[torch.Tensor], torch.Tensor], text: str, tokenizer: Tokenizer, bos: int
) -> dict[str, float]:
    """`logits_of` maps tokens (1, n) to logits (1, n, vocab)."""
    windows, text_bytes = windows_of(text, tokenizer, bos)
    losses, counts = [], []
    for window in windows:
        tokens = torch.tensor([window])
        logits = logits_of(tokens)[0, :-1].float()
        losses.append(F.cross_entropy(logits, tokens[0, 1:], reduction="sum").item())
        counts.append(len(window) - 1)
    tokens_predicted = sum(counts)
    loss = sum(losses) / tokens_predicted
    # standard error of the mean over windows, each weighted by its tokens
    spread = sum((x - loss * n) ** 2 for x, n in zip(losses, counts, strict=True))
    error = math.sqrt(spread * len(windows) / max(1, len(windows) - 1)) / tokens_predicted
    return {
        "loss": loss,
        "standard_error": error,
        "perplexity": math.exp(loss),
        "bits_per_byte": sum(losses) / math.log(2) / text_bytes,
        "windows": len(windows),
        "tokens": tokens_predicted,
        "bytes": text_bytes,
    }


def main() -> None:
    from export_hf import load_folder

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder, such as web/model")
    parser.add_argument("--text", type=Path, required=True, help="text file, stories apart by <|endoftext|>")
    parser.add_argument("--max-bytes", type=int, default=0, help="use only the first bytes of the text")
    args = parser.parse_args()
    model, tokenizer, bos = load_folder(args.model)
    text = args.text.read_text()
    result = evaluate(
        model,
        text.encode()[: args.max_bytes].decode(errors="ignore") if args.max_bytes else text,
        tokenizer,
        bos,
    )
    print(json.dumps({k: round(v, 4) for k, v in result.items()}))


if __name__ == "__main__":
    main()
