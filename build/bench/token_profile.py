"""Where the time of one decoded token goes, natively and in Chromium, and a roofline per format.

    python build/bench/token_profile.py --model FILE [--host native|chromium]
    python build/bench/token_profile.py --shape M --formats pi-t2 pi-t3 --write docs/performance.md

Matrices: seconds of rq_matvec over every tensor's own weights in the order of a token, by kind of tensor,
with the bytes it reads and its arithmetic per byte. Sampling: the sampler alone. Attention over the text so
far: what a token after a long text takes longer than after a short one. The rest (norms, rotation,
activations, copies) is what remains of the whole token; where the engine's own products are faster than
separate calls of rq_matvec (several tensors share one prepared vector) it comes out small or below zero, and
is shown so.

Roofline: what reading alone allows (memory of the file's size read in the same run), what the products alone
allow when their weights come from the cache, and the tokens a second that were measured. `--write` puts the
tables between the markers of a Markdown file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

from native import token_seconds  # noqa: E402
from page import browser_page, in_browser  # noqa: E402
from peers import own_file  # noqa: E402
from profile_tables import markdown, write_between  # noqa: E402
from random_models import SHAPES  # noqa: E402
from ruvq import core, formats  # noqa: E402
from ruvq.core import CONSTANTS  # noqa: E402
from ruvq.gguf import GGUFFile  # noqa: E402
from ruvq.runtime.engine import Engine, Sampling  # noqa: E402

CONTEXTS = (128, 1024)
SCRIPT_FOLDER = Path(__file__).resolve().parent
COMPILE = ("clang-19", "-std=c11", "-O3", "-ffreestanding")
LINK = ("wasm-ld-19", "--no-entry", "--export=read_memory", "--export=__heap_base")


def compile_reader(folder: Path, target: str) -> Path:
    """read_memory.c for one host."""
    source = SCRIPT_FOLDER / "read_memory.c"
    if target == "native":
        path = folder / "read_memory.so"
        subprocess.run([*COMPILE, "-shared", "-nostdlib", "-fPIC", "-o", path, source], check=True)
        return path
    path, compiled = folder / "read_memory.wasm", folder / "read_memory.o"
    subprocess.run([*COMPILE, "--target=wasm32", "-msimd128", "-c", "-o", compiled, source], check=True)
    subprocess.run([*LINK, "-o", path, compiled], check=True)
    return path


def tensors_of(file: GGUFFile) -> list[dict[str, Any]]:
    """Every matrix a token is multiplied with, in order: kind, format, offset, rows, width, bytes."""
    matrices = [t for t in file.tensors if len(t.shape) == 2]
    names = {t.name for t in matrices}
    output = "output.weight" if "output.weight" in names else "token_embd.weight"  # tied
    layers = [t for t in matrices if t.name.startswith("blk.")]
    layers.sort(key=lambda t: int(t.name.split(".")[1]))
    last = [t for t in matrices if t.name == output]
    return [
        {
            "kind": t.name.split(".")[2] if t.name.startswith("blk.") else "output",
            "format": formats.get(t.format).id,
            "offset": t.offset,
            "rows": t.shape[0],
            "width": t.shape[1],
            "bytes": t.nbytes,
        }
        for t in layers + last
    ]


# ---- natively ----


def _product_seconds(base: int, tensors: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Seconds a token of every kind: over all layers in order, and one layer's again and again."""
    c = core.get()
    x = c.place(np.sin(np.arange(1, 1 + max(t["width"] for t in tensors), dtype=np.float32)))
    y = c.alloc(4 * max(t["rows"] for t in tensors))
    scratch = c.alloc(max(c.call("rq_matvec_scratch", t["format"], t["width"]) for t in tensors))
    simd = CONSTANTS["RQ_SIMD"]

    def product(t: dict[str, Any]) -> float:
        where = (t["format"], base + t["offset"], t["rows"], t["width"], x.address, y.address)
        start = time.perf_counter()
        c.call("rq_matvec", *where, scratch.address, scratch.end, simd)
        return time.perf_counter() - start

    samples: dict[str, list[float]] = {}
    for _ in range(rounds):
        times: dict[str, float] = {}
        for tensor in tensors:
            times[tensor["kind"]] = times.get(tensor["kind"], 0.0) + product(tensor)
        for kind, value in times.items():
            samples.setdefault(kind, []).append(value)
    cached = {}
    for tensor in tensors:
        if tensor["kind"] not in cached:
            repeats = max(3, 10_000_000 // (tensor["rows"] * tensor["width"]))
            count = sum(t["kind"] == tensor["kind"] for t in tensors)
            cached[tensor["kind"]] = statistics.median(product(tensor) for _ in range(repeats)) * count
    return {
        "streamed_s": {kind: statistics.median(values) for kind, values in samples.items()},
        "cached_s": cached,
    }


def _read_speed(folder: Path, nbytes: int, rounds: int) -> float:
    """Bytes a second that one thread reads from a buffer of this size."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("uint32_t read_memory(const void *from, uint32_t count);")
    library: Any = ffi.dlopen(str(compile_reader(folder, "native")))
    data = np.ones(nbytes, np.uint8)
    pointer = ffi.from_buffer(data)
    times = []
    for _ in range(rounds):
        repeats = max(1, 64_000_000 // nbytes)
        start = time.perf_counter()
        for _ in range(repeats):
            library.read_memory(pointer, nbytes // 16)
        times.append((time.perf_counter() - start) / repeats)
    return nbytes / statistics.median(times)


def profile_native(path: Path, folder: Path, contexts: tuple[int, ...], tokens: int, rounds: int) -> Any:
    """The pieces of a token on this machine."""
    with GGUFFile.open(path) as file:
        tensors = tensors_of(file)
        with Engine(file, context=max(contexts) + tokens + 1) as engine:
            engine.start_sampling(Sampling(temperature=0.0, top_p=1.0, seed=0))
            token_seconds(engine, 8, 4)  # warms up
            after = {str(n): token_seconds(engine, n, tokens) for n in contexts}
        products = _product_seconds(file.data_address, tensors, rounds)
    nbytes = sum(t["bytes"] for t in tensors) // 128 * 128
    return {"after": after, **products, "read_bytes_per_s": _read_speed(folder, nbytes, rounds)}


# ---- together ----


def profile_file(
    path: Path, host: str, page: Any, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """One model on one host: the pieces measured, and what follows from them."""
    contexts, tokens, rounds = tuple(options.contexts), options.tokens, options.rounds
    with GGUFFile.open(path) as file:
        tensors = tensors_of(file)
    nbytes = sum(t["bytes"] for t in tensors)
    if host == "native":
        measured = profile_native(path, folder, contexts, tokens, rounds)
    else:
        compile_reader(folder, "wasm")
        measured = in_browser(
            page,
            "profile",
            url=f"/files/{path.name}",
            tensors=tensors,
            lengths=contexts,
            tokens=tokens,
            rounds=rounds,
            readUrl="/files/read_memory.wasm",
            readBytes=nbytes // 128 * 128,
        )
    return {"model": path.name, "host": host, **measured, **derived(tensors, measured)}


def derived(tensors: list[dict[str, Any]], measured: dict[str, Any]) -> dict[str, Any]:
    """Shares, arithmetic per byte and the roofline, from what was measured."""
    contexts = sorted(measured["after"], key=int)
    short, long = measured["after"][contexts[0]], measured["after"][contexts[-1]]
    token = short["token_s"]
    kinds: dict[str, dict[str, float]] = {}
    for t in tensors:
        entry = kinds.setdefault(t["kind"], {"bytes": 0, "weights": 0})
        entry["bytes"] += t["bytes"]
        entry["weights"] += t["rows"] * t["width"]
    for kind, entry in kinds.items():
        entry["seconds"] = measured["streamed_s"][kind]
        entry["share"] = entry["seconds"] / token
        entry["operations_per_byte"] = 2 * entry["weights"] / entry["bytes"]
    span = int(contexts[-1]) - int(contexts[0])
    per_position = max(long["token_s"] - token, 0.0) / span if span else None
    attention = None if per_position is None else per_position * int(contexts[0])
    products = sum(entry["seconds"] for entry in kinds.values())
    rest = token - products - short["sample_s"] - (attention or 0.0)
    nbytes, weights = sum(t["bytes"] for t in tensors), sum(k["weights"] for k in kinds.values())
    return {
        "kinds": kinds,
        "context": int(contexts[0]),
        "pieces_s": {"attention": attention, "sampling": short["sample_s"], "rest": rest},
        "token_s": token,
        "bytes_per_token": nbytes,
        "bits_per_weight": 8 * nbytes / weights,
        "roofline_tokens_per_s": {
            "reading": measured["read_bytes_per_s"] / nbytes,
            "products_from_cache": 1 / sum(measured["cached_s"].values()),
            "measured": 1 / token,
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a GGUF file; otherwise random models are made")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), default="M", help="of the random models (default M)"
    )
    parser.add_argument("--formats", nargs="+", default=["pi-t2", "pi-t3", "ternary", "q8_0", "f16"])
    parser.add_argument("--host", choices=("native", "chromium", "both"), default="both")
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=list(CONTEXTS), help="tokens of text before"
    )
    parser.add_argument("--tokens", type=int, default=16, help="tokens timed after each")
    parser.add_argument("--rounds", type=int, default=9, help="rounds whose median is quoted")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables into")
    options = parser.parse_args()
    folder = ROOT / "out" / "bench" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    if options.model:
        paths = [folder / options.model.name]
        if not paths[0].exists() or not paths[0].samefile(options.model):
            paths[0].unlink(missing_ok=True)
            paths[0].symlink_to(options.model.resolve())
    else:
        paths = [own_file(folder, options.shape, formats.get(name).name) for name in options.formats]
    hosts = ("native", "chromium") if options.host == "both" else (options.host,)
    results = []
    with browser_page(folder) as (page, _):
        for path in paths:
            for host in hosts:
                print(f"profiling {path.name}, {host}", file=sys.stderr, flush=True)
                results.append(profile_file(path, host, page, folder, options))
    text = markdown(results)
    print(text, file=sys.stderr)
    if options.write:
        write_between(options.write, "profile", text)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
