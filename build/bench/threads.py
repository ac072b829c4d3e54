"""How decoding scales with threads, natively and in Chromium, and what sharing work costs.

    python build/bench/threads.py                                  M and K in four formats, one thread and two
    python build/bench/threads.py --shapes M --formats pi-t2 --threads 1 2 4 --hosts native

Engines with each number of threads are open at once and take turns, a few tokens each, so that a drift of
the machine's speed meets all of them alike. Shown are milliseconds a token (medians; after a text of 128) and
the median of the turns' ratios; jobs that a token shares out, and the microseconds that sharing out an empty
job takes. Before them stands what two threads can gain at all on the machine: on arithmetic that needs no
memory, and on reading as many bytes as a file has. The last line of standard output is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

from native import warm_up  # noqa: E402
from page import browser_page, in_browser  # noqa: E402
from peers import own_file  # noqa: E402
from random_models import SHAPES  # noqa: E402
from ruvq import core  # noqa: E402
from ruvq.gguf import GGUFFile  # noqa: E402
from ruvq.runtime.engine import Engine, Sampling  # noqa: E402
from token_profile import compile_reader  # noqa: E402

FORMATS = ("pi-t2", "pi-t3", "ternary", "q8_0")
CONTEXT, TURN = 128, 8  # tokens before those that are timed; timed in one turn
JOBS = 2000  # empty ones, timed


def native_run(path: Path, counts: list[int], rounds: int) -> dict[str, Any]:
    """Threads → milliseconds a token by turn; jobs a token; microseconds of an empty job."""
    report: dict[str, Any] = {"ms": {n: [] for n in counts}, "jobs": {}, "empty_job_us": {}}
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(GGUFFile.open(path))
        engines = {n: stack.enter_context(Engine(file, context=CONTEXT + TURN, threads=n)) for n in counts}
        for engine in engines.values():
            engine.start_sampling(Sampling(temperature=0.0, top_p=1.0, seed=0))
            warm_up(engine)
            engine.feed([(i + 1) % engine.info.vocab_size for i in range(CONTEXT)])
            while engine.step():
                pass
        for turn in range(rounds + 1):  # the first warms up
            for n, engine in engines.items():
                seconds = _turn(engine)
                if turn:
                    report["ms"][n].append(1000 * seconds)
        for n, engine in engines.items():
            if engine._pool:
                report["jobs"][n], report["empty_job_us"][n] = _sharing(engine, engine._pool.address)
    return report


def _turn(engine: Engine) -> float:
    """Median seconds of a token; the engine is back where it was."""
    times = []
    for _ in range(TURN - 1):
        start = time.perf_counter()
        engine.feed([1 if engine.logits_rows == 0 else engine.sample()])
        engine.step()
        times.append(time.perf_counter() - start)
    engine.truncate(CONTEXT)
    return statistics.median(times[1:])


def _sharing(engine: Engine, pool: int) -> tuple[int, float]:
    """Jobs of one token, microseconds of an empty one."""
    c = core.get()
    before = c.raw("rq_pool_jobs", pool)
    engine.feed([1])
    engine.step()
    jobs = c.raw("rq_pool_jobs", pool) - before
    engine.truncate(CONTEXT)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        c.call("rq_pool_exercise", pool, JOBS)
        times.append((time.perf_counter() - start) / JOBS)
    return jobs, 1e6 * statistics.median(times)


# ---- what the machine allows ----


def _at_once(work: Callable[[int], object], threads: int) -> float:
    """Seconds until all of `threads` calls work(0), work(1) ... are done."""
    gate = threading.Barrier(threads + 1)
    ends: list[float] = []

    def run(n: int) -> None:
        gate.wait()
        work(n)
        ends.append(time.perf_counter())

    started = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in started:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in started:
        thread.join()
    return max(ends) - start


def _gain(work: Callable[[int], Callable[[int], object]], rounds: int = 7) -> tuple[float, float, float]:
    """Seconds with one thread and with two, and the gain; `work(n)` is what each of n threads does."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for n, samples in times.items():
            samples.append(_at_once(work(n), n))
    gains = [a / b for a, b in zip(times[1], times[2], strict=True)]
    return statistics.median(times[1]), statistics.median(times[2]), statistics.median(gains)


