"""Where the time of one decoded token goes, natively and in Chromium, and a roofline per format.

    make profile                                       builds the engine with a clock inside, then this
    python build/bench/token_profile.py --model FILE [--host native|chromium]
    python build/bench/token_profile.py --formats pi-t2 q8_0 --write docs/performance.md

The engine itself books the time of every operation while it decodes (builds with RQ_PROFILE, see
wasm_kernels/model/profile.h); the host adds what it spends on drawing a token and on calling. Shares are of
the token in that run, one thread, the fastest of several rounds; beside it stands a token of the engine that
ships, so that the clock's own cost is seen.

Roofline, in tokens a second: what reading alone allows (memory of the weights' size, read in the same run);
what decoding and arithmetic alone allow (every product of a token in the engine's own loop, with weights that
stay in the nearest cache); what was measured. `--write` puts the tables between the markers of a Markdown
file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import numpy as np  # noqa: E402

from machine import machine  # noqa: E402
from page import browser_page, in_browser  # noqa: E402
from peers import own_file  # noqa: E402
from profile_native import OPERATIONS  # noqa: E402
from profile_tables import markdown, write_between  # noqa: E402
from random_models import SHAPES  # noqa: E402
from ruvq import formats  # noqa: E402
from ruvq.gguf import GGUFFile  # noqa: E402

FORMATS = ("pi-t2", "pi-t3", "ternary", "q8_0", "f16")
CONTEXTS = (128, 1024, 4096)
FOLDER = ROOT / "out" / "bench"  # what the page's server serves
CLOCKED = FOLDER / "profile"
SCRIPTS = Path(__file__).resolve().parent
ROLES = {  # tensor → operation
    "attn_q": "query",
    "attn_k": "key",
    "attn_v": "value",
    "attn_output": "attention_out",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
COMPILE = ("clang-19", "-std=c11", "-O3", "-ffreestanding")
LINK = ("wasm-ld-19", "--no-entry", "--export=read_memory", "--export=__heap_base")


def matrices_of(file: GGUFFile) -> list[dict[str, Any]]:
    """Every matrix a token is multiplied with: layer, operation, format, weights, bytes."""
    matrices = {t.name: t for t in file.tensors if len(t.shape) == 2}
    found = []
    for name, t in matrices.items():
        layer, part = (int(name.split(".")[1]), name.split(".")[2]) if name.startswith("blk.") else (-1, "")
        if layer >= 0 or name == ("output.weight" if "output.weight" in matrices else "token_embd.weight"):
            shape = (t.format, *t.shape)
            found.append(
                {
                    "layer": max(layer, 0),
                    "operation": ROLES.get(part, "output"),
                    "shape": shape,
                    "format": t.format,
                    "weights": t.shape[0] * t.shape[1],
                    "bytes": t.nbytes,
                }
            )
    return found


def distinct(matrices: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """One of each operation and shape, and how many a token has of it."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for m in matrices:
        groups.setdefault((m["operation"], m["shape"]), []).append(m)
    return [(group[0], len(group)) for group in groups.values()]


# ---- measuring ----


def compile_reader(target: str, folder: Path = FOLDER / "files") -> Path:
    """read_memory.c for one host, compiled into `folder`."""
    source = SCRIPTS / "read_memory.c"
    if target == "native":
        path = folder / "read_memory.so"
        subprocess.run([*COMPILE, "-shared", "-nostdlib", "-fPIC", "-o", path, source], check=True)
        return path
    path, compiled = folder / "read_memory.wasm", folder / "read_memory.o"
    subprocess.run([*COMPILE, "--target=wasm32", "-msimd128", "-c", "-o", compiled, source], check=True)
    subprocess.run([*LINK, "-o", path, compiled], check=True)
    return path


