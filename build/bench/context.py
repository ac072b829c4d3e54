"""What a token costs when many stand before it: milliseconds of a decoded token, natively.

    python build/bench/context.py [--format pi-t2] [--shape M] [--contexts 128 1024 4096] [--threads 1]

Random weights (random_models.py); the median and the least of 16 tokens after a prompt of each length.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "py")]

from random_models import SHAPES, write_model  # noqa: E402
from ruvq.gguf import GGUFFile  # noqa: E402
from ruvq.runtime.engine import Engine, Sampling  # noqa: E402

TOKENS = 16


def decode_times(engine: Engine, before: int) -> list[float]:
    """Seconds of each token decoded after `before` others."""
    engine.feed([(i + 1) % engine.info.vocab_size for i in range(before)])
    while engine.step():
        pass
    engine.start_sampling(Sampling(temperature=0.0, top_p=1.0, seed=0))
    times = []
    for _ in range(TOKENS):
        start = time.perf_counter()
        engine.feed([engine.sample()])
        engine.step()
        times.append(time.perf_counter() - start)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", default="pi-t2")
    parser.add_argument("--shape", default="M", choices=sorted(SHAPES))
    parser.add_argument("--contexts", nargs="+", type=int, default=[128, 1024, 4096])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    longest = max(options.contexts) + TOKENS + 1
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{options.shape}-{options.format}-context{longest}.gguf"
    if not path.exists():
        write_model(path, replace(SHAPES[options.shape], context=longest), options.format)
    print("context  ms a token (median, least)")
    for before in options.contexts:
        with GGUFFile.open(path) as file:
            engine = Engine(file, context=longest, threads=options.threads)
            times = [1000 * t for t in decode_times(engine, before)]
        print(f"{before:7}  {statistics.median(times):.1f}  {min(times):.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
