"""The native side of the benchmark: kernels and models through the same core that `import ruvq` uses."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from random_models import random_rows
from ruvq import core
from ruvq.core import CONSTANTS
from ruvq.gguf import GGUFFile
from ruvq.runtime.engine import Engine, Sampling
from timing import interleaved, seconds, summary

VARIANTS = {"simd": CONSTANTS["RQ_SIMD"], "scalar": CONSTANTS["RQ_SCALAR"]}


def kernels(formats: list[str], ids: dict[str, int], rows: int, width: int, rounds: int) -> dict:
    """Decoding and matrix-vector products of every format beside their scalar references and a memory copy.

    Returns format → {decode_simd, decode_scalar: GB/s of floats written; matvec_simd, matvec_scalar: ns a
    weight and GB/s of weights read}, and "memcpy" in GB/s of bytes written.
    """
    c = core.get()
    rng = np.random.default_rng(1)
    out = np.empty((rows, width), np.float32)
    source = rng.standard_normal((rows, width)).astype(np.float32)
    x, y = source[0].copy(), np.empty(rows, np.float32)
    placed = {name: c.place(np.ascontiguousarray(random_rows(name, rows, width, rng))) for name in formats}
    spots = [c.place(a) for a in (out, x, y)]
    to, vector, product = (spot.address for spot in spots)
    scratch = c.alloc(max(c.call("rq_matvec_scratch", ids[n], width) for n in formats))

    def decode(name: str, variant: int) -> Callable[[], float]:
        return lambda: seconds(
            lambda: c.call("rq_decode", ids[name], placed[name].address, rows, width, to, variant)
        )

    def matvec(name: str, variant: int) -> Callable[[], float]:
        arguments = (ids[name], placed[name].address, rows, width, vector, product)
        return lambda: seconds(lambda: c.call("rq_matvec", *arguments, scratch.address, scratch.end, variant))

    tasks: dict[str, Callable[[], float]] = {"memcpy": lambda: seconds(lambda: np.copyto(out, source))}
    for name in formats:
        for variant, number in VARIANTS.items():
            tasks[f"{name} decode_{variant}"] = decode(name, number)
            tasks[f"{name} matvec_{variant}"] = matvec(name, number)
    times = {name: summary(samples)["median"] for name, samples in interleaved(tasks, rounds).items()}
    return kernel_report(formats, times, {n: placed[n].nbytes for n in formats}, rows * width)


def kernel_report(formats: list[str], times: dict[str, float], nbytes: dict[str, int], weights: int) -> dict:
    """Seconds per task → the figures of `kernels`; the browser's times go through it too."""
    report: dict = {"memcpy": {"gb_per_s": 4 * weights / times["memcpy"] / 1e9}}
    for name in formats:
        entry: dict = {"bits_per_weight": 8 * nbytes[name] / weights}
        for variant in VARIANTS:
            entry[f"decode_{variant}_gb_per_s"] = 4 * weights / times[f"{name} decode_{variant}"] / 1e9
            product = times[f"{name} matvec_{variant}"]
            entry[f"matvec_{variant}_ns_per_weight"] = product / weights * 1e9
            entry[f"matvec_{variant}_gb_per_s"] = nbytes[name] / product / 1e9
        report[name] = entry
    return report


def model_run(path: Path, prompt_tokens: int, decode_tokens: int, threads: int = 1) -> dict[str, Any]:
    """Seconds to open a file; tokens per second of a prompt and of greedy decoding after it, and the threads
    that were used."""
    start = time.perf_counter()
    context = prompt_tokens + decode_tokens + 1
    with GGUFFile.open(path) as file, Engine(file, context=context, threads=threads) as engine:
        opened = time.perf_counter()
        engine.start_sampling(Sampling(temperature=0.0, top_p=1.0, seed=0))
        warm_up(engine)
        begun = time.perf_counter()
        engine.feed([(i + 1) % engine.info.vocab_size for i in range(prompt_tokens)])
        while engine.step():
            pass
        prompted = time.perf_counter()
        for _ in range(decode_tokens):
            engine.feed([engine.sample()])
            engine.step()
        decoded = time.perf_counter()
        used = engine.threads
    return {
        "open_s": opened - start,
        "prompt_tokens_per_s": prompt_tokens / (prompted - begun),
        "decode_tokens_per_s": decode_tokens / (decoded - prompted),
        "threads": used,
    }


def warm_up(engine: Engine) -> None:
    """A few tokens, forgotten again: pages are mapped and code is hot, for every engine of the comparison."""
    engine.feed(list(range(8)))
    while engine.step():
        pass
    for _ in range(4):
        engine.feed([engine.sample()])
        engine.step()
    engine.truncate(0)


def token_seconds(engine: Engine, context: int, tokens: int, have: int = 0) -> dict[str, float]:
    """Median seconds of a token decoded after `context` tokens, `have` of them there; and of drawing it."""
    engine.truncate(have)
    engine.feed([(i + 1) % engine.info.vocab_size for i in range(have, context)])
    while engine.step():
        pass
    steps, sampling = [], []
    for _ in range(tokens):
        start = time.perf_counter()
        token = engine.sample()
        sampled = time.perf_counter()
        engine.feed([token])
        engine.step()
        steps.append(time.perf_counter() - start)
        sampling.append(sampled - start)
    return {"token_s": statistics.median(steps), "sample_s": statistics.median(sampling)}


def context_run(path: Path, lengths: list[int], tokens: int, threads: int = 1) -> dict[str, Any]:
    """Tokens a second decoded after growing texts, and the threads used."""
    result: dict[str, float] = {}
    have = 0
    with (
        GGUFFile.open(path) as file,
        Engine(file, context=max(lengths) + tokens + 1, threads=threads) as engine,
    ):
        engine.start_sampling(Sampling(temperature=0.0, top_p=1.0, seed=0))
        warm_up(engine)
        for length in lengths:
            result[str(length)] = 1 / token_seconds(engine, length, tokens, have)["token_s"]
            have = length
        used = engine.threads
    return {"by_context": result, "threads": used}
