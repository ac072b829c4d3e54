"""Measures kernels and models, natively and in Chromium, beside their peers; writes docs/bench/latest.json.

    python build/bench/run.py                        everything (about half an hour on 2 cores)
    python build/bench/run.py --quick                small shapes, one round: does it run?
    python build/bench/run.py --formats pi-t2 q8_0 --models M
    python build/bench/run.py --require-peers        a missing peer is an error

Kernels: GB/s of floats that decoding writes and of weights that a matrix-vector product reads, SIMD beside
the scalar reference and a memory copy in the same run. Models: tokens per second of a 128-token prompt and
of 64 greedy tokens after it, on random weights in real shapes (random_models.py): ruvq natively and in
Chromium, wllama and onnxruntime-web in the same Chromium, llama.cpp natively (peers.py), with one thread and
with two where a host has them. Tasks are interleaved round by round; the figures are medians. Tables go to
standard error, the JSON to the file and its path to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

import native  # noqa: E402
import tables  # noqa: E402
from extras import measure_extras  # noqa: E402
from machine import machine  # noqa: E402
from models import log, measure_shape  # noqa: E402
from page import browser_page, in_browser  # noqa: E402
from page_start import measure_first_token  # noqa: E402
from peers import PEER_FORMATS, Peers, find_peers  # noqa: E402
from products import measure_products  # noqa: E402
from quantize_time import measure_encoding  # noqa: E402
from random_models import SHAPES, random_rows  # noqa: E402
from ruvq import __version__, formats  # noqa: E402
from scaling import measure_scaling  # noqa: E402
from summary import summarise  # noqa: E402
from targets import ELSEWHERE, judge  # noqa: E402
from timing import summary  # noqa: E402

FORMATS = ("pi-t2", "pi-t3", "pi-q2", "pi-q3", "ternary", "q8_0", "f16")
KERNEL_SHAPES = ((2048, 2048), (1536, 576))  # (rows, width)
PROMPT, DECODE = 128, 64


def kernel_files(folder: Path, names: list[str], rows: int, width: int) -> list[dict[str, Any]]:
    """Random rows of every format, for the browser."""
    specs = []
    for name in names:
        path = folder / f"rows-{name}-{rows}x{width}.bin"
        if not path.exists():
            path.write_bytes(random_rows(name, rows, width, np.random.default_rng(1)).tobytes())
        specs.append({"name": name, "id": formats.get(name).id, "url": f"/files/{path.name}"})
    return specs


def measure_kernels(page: Any, folder: Path, names: list[str], shapes: Any, rounds: int) -> dict[str, Any]:
    """Host → shape → format → figures."""
    ids = {name: formats.get(name).id for name in names}
    report: dict[str, Any] = {"native": {}, "chromium": {}}
    for rows, width in shapes:
        label = f"{rows}x{width}"
        log(f"kernels {label}")
        report["native"][label] = native.kernels(names, ids, rows, width, rounds)
        files = kernel_files(folder, names, rows, width)
        times = in_browser(page, "kernels", formats=files, rows=rows, width=width, rounds=rounds)
        nbytes = {name: formats.get(name).row_bytes(width) * rows for name in names}
        medians = {task: summary(samples)["median"] for task, samples in times.items()}
        report["chromium"][label] = native.kernel_report(names, medians, nbytes, rows * width)
    return report


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), help="ruvq's formats to measure")
    parser.add_argument("--peer-formats", nargs="*", default=None, help="llama.cpp's names, such as Q4_K_M")
    parser.add_argument("--models", nargs="*", choices=sorted(SHAPES), default=None, help="default: K and M")
    parser.add_argument("--rounds", type=int, default=3, help="rounds whose median is quoted (default 3)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default 1 2)")
    parser.add_argument("--tokens", type=int, nargs=2, metavar=("PROMPT", "DECODE"), default=None)
    parser.add_argument("--quick", action="store_true", help="small shapes, one round")
    parser.add_argument("--no-kernels", action="store_true", help="whole models and products only")
    parser.add_argument("--no-scaling", action="store_true", help="without the runs that plot.py draws")
    parser.add_argument("--no-whole", action="store_true", help="without the page and the quantizer")
    parser.add_argument("--require-peers", action="store_true", help="fail when a peer is missing or fails")
    parser.add_argument("--npm", type=Path, default=ROOT / "node_modules", help="where npm's peers are")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench" / "latest.json")
    return parser.parse_args()


def measure(options: argparse.Namespace, peers: Peers, folder: Path) -> dict[str, Any]:
    """The whole report."""
    names = [formats.get(name).name for name in options.formats]
    shapes = options.models if options.models is not None else (["tiny"] if options.quick else ["K", "M"])
    kernel_shapes = ((256, 256), (256, 576)) if options.quick else KERNEL_SHAPES
    rounds = 1 if options.quick else options.rounds
    tokens = tuple(options.tokens or ((16, 8) if options.quick else (PROMPT, DECODE)))
    report: dict[str, Any] = {
        "ruvq": __version__,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python build/bench/run.py", *sys.argv[1:]]),
        "threads": options.threads,
        "rounds": rounds,
        "weights": "random, in the real shapes",
        "prompt_tokens": tokens[0],
        "decode_tokens": tokens[1],
    }
    with browser_page(folder) as (page, version):
        report["chromium"] = version
        report["engine_build_in_chromium"] = in_browser(page, "build")["variant"]
        log(f"Chromium {version}, ruvq's build: {report['engine_build_in_chromium']}")
        if peers.wllama:
            peers.wllama |= in_browser(page, "wllamaVersion", base="./peers/wllama")
            peers.wllama["below_its_ability"] = tables.wllama_note(peers.wllama["version"])
        report["peers"] = {
            "wllama": peers.wllama,
            "llama.cpp": peers.llama,
            "onnxruntime-web": peers.onnx,
            "missing": peers.missing,
        }
        tables.print_peers(peers)
        tables.print_machine(report["machine"])
        if not options.no_kernels:
            report["kernels"] = measure_kernels(page, folder, names, kernel_shapes, rounds)
            report["extras"] = measure_extras(page, rounds)
        report["products"] = measure_products(page, folder, peers, rounds)
        report["models"] = {}
        for shape in shapes:
            wanted = PEER_FORMATS[shape] if options.peer_formats is None else tuple(options.peer_formats)
            report["models"][shape] = measure_shape(
                page,
                folder,
                shape,
                names,
                wanted,
                peers,
                tokens,
                rounds,
                tuple(options.threads),
                options.require_peers,
            )
        if not options.no_scaling:
            report["scaling"] = measure_scaling(page, folder, rounds, options.threads, options.quick)
    if not options.no_whole:
        log("the page's first token, and encoding a whole model")
        report["first_token"] = measure_first_token(rounds)
        shape, encoded = ("tiny", ("pi-t2",)) if options.quick else ("Q", ("pi-t2", "pi-t3"))
        seconds = {f"{shape} {name}": measure_encoding(shape, name)["seconds"] for name in encoded}
        report["encoding_s"] = seconds
    report["summary"] = {shape: summarise(entry) for shape, entry in report["models"].items()}
    report["targets"] = judge(report, ROOT)
    report["targets_judged_elsewhere"] = ELSEWHERE
    return report


def main() -> int:
    options = arguments()
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    peers = find_peers(folder.parent, options.npm)
    if options.require_peers and peers.missing:
        tables.print_peers(peers)
        return 1
    report = measure(options, peers, folder)
    tables.print_kernels(report.get("kernels", {}))
    tables.print_products(report["products"])
    tables.print_models(report["models"], peers)
    tables.print_summary(report["summary"])
    tables.print_targets(report["targets"])
    tables.print_machine(report["machine"])
    for name, why in peers.missing.items():
        log(f"\npeer {name} is missing from these figures: {why}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    part = options.output.with_name(options.output.name + ".part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    part.replace(options.output)
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