def read_speed_native(nbytes: int, rounds: int) -> float:
    """Bytes a second that one thread reads from a buffer of this size: the fastest of `rounds`."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("uint32_t read_memory(const void *from, uint32_t count);")
    library: Any = ffi.dlopen(str(compile_reader("native")))
    pointer = ffi.from_buffer(data := np.ones(nbytes, np.uint8))
    times = []
    for _ in range(rounds):
        repeats = max(1, 64_000_000 // data.nbytes)
        start = time.perf_counter()
        for _ in range(repeats):
            library.read_memory(pointer, nbytes // 16)
        times.append((time.perf_counter() - start) / repeats)
    return nbytes / min(times)


def run_native(
    path: Path,
    library: Path | None,
    lengths: list[int],
    wanted: list[list[int]],
    options: argparse.Namespace,
) -> Any:
    """profile_native.py on one build of the core: `library`, or the one that ships."""
    command = [
        sys.executable,
        str(SCRIPTS / "profile_native.py"),
        str(path),
        "--matrices",
        json.dumps(wanted),
    ]
    command += ["--tokens", str(options.tokens), "--rounds", str(options.rounds)]
    command += ["--contexts", *map(str, lengths)]
    environment = os.environ | ({"RUVQ_LIBRARY": str(library)} if library else {})
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if run.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed:\n{run.stderr}")
    return json.loads(run.stdout)


def measure(
    path: Path, host: str, lengths: list[int], page: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """One model on one host: a profile after each length of text, shortest first; the first also without a
    clock; and the limits."""
    with GGUFFile.open(path) as file:
        matrices = matrices_of(file)
    kinds = distinct(matrices)
    wanted = [[m["layer"], OPERATIONS[m["operation"]]] for m, _ in kinds]
    nbytes = sum(m["bytes"] for m in matrices)
    readable = nbytes // 128 * 128
    if host == "native":
        plain = run_native(path, None, lengths[:1], [], options)
        clocked = run_native(path, CLOCKED / "libruvq.so", lengths, wanted, options)
        speed = read_speed_native(readable, options.rounds)
    else:
        compile_reader("wasm")
        url = f"/files/{path.name}"
        spec: dict[str, Any] = {"url": url, "tokens": options.tokens, "rounds": options.rounds}
        spec["matrices"] = wanted
        plain = in_browser(page, "profile", folder="./", lengths=lengths[:1], **spec)
        clocked = in_browser(page, "profile", folder="./profile/", lengths=lengths, **spec)
        read = {"url": "/files/read_memory.wasm", "bytes": readable, "rounds": options.rounds}
        speed = in_browser(page, "readSpeed", **read)
    cached: dict[str, float] = {}
    for (m, count), seconds in zip(kinds, clocked["cached_s"], strict=True):
        cached[m["operation"]] = cached.get(m["operation"], 0.0) + count * seconds
    after = {n: with_shares(entry, plain["after"].get(n)) for n, entry in clocked["after"].items()}
    report = {"model": path.name, "host": host, "kernels": clocked["kernels"], "after": after}
    return report | roofline(matrices, after[min(after, key=int)], cached, speed)


def with_shares(clocked: dict[str, Any], plain: dict[str, Any] | None) -> dict[str, Any]:
    """Seconds of every piece of a token; `calls` is what the host spends beside engine and sampler."""
    pieces = dict(clocked["operations_s"]) | {"sampling": clocked["sampling_s"]}
    pieces["calls"] = clocked["token_s"] - sum(pieces.values())
    return {
        "token_s": clocked["token_s"],
        "token_without_clock_s": plain and plain["token_s"],
        "slowest_token_s": clocked["slowest_token_s"],
        "pieces_s": pieces,
        "shares": {name: seconds / clocked["token_s"] for name, seconds in pieces.items()},
    }


def roofline(
    matrices: list[dict[str, Any]], after: dict[str, Any], cached: dict[str, float], read_speed: float
) -> dict[str, Any]:
    """Limits and what was reached, after the shortest text."""
    nbytes, weights = sum(m["bytes"] for m in matrices), sum(m["weights"] for m in matrices)
    products = sum(after["pieces_s"][name] for name in {m["operation"] for m in matrices})
    return {
        "bytes_per_token": nbytes,
        "weights_per_token": weights,
        "bits_per_weight": 8 * nbytes / weights,
        "operations_per_byte": 2 * weights / nbytes,
        "read_bytes_per_s": read_speed,
        "products_s": products,
        "products_from_cache_s": cached,
        "tokens_per_s": {
            "reading": read_speed / nbytes,
            "products_from_cache": 1 / sum(cached.values()),
            "products_measured": 1 / products,
            "measured": 1 / after["token_s"],
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a GGUF file; otherwise random models are made")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="M", help="of random models (default M)")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--host", choices=("native", "chromium", "both"), default="both")
    parser.add_argument(
        "--contexts",
        type=int,
        nargs="+",
        default=list(CONTEXTS),
        help="tokens of text before; the longer ones with the first model only",
    )
    parser.add_argument("--tokens", type=int, default=16, help="tokens of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the fastest is quoted")
    parser.add_argument("--write", type=Path, help="Markdown file to put the tables into")
    options = parser.parse_args()
    if not (CLOCKED / "libruvq.so").exists():
        print("the engine with a clock inside is not there: run `make profile`", file=sys.stderr)
        return 1
    (FOLDER / "files").mkdir(parents=True, exist_ok=True)
    hosts = ("native", "chromium") if options.host == "both" else (options.host,)
    results, here = [], machine()
    with browser_page(FOLDER / "files") as (page, version):
        for number, path in enumerate(model_files(options)):
            lengths = sorted(options.contexts)[: 1 if number else None]
            for host in hosts:
                print(f"profiling {path.name}, {host}", file=sys.stderr, flush=True)
                results.append(measure(path, host, lengths, page, options))
    text = markdown(results, version, here)
    print(text, file=sys.stderr)
    if options.write:
        write_between(options.write, "profile", text)
    print(json.dumps(results))
    return 0


def model_files(options: argparse.Namespace) -> list[Path]:
    """The file asked for, where the page can fetch it, or random models."""
    folder = FOLDER / "files"
    if not options.model:
        return [own_file(folder, options.shape, formats.get(name).name) for name in options.formats]
    path = folder / options.model.name
    if not path.exists() or not path.samefile(options.model):
        path.unlink(missing_ok=True)
        path.symlink_to(options.model.resolve())
    return [path]


if __name__ == "__main__":
    sys.exit(main())
