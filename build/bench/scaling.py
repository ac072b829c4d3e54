"""How ruvq's speed changes with the model's size, the length of the text and the threads, in one format.

plot.py draws what this puts into the benchmark's JSON. Random weights in shapes from 1M to 0.5B parameters
(random_models.py); texts from 1 token to 4,096 on the shape M.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import native
from models import Unsupported, host_name, hosts_of, log
from page import in_browser
from peers import Peers, file_facts, own_file
from random_models import SHAPES
from timing import summary

FORMAT = "pi-t2"
SIZES = ("S1", "S4", "S30", "K", "M", "Q")
CONTEXTS = (1, 128, 512, 1024, 2048, 4096)
TOKENS = (16, 32)  # prompt and decode of the runs by size


def by_size(page: Any, folder: Path, shapes: tuple[str, ...], rounds: int, threads: list[int]) -> list[Any]:
    """One entry a shape, host and thread count."""
    paths = {shape: own_file(folder, shape, FORMAT) for shape in shapes}
    runs = {
        (shape, host, count): (lambda run=run, path=path: run(path))
        for shape, path in paths.items()
        for count in threads
        for host, run in hosts_of(page, Peers(), TOKENS, count).items()
    }
    facts = {shape: file_facts(path) for shape, path in paths.items()}
    samples: dict[Any, list[float]] = {}
    for _ in range(rounds):
        for key, run in list(runs.items()):
            try:
                samples.setdefault(key, []).append(run()["decode_tokens_per_s"])
            except Unsupported:
                del runs[key], samples[key]
    return [
        {
            "shape": shape,
            "parameters": SHAPES[shape].parameters,
            "tensor_bytes": facts[shape]["tensor_bytes"],
            "host": host,
            "threads": count,
            "decode_tokens_per_s": summary(values),
        }
        for (shape, host, count), values in samples.items()
    ]


def by_context(
    page: Any,
    folder: Path,
    shape: str,
    lengths: tuple[int, ...],
    threads: list[int],
    format_name: str = FORMAT,
) -> list[Any]:
    """One entry a host, thread count and length of the text before the token."""
    path = own_file(folder, shape, format_name)
    entries = []
    for count in threads:
        spec = {"url": f"/files/{path.name}", "lengths": list(lengths), "tokens": 16, "threads": count}
        results = {
            "native": native.context_run(path, list(lengths), 16, count),
            "chromium": in_browser(page, "contexts", **spec),
        }
        for host, result in results.items():
            if result["threads"] != count:
                log(f"  {host_name(host, count)}: {result['threads']} threads only; left out")
                continue
            for length, speed in result["by_context"].items():
                entry = {"host": host, "threads": count, "context": int(length), "shape": shape}
                entries.append({**entry, "decode_tokens_per_s": speed})
    return entries


def measure_scaling(page: Any, folder: Path, rounds: int, threads: list[int], quick: bool) -> dict[str, Any]:
    """What plot.py draws."""
    log("scaling")
    shapes, lengths = (("tiny", "S1"), (1, 32, 128)) if quick else (SIZES, CONTEXTS)
    return {
        "format": FORMAT,
        "by_size": by_size(page, folder, shapes, rounds, threads),
        "by_context": by_context(page, folder, "tiny" if quick else "M", lengths, threads),
    }
