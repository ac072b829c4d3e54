"""Make the bundled model from the data folder: sample, train a tokenizer, train, export, write the card.

    python build/model/make.py --data DIR --out web/model [--minutes 50]
    python build/model/make.py --data DIR --out web/model --device cuda --minutes 0.8 --megabytes 145

Every stage keeps its result in the --work folder and is skipped when it is there; a killed run goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
from pathlib import Path

NEEDED_FILES = (
    "bitllama2/bit_model_3M.bin",
    "stories260K/tok512.bin",
    "text/tiny_stories_train.txt",
    "text/tiny_stories_test.txt",
)


def check_imports() -> None:
    missing = []
    for package in ("torch", "tokenizers", "safetensors", "numpy"):
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        sys.exit(
            f"make.py: {', '.join(missing)} not installed; install the training extra: "
            "pip install 'ruvq[train]' (the CPU build of torch is enough: pip install torch==2.13.0)"
        )


def check_data(data: Path) -> None:
    missing = [name for name in NEEDED_FILES if not (data / name).is_file()]
    if missing:
        sys.exit(f"make.py: {data} lacks {', '.join(missing)}; give the folder with the test data as --data")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with bitllama2/, stories260K/ and text/"
    )
    parser.add_argument("--out", type=Path, required=True, help="where the Hugging Face folder goes")
    parser.add_argument("--work", type=Path, help="samples and checkpoints (default: .data/model)")
    parser.add_argument("--minutes", type=float, default=50.0, help="how long to train")
    parser.add_argument("--steps", type=int, default=0, help="train for so many steps instead (repeatable)")
    parser.add_argument(
        "--megabytes", type=float, default=7.0, help="how much text to sample from the teacher, at most"
    )
    parser.add_argument("--sample-minutes", type=float, default=math.inf, help="how long to sample, at most")
    parser.add_argument("--vocab", type=int, default=2048, help="tokens in the tokenizer")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    parser.add_argument("--export-only", action="store_true", help="export the checkpoint as it is now")
    parser.add_argument("--note", default="", help="a remark on this run, for the card's training section")
    args = parser.parse_args()
    args.work = args.work or Path(".data/model")
    return args


def training_stories(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Real and sampled stories, each ending in a newline as in the real file."""
    from sample_teacher import read_samples, sample, split_stories

    real = split_stories((args.data / "text" / "tiny_stories_train.txt").read_text())
    cache = args.work / "samples"
    kept = args.work / "sampled.json"
    if not kept.exists():
        sample(args.data, cache, int(args.megabytes * 1e6), args.sample_minutes, device=args.device)
        stories = list(read_samples(cache, real))
        random.Random(7).shuffle(stories)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(stories))
        os.replace(part, kept)
    sampled = json.loads(kept.read_text())
    return [s + "\n" for s in real], [s + "\n" for s in sampled]


def main() -> None:
    args = parse_arguments()
    check_imports()
    check_data(args.data)
    import torch
    from tokenizers import Tokenizer

    from card import write_card
    from corpus import make_stream
    from export_hf import export
    from llama import LlamaConfig
    from train import TrainConfig, Trainer, averaged_model
    from train_tokenizer import save_tokenizer, train_tokenizer

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("make.py: --device cuda, but torch sees no CUDA device; use --device cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    real, sampled = training_stories(args)
    config = LlamaConfig(vocab_size=args.vocab)
    tokenizer_path = args.work / "tokenizer.json"
    if not tokenizer_path.exists():
        few = real + sampled[:20_000]
        save_tokenizer(train_tokenizer(few, args.vocab), args.work, config.max_position_embeddings)
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    checkpoint = args.work / "checkpoint.pt"
    real_stream, sampled_stream = make_stream(real, tokenizer), make_stream(sampled, tokenizer)
    print(f"data: {len(real)} real stories, {len(real_stream.tokens)} tokens; ", end="")
    print(f"{len(sampled)} sampled stories, {len(sampled_stream.tokens)} tokens", flush=True)
    train_config = TrainConfig.for_device(args.device, args.minutes, args.steps)
    if not args.export_only:
        Trainer(config, train_config, real_stream, sampled_stream, args.device).run(checkpoint)
    model, counters = averaged_model(checkpoint)
    export(model, tokenizer, args.out)
    facts = {
        "real_stories": len(real),
        "real_tokens": len(real_stream.tokens),
        "sampled_stories": len(sampled),
        "sampled_tokens": len(sampled_stream.tokens),
        **counters,
        "parameters": sum(p.numel() for p in model.parameters()),
        "file_bytes": (args.out / "model.safetensors").stat().st_size,
    }
    write_card(model, train_config, args, facts)


if __name__ == "__main__":
    main()
