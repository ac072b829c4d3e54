"""What decoding a candidate costs: instructions counted in the WebAssembly module, and products timed."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[1] / "wasm_kernels" / "formats"
COMPILE = ("clang-19", "-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", f"-I{KERNELS}")
NATIVE = ("-msse4.1", "-shared", "-fPIC")
WASM = ("--target=wasm32", "-ffreestanding", "-msimd128", "-mrelaxed-simd", "-c")
LINK = ("wasm-ld-19", "--no-entry", "--export=products", "--export=__heap_base")
# in the order of the enumeration in kernels.c
KINDS = (
    "pi_t2",
    "pi_t3",
    "two_before",
    "two_mixed",
    "two_swapped",
    "two_16",
    "two_free",
    "three_planes",
    "three_mixed",
    "three_crossed",
    "three_free",
    "two_hash",
)
THREE_BITS = {"pi_t3", "three_planes", "three_mixed", "three_crossed", "three_free"}
COUNTED_STEPS = 8
ROWS, BLOCKS, REPEATS, ROUNDS = 64, 3, 60, 9
RELAXED = "--experimental-wasm-relaxed-simd"  # Node before 21
SIMD = re.compile(r"^ +[0-9a-f]+: (fd(?: [0-9a-f]{2})+)\s+(\S*)", re.MULTILINE)
RELAXED_SWIZZLE = "fd 80 02"  # a name that LLVM 19's disassembler doesn't know


@dataclass(frozen=True)
class Cost:
    """For 16 weights: vector instructions of decoding (without loads and stores), table lookups among them,
    and nanoseconds of a product in WebAssembly and natively."""

    instructions: float
    lookups: float
    wasm_ns: float
    native_ns: float


def block_bytes(kind: str) -> int:
    """Of the planes of 256 codes."""
    return 96 if kind in THREE_BITS else 64


def compiled(kind: str, folder: Path) -> tuple[Path, Path, Path]:
    """(object for counting, module, native library)."""
    source, number = HERE / "kernels.c", f"-DKIND={KINDS.index(kind)}"
    paths = tuple(folder / f"{kind}.{suffix}" for suffix in ("o", "wasm", "so"))
    subprocess.run([*COMPILE, *WASM, number, "-o", paths[0], source], check=True)
    subprocess.run([*LINK, "-o", paths[1], paths[0]], check=True)
    subprocess.run([*COMPILE, *NATIVE, number, "-o", paths[2], source], check=True)
    return paths[0], paths[1], paths[2]


def counted(path: Path) -> tuple[float, float]:
    """(instructions, lookups) for 16 weights in `decode_eight`."""
    command = ["llvm-objdump-19", "-d", "--disassemble-symbols=decode_eight", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    total = lookups = 0
    for code, name in SIMD.findall(text):
        lookup = code.startswith(RELAXED_SWIZZLE) or name.startswith("i8x16.swizzle")
        lookups += lookup
        total += lookup or not name.startswith(("v128.load", "v128.store", "v128.const"))
    return total / COUNTED_STEPS, lookups / COUNTED_STEPS


def _native(path: Path, kind: str) -> Callable[[], float]:
    """A round: nanoseconds for 16 weights."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("int32_t products(const void *, const void *, int32_t, int32_t, const void *);")
    library = ffi.dlopen(str(path))
    random = np.random.default_rng(1)
    tables = random.integers(0, 64, 128, np.uint8)
    data = random.integers(0, 256, ROWS * BLOCKS * block_bytes(kind), np.uint8)
    x = random.integers(0, 255, BLOCKS * 512, np.uint8)
    pointers = [ffi.from_buffer(a) for a in (tables, data, x)]

    def once() -> float:
        start = time.perf_counter()
        for _ in range(REPEATS):
            library.products(pointers[0], pointers[1], ROWS, BLOCKS, pointers[2])
        return (time.perf_counter() - start) * 1e9 * 16 / (REPEATS * ROWS * BLOCKS * 256)

    return once


def _in_node(modules: dict[Path, int], rounds: int) -> dict[Path, float]:
    """Nanoseconds for 16 weights, the fastest round."""
    spec = json.dumps({"kernels": {str(p): n for p, n in modules.items()}, "rounds": rounds})
    script = [str(HERE / "kernels.mjs"), spec]
    run: Any = None
    for options in ([], [RELAXED]):
        run = subprocess.run(["node", *options, *script], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return {Path(path): ns for path, ns in json.loads(run.stdout).items()}
    raise SystemExit(f"node can't run the kernels: {run.stderr.strip()}")


def costs(kinds: Iterable[str], folder: Path, rounds: int = ROUNDS) -> dict[str, Cost]:
    """Of every kind, in interleaved rounds, the fastest of each. `folder`: where compiled files go."""
    built = {kind: compiled(kind, folder) for kind in kinds}
    in_wasm = _in_node({paths[1]: block_bytes(kind) for kind, paths in built.items()}, rounds)
    native = {kind: _native(paths[2], kind) for kind, paths in built.items()}
    best = {kind: once() for kind, once in native.items()}
    for _ in range(rounds):
        best = {kind: min(best[kind], once()) for kind, once in native.items()}
    return {kind: Cost(*counted(paths[0]), in_wasm[paths[1]], best[kind]) for kind, paths in built.items()}
