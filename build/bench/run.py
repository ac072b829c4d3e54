"""Measures kernels and whole models, natively and in Chromium, and writes docs/bench/latest.json.

    python build/bench/run.py                        everything (about ten minutes on 2 cores)
    python build/bench/run.py --quick                small shapes, one round: does it run?
    python build/bench/run.py --formats pi-t2 q8_0 --models M

Kernels: GB/s of floats that decoding writes and of weights that a matrix-vector product reads, SIMD beside
the scalar reference and a memory copy in the same run. Models: tokens per second of a 128-token prompt and
of 64 greedy tokens after it, on random weights in real shapes (random_models.py), one thread. Tasks are
interleaved round by round; the figures are medians. A table goes to standard error, the JSON to the file and
its path to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

import native  # noqa: E402
from random_models import SHAPES, random_rows, write_model  # noqa: E402
from ruvq import __version__, formats  # noqa: E402
from ruvq.cli.server import make_server  # noqa: E402
from timing import summary  # noqa: E402

FORMATS = ("pi-t2", "pi-t3", "pi-q2", "pi-q3", "ternary", "q8_0", "f16")
KERNEL_SHAPES = ((2048, 2048), (1536, 576))  # (rows, width)
PROMPT, DECODE = 128, 64


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- what is measured on ----


def model_file(folder: Path, shape: str, format_name: str) -> Path:
    """A random model's file, made once."""
    path = folder / f"{shape}-{format_name}.gguf"
    if not path.exists():
        log(f"making {path.name}")
        write_model(path, SHAPES[shape], format_name)
    return path


def kernel_files(folder: Path, names: list[str], rows: int, width: int) -> list[dict[str, Any]]:
    """Random rows of every format, for the browser."""
    specs = []
    for name in names:
        path = folder / f"rows-{name}-{rows}x{width}.bin"
        if not path.exists():
            path.write_bytes(random_rows(name, rows, width, np.random.default_rng(1)).tobytes())
        specs.append({"name": name, "id": formats.get(name).id, "url": f"/files/{path.name}"})
    return specs


# ---- the browser ----


@contextmanager
def browser_page(folder: Path) -> Iterator[tuple[Any, str]]:
    """Chromium on the benchmark's page, cross-origin isolated; gives the page and the browser's version."""
    from playwright.sync_api import sync_playwright

    from chromium import CHROMIUM_FLAGS, chromium_path

    for item in (ROOT / "web").iterdir():
        if item.is_file():
            shutil.copy(item, folder.parent / item.name)
    server = make_server(folder.parent, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/bench.html")
            page.wait_for_function("window.runTask !== undefined")
            page.set_default_timeout(0)
            yield page, browser.version
            browser.close()
    finally:
        server.shutdown()


def in_browser(page: Any, task: str, **spec: Any) -> Any:
    """One task in a fresh worker."""
    return page.evaluate("([task, spec]) => runTask(task, spec)", [task, spec])


# ---- measuring ----


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


def measure_models(
    page: Any, folder: Path, names: list[str], shapes: list[str], rounds: int, tokens: Any
) -> Any:
    """Shape → host → format → prompt, decode and opening; hosts and formats interleaved."""
    prompt, decode = tokens
    report: dict[str, Any] = {}
    for shape in shapes:
        paths = {name: model_file(folder, shape, name) for name in names}
        hosts: dict[str, Callable[[Path], dict[str, float]]] = {
            "native": lambda path: native.model_run(path, prompt, decode),
            "chromium": lambda path: in_browser(
                page, "model", url=f"/files/{path.name}", promptTokens=prompt, decodeTokens=decode
            ),
        }
        runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        for round_number in range(rounds):
            log(f"model {shape}, round {round_number + 1} of {rounds}")
            for name, path in paths.items():
                for host, run in hosts.items():
                    runs.setdefault((host, name), []).append(run(path))
        report[shape] = {host: {} for host in hosts}
        for (host, name), samples in runs.items():
            figures = {key: summary([s[key] for s in samples]) for key in samples[0]}
            report[shape][host][name] = {"file_bytes": paths[name].stat().st_size, **figures}
    return report


# ---- report ----


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


def print_models(models: dict[str, Any]) -> None:
    for shape, hosts in models.items():
        for host, entries in hosts.items():
            log(f"\n{shape}, {host}, 1 thread: tokens per second (median)")
            log(f"  {'format':10} {'MB':>6}  {'prompt':>8}  {'decode':>8}")
            for name, e in entries.items():
                log(
                    f"  {name:10} {e['file_bytes'] / 1e6:6.0f}  {e['prompt_tokens_per_s']['median']:8.1f}  "
                    f"{e['decode_tokens_per_s']['median']:8.1f}"
                )


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {"processor": model, "cores": os.cpu_count(), "system": platform.platform()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), help="formats to measure")
    parser.add_argument("--models", nargs="*", choices=sorted(SHAPES), default=None, help="default: K and M")
    parser.add_argument("--rounds", type=int, default=3, help="rounds whose median is quoted (default 3)")
    parser.add_argument("--quick", action="store_true", help="small shapes, one round")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench" / "latest.json")
    options = parser.parse_args()
    names = [formats.get(name).name for name in options.formats]
    shapes = options.models if options.models is not None else (["tiny"] if options.quick else ["K", "M"])
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    kernel_shapes = ((256, 256), (256, 576)) if options.quick else KERNEL_SHAPES
    rounds = 1 if options.quick else options.rounds
    tokens = (16, 8) if options.quick else (PROMPT, DECODE)
    with browser_page(folder) as (page, version):
        report = {
            "ruvq": __version__,
            "machine": machine(),
            "chromium": version,
            "date": time.strftime("%Y-%m-%d"),
            "command": "make bench",
            "threads": 1,
            "weights": "random, in the real shapes",
            "prompt_tokens": tokens[0],
            "decode_tokens": tokens[1],
            "kernels": measure_kernels(page, folder, names, kernel_shapes, max(rounds, 1)),
            "models": measure_models(page, folder, names, shapes, rounds, tokens),
        }
    print_kernels(report["kernels"])
    print_models(report["models"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    part = options.output.with_name(options.output.name + ".part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    part.replace(options.output)
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
