"""What `make bench` prints: kernels, models, peers, ratios, targets. Everything goes to standard error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models import log
from peers import Peers
from summary import DECODE, PROMPT
from targets import ELSEWHERE

CENSUS = Path(__file__).resolve().parents[2] / "docs" / "bench" / "wllama-simd.json"


def wllama_note(version: str) -> str:
    """What was counted in this version's hottest functions, or how to count it."""
    how = "python build/bench/simd_census.py --write docs/bench/wllama-simd.json"
    found = json.loads(CENSUS.read_text()) if CENSUS.exists() else {}
    if found.get("wllama") != version:
        return f"whether its build uses SIMD was not counted for this version: {how}"
    parts = []
    for name, (hottest, *_) in found["formats"].items():
        counts = f"{hottest['vector_instructions']} of {hottest['instructions']} instructions are vector ones"
        parts.append(f"{name}: {100 * hottest['share']:.0f} % of its time in one function where {counts}")
    return "; ".join(parts) + f" ({how})"


def print_peers(peers: Peers) -> None:
    for name, entry in (
        ("wllama", peers.wllama),
        ("llama.cpp", peers.llama),
        ("onnxruntime-web", peers.onnx),
    ):
        if entry:
            log(f"peer {name}: " + ", ".join(f"{key} {value}" for key, value in entry.items()))
    for name, why in peers.missing.items():
        log(f"peer {name} is missing: {why}")


def print_machine(machine: dict[str, Any]) -> None:
    """Warns where other programs ran: then the ratios lean on chance, those of several threads above all."""
    load, cores = machine["load_average_at_start"], machine["cores"] or 1
    log(f"machine: {machine['processor']}, {cores} cores")
    if load is not None and load > cores / 2:
        log(
            f"BUSY MACHINE: load {load:.1f} on {cores} cores at the start; these figures are not to be quoted"
        )


def print_kernels(kernels: dict[str, Any]) -> None:
    for host, by_shape in kernels.items():
        for shape, entries in by_shape.items():
            log(f"\n{host}, {shape}: memcpy {entries['memcpy']['gb_per_s']:.1f} GB/s")
            heads = ("format", "bits", "decode GB/s", "scalar", "product ns/w", "scalar")
            log("  {:10} {:>5}  {:>11} {:>7}  {:>12} {:>7}".format(*heads))
            for name, e in entries.items():
                if name != "memcpy":
                    log(
                        f"  {name:10} {e['bits_per_weight']:5.2f}  {e['decode_simd_gb_per_s']:11.2f} "
                        f"{e['decode_scalar_gb_per_s']:7.2f}  {e['matvec_simd_ns_per_weight']:12.4f} "
                        f"{e['matvec_scalar_ns_per_weight']:7.3f}"
                    )


def _spread(figure: dict[str, float]) -> str:
    return f"{figure['median']:8.1f} ({figure['minimum']:.1f}-{figure['maximum']:.1f})"


def print_models(models: dict[str, Any], peers: Peers) -> None:
    for shape, entry in models.items():
        for host, entries in entry.items():
            if host in ("files", "failed"):
                continue
            threads = "2 threads" if host.endswith("_2_threads") else "1 thread"
            log(
                f"\n{shape}, {host.removesuffix('_2_threads')}, {threads}: tokens per second, median (spread)"
            )
            log(f"  {'format':10} {'MB':>6} {'bits':>5}  {'prompt':>8}  {'decode':>16}")
            for name, e in entries.items():
                sizes = f"{e['file_bytes'] / 1e6:6.0f} {e['bits_per_weight']:5.2f}"
                log(f"  {name:10} {sizes}  {_spread(e[PROMPT]):26}  {_spread(e[DECODE])}")
            if host == "wllama" and peers.wllama:
                log(f"  {wllama_note(peers.wllama['version'])}")
        for name, why in entry.get("failed", {}).items():
            log(f"  no figure: {name}: {why}")


def print_products(products: dict[str, Any]) -> None:
    for shape, entries in products.items():
        log(f"\nsingle product {shape}, Chromium, 1 thread: microseconds, median (spread)")
        for name, e in entries.items():
            log(f"  {name:50} {e['bits_per_weight']:6.2f} bits {_spread(e['us'])}")


def print_summary(summary: dict[str, Any]) -> None:
    for shape, maps in summary.items():
        log(f"\n{shape}: ratios (fastest of wllama: {maps['best_peer_1_thread']['decode'] or 'none'})")
        for key, values in maps.items():
            if "ratio" in key and values:
                log(f"  {key}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))


def _verdict(floor: bool | None, goal: bool | None) -> str:
    if goal:
        return "goal reached"
    if floor is None:
        return "" if goal is None else "goal not reached"
    return "floor reached" if floor else "NOT REACHED"


def print_targets(targets: list[dict[str, Any]]) -> None:
    log("\ntargets that have a figure in this run")
    for t in targets:
        floor, goal = ("-" if t[key] is None else f"{t[key]:.4g}" for key in ("floor", "goal"))
        place = f"{t['figure']:9.2f} {t['unit']:5} floor {floor:>5} goal {goal:<6}"
        log(f"  {t['what']}, {t['where']}:\n    {place} {_verdict(t['floor_reached'], t['goal_reached'])}")
    for what, command in ELSEWHERE.items():
        log(f"  judged elsewhere: {what}: {command}")
