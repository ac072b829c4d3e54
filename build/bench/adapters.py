"""What a LoRA adapter costs at run time, in time of one thread's CPU, beside the model without one.

    python build/bench/adapters.py out/models/stories-pi-t2.gguf [--rank 16]

Random adapters at q, k, v, o and at all matrices; a prompt in batches and tokens one at a time; the least of
interleaved rounds. Prints microseconds a token and the ratio."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import ruvq
from ruvq.adapters import Lora, Pair, write_adapter

ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
PLACES = {"q, k, v, o": ATTENTION, "all matrices": (*ATTENTION, "ffn_gate", "ffn_up", "ffn_down")}
PROMPT, DECODED, ROUNDS = 128, 64, 12


def random_adapter(path: str, parts: tuple[str, ...], rank: int) -> Lora:
    """One that fits the model at `path`."""
    rng = np.random.default_rng(0)
    with ruvq.GGUFFile.open(path) as file:
        shapes = {t.name: t.shape for t in file.tensors if any(f".{part}.weight" in t.name for part in parts)}
        architecture = file.architecture
    pairs = {}
    for name, (rows, width) in shapes.items():
        a, b = rng.standard_normal((rank, width)), rng.standard_normal((rows, rank))
        pairs[name] = Pair((a / width).astype(np.float32), (b / rank).astype(np.float32), 1.0)
    return Lora(pairs, architecture)


def microseconds(model: ruvq.Model) -> tuple[float, float]:
    """A token of a prompt, and a token decoded."""
    model.reset()
    engine = model._open_engine()
    started = time.process_time()
    engine.feed(range(5, 5 + PROMPT))
    while engine.step():
        pass
    middle = time.process_time()
    for token in range(DECODED):
        engine.feed([5 + token])
        engine.step()
    return (middle - started) / PROMPT * 1e6, (time.process_time() - middle) / DECODED * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    best: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder, ruvq.Model.open(args.model, threads=1) as model:
        for place, parts in PLACES.items():
            write_adapter(Path(folder) / f"{place}.gguf", random_adapter(args.model, parts, args.rank))
        for _ in range(ROUNDS):
            for place in ("none", *PLACES):
                if place != "none":
                    model.load_adapter(Path(folder) / f"{place}.gguf")
                found = microseconds(model)
                best[place] = tuple(map(min, found, best.get(place, found)))  # type: ignore[assignment]
                model.unload_adapter()
    print(f"| adapter, rank {args.rank} | prompt, us a token | decode, us a token |\n| --- | --- | --- |")
    for place, (prompt, decode) in best.items():
        base = best["none"]
        print(f"| {place} | {prompt:.0f} ({prompt / base[0]:.2f}) | {decode:.0f} ({decode / base[1]:.2f}) |")


if __name__ == "__main__":
    main()
