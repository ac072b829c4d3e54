"""The project's figures to reach, beside what a run measured: reached or not, nothing said where nothing ran.

A floor must be reached; a goal is what to attack next. ELSEWHERE names those that other commands judge.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FAST = ("pi-t2", "ternary")
HEADLINES = {"K", "M"}  # larger than the caches of most machines
OWN = {"pi-t2", "pi-t3", "pi-x2", "pi-x3", "pi-q2", "pi-q3", "ternary", "pi-ternary"}
# what, map of the summary, formats, {shape: (floor, goal)}
RATIOS: tuple[tuple[str, str, tuple[str, ...], dict[str, tuple[float, float]]], ...] = (
    (
        "decode in Chromium, 1 thread, against wllama's fastest",
        "decode_ratio_vs_best_peer_1_thread",
        FAST,
        {"M": (4, 6), "K": (4, 6)},
    ),
    (
        "decode in Chromium, 1 thread, against wllama's fastest",
        "decode_ratio_vs_best_peer_1_thread",
        ("pi-t3",),
        {"M": (4, 5), "K": (3, 5)},
    ),
    (
        "decode in Chromium against native llama.cpp Q4_K_M, 1 thread",
        "decode_ratio_vs_native_q4_k_m_1_thread",
        ("pi-t2",),
        {"M": (0.4, 0.6)},
    ),
    (
        "decode in Chromium against native llama.cpp Q4_K_M, 1 thread",
        "decode_ratio_vs_native_q4_k_m_1_thread",
        ("pi-t3",),
        {"M": (0.3, 0.5)},
    ),
    (
        "decode natively against native llama.cpp Q4_K_M, 1 thread",
        "native_decode_ratio_vs_native_q4_k_m_1_thread",
        ("pi-t2", "pi-t3"),
        {"M": (float("nan"), 1.3)},
    ),
    (
        "decode in Chromium, 2 threads against 1",
        "decode_ratio_2_threads_vs_1",
        ("pi-t2", "pi-t3"),
        {"M": (1.8, 1.95), "K": (1.8, 1.95)},
    ),
    (
        "decode natively, 2 threads against 1",
        "native_decode_ratio_2_threads_vs_1",
        ("pi-t2", "pi-t3"),
        {"M": (1.8, 1.95), "K": (1.8, 1.95)},
    ),
    (
        "prompt in Chromium, 2 threads against 1",
        "prompt_ratio_2_threads_vs_1",
        ("pi-t2", "pi-t3"),
        {"M": (1.8, 1.95), "K": (1.8, 1.95)},
    ),
    (
        "prompt in Chromium, 1 thread, against wllama's best",
        "prompt_ratio_vs_best_peer_1_thread",
        ("pi-t2", "pi-t3", "ternary"),
        {"M": (6, 10), "K": (3, 5)},
    ),
)
# what no figure of the benchmark judges, and the command that does
ELSEWHERE = {
    "perplexity and SNR of the pi formats against their peers": "python build/quant_table.py",
    "weight MSE on real matrices": "python build/bench/encoders.py",
    "the file never held twice; 20 load/dispose cycles; 0.5B in a tab, its process": "pytest "
    "tests/web/test_web_larger.py tests/engine/test_engine_larger.py -s",
    "malformed files, fuzzing": "pytest tests/gguf",
}


@dataclass(frozen=True)
class Target:
    """One figure beside its floor and goal; `at_most` where less is better. None: no floor."""

    what: str
    where: str
    figure: float
    floor: float | None
    goal: float | None
    unit: str
    at_most: bool = False

    def _reaches(self, limit: float | None) -> bool | None:
        if limit is None:
            return None
        return self.figure <= limit if self.at_most else self.figure >= limit

    def as_dict(self) -> dict[str, Any]:
        reached = {"floor_reached": self._reaches(self.floor), "goal_reached": self._reaches(self.goal)}
        return {**asdict(self), **reached}


def _ratios(summary: dict[str, Any]) -> Iterator[Target]:
    for what, key, formats, limits in RATIOS:
        for shape, (floor, goal) in limits.items():
            figures = summary.get(shape, {}).get(key, {})
            for name in formats:
                if name in figures:
                    lowest = None if floor != floor else floor
                    yield Target(what, f"{shape} {name}", figures[name], lowest, goal, "times")
    for shape in sorted(HEADLINES & set(summary)):
        entry = summary[shape]
        for name, figure in entry.get("decode_ratio_same_file_1_thread", {}).items():
            what = "decode in Chromium, 1 thread, against wllama on the same file"
            yield Target(what, f"{shape} {name}", figure, 3, 5, "times")


def _kernels(kernels: dict[str, Any]) -> Iterator[Target]:
    """Dequantization of ruvq's own formats: floors in GB/s, the goal is half of memcpy in the same run."""
    for host, floor in (("chromium", 2.0), ("native", 10.0)):
        for shape, entries in kernels.get(host, {}).items():
            goal = entries["memcpy"]["gb_per_s"] / 2
            for name in sorted(OWN & set(entries)):
                figure = entries[name]["decode_simd_gb_per_s"]
                yield Target(
                    f"dequantization, {host}, bytes written", f"{shape} {name}", figure, floor, goal, "GB/s"
                )


