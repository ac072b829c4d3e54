"""Ratios of one run: ruvq beside the fastest format of its peers, on the same shape, in the same rounds.

A ratio is the median of the rounds' own ratios, so that a drift of the machine's speed cancels. A map is
empty where one side has no figure; nothing is filled in.
"""

from __future__ import annotations

import statistics
from typing import Any

Figures = dict[str, Any]  # format → {decode_tokens_per_s: {median, values, ...}, ...}
DECODE, PROMPT = "decode_tokens_per_s", "prompt_tokens_per_s"


def ratio(ours: Figures, theirs: Figures) -> float:
    """Of two figures of one run: median over the rounds, or ratio of the medians where rounds don't pair."""
    a, b = ours.get("values", []), theirs.get("values", [])
    if a and len(a) == len(b):
        return statistics.median(x / y for x, y in zip(a, b, strict=True))
    return ours["median"] / theirs["median"]


def best(entries: Figures, what: str) -> str | None:
    """The format with the highest median; None when there is none."""
    return max(entries, key=lambda name: entries[name][what]["median"], default=None)


def against_best(ours: Figures, theirs: Figures, what: str) -> dict[str, float]:
    """Our format → its ratio to the peer's fastest format."""
    fastest = best(theirs, what)
    if fastest is None:
        return {}
    return {name: ratio(entry[what], theirs[fastest][what]) for name, entry in ours.items()}


def against_same(ours: Figures, theirs: Figures, what: str) -> dict[str, float]:
    """Format → ratio of both engines on the very same file."""
    return {name: ratio(entry[what], theirs[name][what]) for name, entry in ours.items() if name in theirs}


def against_one(ours: Figures, theirs: Figures, name: str, what: str) -> dict[str, float]:
    """Our format → its ratio to one format of the peer."""
    return against_best(ours, {name: theirs[name]} if name in theirs else {}, what)


def summarise(shape: dict[str, Any]) -> dict[str, Any]:
    """The ratios of one shape from its figures (models.py)."""
    chromium, chromium2 = shape.get("chromium", {}), shape.get("chromium_2_threads", {})
    native, native2 = shape.get("native", {}), shape.get("native_2_threads", {})
    wllama, wllama2 = shape.get("wllama", {}), shape.get("wllama_2_threads", {})
    llama, llama2 = shape.get("llama_cpp", {}), shape.get("llama_cpp_2_threads", {})
    onnx, onnx2 = shape.get("onnxruntime_web", {}), shape.get("onnxruntime_web_2_threads", {})
    return {
        "best_peer_1_thread": {"decode": best(wllama, DECODE), "prompt": best(wllama, PROMPT)},
        "best_peer_2_threads": {"decode": best(wllama2, DECODE), "prompt": best(wllama2, PROMPT)},
        "decode_ratio_vs_best_peer_1_thread": against_best(chromium, wllama, DECODE),
        "decode_ratio_vs_best_peer_2_threads": against_best(chromium2, wllama2, DECODE),
        "prompt_ratio_vs_best_peer_1_thread": against_best(chromium, wllama, PROMPT),
        "prompt_ratio_vs_best_peer_2_threads": against_best(chromium2, wllama2, PROMPT),
        "decode_ratio_vs_native_q4_k_m_1_thread": against_one(chromium, llama, "Q4_K_M", DECODE),
        "decode_ratio_vs_native_q4_k_m_2_threads": against_one(chromium2, llama2, "Q4_K_M", DECODE),
        "native_decode_ratio_vs_native_q4_k_m_1_thread": against_one(native, llama, "Q4_K_M", DECODE),
        "native_decode_ratio_vs_native_q4_k_m_2_threads": against_one(native2, llama2, "Q4_K_M", DECODE),
        "decode_ratio_vs_onnxruntime_web_1_thread": against_best(chromium, onnx, DECODE),
        "decode_ratio_vs_onnxruntime_web_2_threads": against_best(chromium2, onnx2, DECODE),
        "decode_ratio_same_file_1_thread": against_same(chromium, wllama, DECODE),
        "prompt_ratio_same_file_1_thread": against_same(chromium, wllama, PROMPT),
        "native_decode_ratio_same_file_1_thread": against_same(native, llama, DECODE),
        "native_prompt_ratio_same_file_1_thread": against_same(native, llama, PROMPT),
        "decode_ratio_2_threads_vs_1": against_same(chromium2, chromium, DECODE),
        "prompt_ratio_2_threads_vs_1": against_same(chromium2, chromium, PROMPT),
        "native_decode_ratio_2_threads_vs_1": against_same(native2, native, DECODE),
    }
