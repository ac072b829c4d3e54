"""Sample stories from the ternary teacher, many at a time, and keep the ones worth training on.

Work goes in batches; each finished batch is one file of JSON lines under its final name, so a run that was
killed goes on where it stopped. Half of the stories start from the first words of a real training story,
which keeps the openings varied. Filtering happens when the samples are read, so that it can be changed
without sampling again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from teacher import Teacher, TeacherTokenizer

SEPARATOR = "<|endoftext|>"
MAX_TOKENS = 500  # of the teacher's 512
TOP_K = 64  # candidates per token
COMPACT_EVERY = 8  # steps between looks for finished rows
OPENINGS = 2000  # different ones; taking a story's words apart costs milliseconds each
BATCH = {"cpu": 512, "cuda": 16384}
TEMPERATURES = (0.8, 1.0)  # of the batches in turn: at 1.0 text is as varied as the teacher knows it
VOCAB = 512  # of tok512.bin
WORD = re.compile(r"[A-Za-z']+")


def split_stories(text: str) -> list[str]:
    return [story.strip() for story in text.split(SEPARATOR) if story.strip()]


def story_openings(stories: list[str], count: int, rng: random.Random) -> list[str]:
    """The first 3 to 24 words of real stories."""
    openings = []
    for _ in range(count):
        words = rng.choice(stories).split("\n")[0].split(" ")
        openings.append(" ".join(words[: rng.randint(3, 24)]))
    return openings


def encoded_openings(tokenizer: TeacherTokenizer, stories: list[str], seed: int) -> list[list[int]]:
    with ProcessPoolExecutor() as pool:
        texts = story_openings(stories, OPENINGS, random.Random(seed))
        return list(pool.map(tokenizer.encode, texts, chunksize=50))


def choose(logits: torch.Tensor, top_p: float, generator: torch.Generator) -> torch.Tensor:
    """One token per row of logits (n, vocab), among the most likely that together reach `top_p`: (n, 1)."""
    ordered, order = logits.topk(TOP_K, dim=-1)
    probability = ordered.softmax(-1)
    outside = probability.cumsum(-1) - probability > top_p
    weights = probability.masked_fill(outside, 0.0)
    return order.gather(-1, torch.multinomial(weights, 1, generator=generator))


def sample_batch(
    teacher: Teacher,
    tokenizer: TeacherTokenizer,
    openings: list[list[int]],
    temperature: float,
    top_p: float,
    generator: torch.Generator,
) -> tuple[list[str], int]:
    """Stories that came to an end within MAX_TOKENS, and the number of tokens computed."""
    device = teacher.device
    prompts = [[tokenizer.BOS, *opening] for opening in openings]
    forced = torch.full((len(prompts), max(map(len, prompts)) + 1), -1, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        forced[row, : len(prompt)] = torch.tensor(prompt)
    forced = forced.to(device)
    written = torch.zeros(len(prompts), MAX_TOKENS, dtype=torch.long, device=device)
    token = forced[:, :1]
    cache = teacher.new_cache(len(prompts), MAX_TOKENS)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    stories, computed = [], 0
    for position in range(MAX_TOKENS - 1):
        logits = teacher.forward(token, cache, position)[:, 0]
        computed += len(token)
        token = choose(logits / temperature, top_p, generator)
        if position + 1 < forced.shape[1]:
            given = forced[:, position + 1 : position + 2]
            token = torch.where(given >= 0, given, token)
        token = torch.where(ended[:, None], tokenizer.EOS, token)
        written[:, position + 1] = token[:, 0]
        ended |= (token[:, 0] == tokenizer.BOS) | (token[:, 0] == tokenizer.EOS)
        if position % COMPACT_EVERY == 0 and ended.any():
            for row in written[ended, 1 : position + 2].tolist():
                length = next(i for i, t in enumerate(row) if t in (tokenizer.BOS, tokenizer.EOS))
                stories.append(tokenizer.decode(row[:length]))
            keep = (~ended).nonzero()[:, 0]
            if not len(keep):
                break
            token, forced, written, ended = token[keep], forced[keep], written[keep], ended[keep]
            for layer, (k, v) in enumerate(cache):  # one at a time: both copies of all would not fit
                cache[layer] = k[keep], v[keep]
    return stories, computed


def sample(
    data: Path,
    cache: Path,
    target_bytes: int,
    minutes: float = math.inf,
    top_p: float = 0.98,
    seed: int = 7,
    device: str = "cpu",
) -> None:
    """Fill the folder `cache` with files batch_NNNN.jsonl until they hold `target_bytes` of text or the
    minutes are over. Half of the stories start from the first words of a real one."""
    cache.mkdir(parents=True, exist_ok=True)
    real = split_stories((data / "text" / "tiny_stories_train.txt").read_text())
    tokenizer = TeacherTokenizer(data / "stories260K" / "tok512.bin", VOCAB)
    known = encoded_openings(tokenizer, real, seed)
    compiled = device == "cpu" and shutil.which("g++") is not None  # several times faster; needs a compiler
    teacher = Teacher(data / "bitllama2" / "bit_model_3M.bin", device, torch.bfloat16, compiled)
    have, index, start, fresh = 0, 0, time.monotonic(), 0
    while have < target_bytes and time.monotonic() - start < 60 * minutes:
        path = cache / f"batch_{index:04d}.jsonl"
        if not path.exists():
            rng = random.Random(seed * 100_003 + index)
            generator = torch.Generator(device).manual_seed(rng.getrandbits(48))
            openings = [rng.choice(known) if rng.random() < 0.5 else [] for _ in range(BATCH[device])]
            temperature = TEMPERATURES[index % len(TEMPERATURES)]
            stories, _ = sample_batch(teacher, tokenizer, openings, temperature, top_p, generator)
            lines = "".join(json.dumps(story) + "\n" for story in stories)
            fresh += len(lines)
            part = path.with_suffix(".part")
            part.write_text(lines)
            os.replace(part, path)
        have += path.stat().st_size
        index += 1
        rate = fresh / (time.monotonic() - start)
        left = (target_bytes - have) / rate / 60 if rate > 0 else 0.0
        print(
            f"samples: {have / 1e6:.1f} of {target_bytes / 1e6:.1f} MB, {left:.0f} minutes left", flush=True
        )


def repeats_itself(story: str) -> bool:
    """True when a sentence of some length comes twice."""
    sentences = [s.strip() for s in re.split(r"[.!?]", story) if len(s.strip()) > 20]
    return len(set(sentences)) < len(sentences)


def word_counts(path: Path) -> Counter[str]:
    """How many stories of a file have each word."""
    counts: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        counts.update({word.lower() for word in WORD.findall(json.loads(line))})
    return counts


def wanted_stories(path: Path, invented: set[str]) -> list[str]:
    """A file's stories that pass the filters, an empty line between paragraphs as in the real ones."""
    kept = []
    for line in path.read_text().splitlines():
        story = json.loads(line)
        words = {word.lower() for word in WORD.findall(story)}
        if not 300 <= len(story) <= 2500 or repeats_itself(story) or words & invented or "\ufffd" in story:
            continue
        kept.append(re.sub(r"\s*\n\s*", "\n\n", story.strip()))
    return kept


def read_samples(cache: Path, real: list[str], minimum: int = 12) -> Iterator[str]:
    """The sampled stories that pass the filters. Invented is a word that no real story has and fewer than
    `minimum` of the sampled ones."""
    paths = sorted(cache.glob("batch_*.jsonl"))
    with ProcessPoolExecutor() as pool:
        counts: Counter[str] = Counter()
        for more in pool.map(word_counts, paths):
            counts.update(more)
        known = {word.lower() for story in real for word in WORD.findall(story)}
        invented = {word for word, count in counts.items() if word not in known and count < minimum}
        for stories in pool.map(wanted_stories, paths, [invented] * len(paths)):
            yield from stories


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with bitllama2/, stories260K/ and text/"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder for the sampled text")
    parser.add_argument("--megabytes", type=float, default=7.0, help="how much text to sample")
    parser.add_argument("--device", choices=sorted(BATCH), default="cpu")
    args = parser.parse_args()
    sample(args.data, args.cache, int(args.megabytes * 1e6), device=args.device)