def _extras(extras: dict[str, Any]) -> Iterator[Target]:
    floors = {"native": (15.0, 4.0), "chromium": (50.0, 15.0)}
    for host, figure in extras.get("hadamard_4096_us", {}).items():
        yield Target("Hadamard, 4096 wide", host, figure, *floors[host], "us", at_most=True)
    for name, figure in extras.get("quantize_given_scale_gb_per_s", {}).items():
        yield Target("quantize with a given scale, native, floats read", name, figure, 1, 3, "GB/s")


def _first_token(hosts: dict[str, Any]) -> Iterator[Target]:
    """Page opened → first token; from Python without Pyodide's own boot."""
    what = "page opened to first token, bundled model, cold cache"
    if "javascript" in hosts:
        figure = hosts["javascript"]["first_token_s"]["median"]
        yield Target(what, "JavaScript", figure, 1.5, 0.7, "s", at_most=True)
    if "pyodide" in hosts:
        figure = hosts["pyodide"]["beyond_boot_s"]["median"]
        yield Target(what, "Python, beyond Pyodide's boot", figure, 1.0, 0.4, "s", at_most=True)


def _memory(models: dict[str, Any]) -> Iterator[Target]:
    """What the engine holds of a tab's memory, without the KV cache."""
    for shape in sorted(HEADLINES & set(models)):  # a small file is less than the engine itself
        for name, entry in models[shape].get("chromium", {}).items():
            if "kv_bytes" not in entry:
                continue
            figure = (entry["memory_bytes"]["median"] - entry["kv_bytes"]["median"]) / entry["file_bytes"]
            what = "engine memory in a tab without the KV cache, against the file"
            yield Target(what, f"{shape} {name}", figure, 1.15, None, "times", at_most=True)


def _large(scaling: dict[str, Any]) -> Iterator[Target]:
    """A model in Qwen2.5-0.5B's shape, everything in pi-t2."""
    large = [entry for entry in scaling.get("by_size", []) if entry["shape"] == "Q"]
    if large:
        figure = large[0]["tensor_bytes"] / 1e6
        yield Target("tensor data of 0.5B at 2 bits", "Q pi-t2", figure, 130, None, "MB", at_most=True)
    for entry in large:
        where = f"Q pi-t2, {entry['host']}, {entry['threads']} thread(s)"
        figure = entry["decode_tokens_per_s"]["median"]
        yield Target("0.5B at 2 bits decodes", where, figure, None, None, "tok/s")


def _encoding(quantizing: dict[str, Any]) -> Iterator[Target]:
    """Trellis encoding of 0.5B. With calibration there is nothing to measure yet."""
    for name, seconds in quantizing.items():
        if not name.startswith("Q "):
            continue
        what = "trellis encoding of 0.5B on 2 cores, without calibration"
        yield Target(what, name, seconds / 60, 3, 1, "min", at_most=True)


def _sizes(root: Path) -> Iterator[Target]:
    for module in sorted((root / "web").glob("ruvq*.wasm")):
        figure = len(gzip.compress(module.read_bytes(), 9)) / 1000
        yield Target("engine module, gzipped", module.name, figure, 200, 100, "KB", at_most=True)
    for wheel in sorted((root / "out" / "wheels").glob("*.whl")):
        if not wheel.stem.endswith(("-any", "_wasm32")):
            continue  # not downloaded by a page
        figure = wheel.stat().st_size / 1000
        yield Target("wheel for Pyodide", wheel.name, figure, 600, 300, "KB", at_most=True)


def judge(report: dict[str, Any], root: Path) -> list[dict[str, Any]]:
    """Every target that has a figure in this run."""
    found: list[Target] = [
        *_ratios(report.get("summary", {})),
        *_kernels(report.get("kernels", {})),
        *_extras(report.get("extras", {})),
        *_first_token(report.get("first_token", {})),
        *_memory(report.get("models", {})),
        *_large(report.get("scaling", {})),
        *_encoding(report.get("encoding_s", {})),
        *_sizes(root),
    ]
    return [target.as_dict() for target in found]