def possible(folder: Path, sizes: list[int]) -> dict[str, Any]:
    """What two threads gain on arithmetic alone, and on reading each size in bytes, each its half."""
    library = ctypes.CDLL(str(compile_reader("native", folder)))
    read, compute = library.read_memory, library.only_arithmetic
    read.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    rounds = 40_000_000
    report: dict[str, Any] = {
        "arithmetic_gain": _gain(lambda n: lambda _: compute(rounds // n))[2],
        "read": {},
    }
    memory = np.ones(max(sizes) // 8 + 16, np.uint64)
    begin = (memory.ctypes.data + 63) & ~63

    def part(nbytes: int, threads: int) -> Callable[[int], object]:
        size = nbytes // threads // 128 * 128
        return lambda n: [read(begin + n * size, size // 16) for _ in range(20)]

    for nbytes in sizes:
        one, two, gain = _gain(lambda n, nbytes=nbytes: part(nbytes, n))  # type: ignore[misc]
        speeds = [20 * nbytes / seconds / 1e9 for seconds in (one, two)]
        report["read"][nbytes] = {"one_gb_per_s": speeds[0], "two_gb_per_s": speeds[1], "gain": gain}
    return report


# ---- tables ----


def summarise(report: dict[str, Any], counts: list[int]) -> dict[str, Any]:
    ms = {int(n): values for n, values in report["ms"].items()}
    first = counts[0]
    ratios = {n: [a / b for a, b in zip(ms[first], ms[n], strict=True)] for n in counts[1:]}
    return {
        "ms": {n: statistics.median(ms[n]) for n in counts},
        "gain": {n: statistics.median(values) for n, values in ratios.items()},
        "gain_range": {n: [min(values), max(values)] for n, values in ratios.items()},
        "jobs": {int(n): value for n, value in report["jobs"].items()},
        "empty_job_us": {int(n): value for n, value in report["empty_job_us"].items()},
    }


def line(label: str, entry: dict[str, Any]) -> str:
    parts = [f"{n} threads {ms:.2f} ms" for n, ms in entry["ms"].items()]
    for n, gain in entry["gain"].items():
        low, high = entry["gain_range"][n]
        parts.append(f"gain {gain:.2f} ({low:.2f} to {high:.2f})")
        if n in entry["jobs"]:
            parts.append(f"{entry['jobs'][n]} jobs, an empty one {entry['empty_job_us'][n]:.2f} us")
    return f"{label}: " + "; ".join(parts)


def measure(args: argparse.Namespace, folder: Path, page: Any) -> dict[str, Any]:
    results: dict[str, Any] = {}
    paths = {(shape, name): own_file(folder, shape, name) for shape in args.shapes for name in args.formats}
    if "native" in args.hosts:
        results["possible"] = possible(folder, sorted({path.stat().st_size for path in paths.values()}))
        print(json.dumps(results["possible"]), file=sys.stderr)
    for (shape, name), path in paths.items():
        for host in args.hosts:
            if host == "native":
                run = native_run(path, args.threads, args.rounds)
            else:
                spec = {"counts": args.threads, "rounds": args.rounds, "context": CONTEXT, "turn": TURN}
                run = in_browser(page, "threads", url=f"/files/{path.name}", jobs=JOBS, **spec)
            entry = results[f"{host} {shape} {name}"] = summarise(run, args.threads)
            print(line(f"{host} {shape} {name}", entry), file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", 1)[0],
        epilog=(__doc__ or "").split("\n\n", 2)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", nargs="+", default=["M", "K"], choices=sorted(SHAPES))
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="the first is compared with")
    parser.add_argument("--hosts", nargs="+", default=["native", "chromium"], choices=["native", "chromium"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where random models are kept between runs")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = root / "site" / "files"
        folder.mkdir(parents=True, exist_ok=True)
        page = None
        if "chromium" in args.hosts:
            page, _ = stack.enter_context(browser_page(folder))
        print(json.dumps(measure(args, folder, page)))


if __name__ == "__main__":
    main()
