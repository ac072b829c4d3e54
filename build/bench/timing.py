"""Medians of repeated, interleaved runs: what every figure of the benchmark is made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def seconds(work: Callable[[], object], minimum: float = 0.02) -> float:
    """Seconds of one call, from as many calls as fill `minimum` seconds."""
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= minimum:
            return elapsed / calls


def interleaved(tasks: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs every task once a round, so that a drift of the machine's speed meets all of them alike."""
    results: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            results[name].append(task())
    return results


def summary(samples: list[float]) -> dict[str, Any]:
    """Median, spread and the samples round by round, in their unit."""
    return {
        "median": statistics.median(samples),
        "minimum": min(samples),
        "maximum": max(samples),
        "samples": len(samples),
        "values": list(samples),
    }
