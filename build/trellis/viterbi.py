"""Codes for blocks of weights: a trellis, and the exact search of the best way through it (viterbi.c)."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LANES = 16
ANY = -1  # in place of a state
COMPILE = (
    "clang-19",
    "-std=c11",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-Wno-psabi",
    "-shared",
    "-fPIC",
)
DECLARATIONS = """
typedef struct { int32_t states, ways; const int32_t *from; const float *table; } trellis;
typedef struct {
  int32_t count, group, options;
  const void *x, *scales;
  const int32_t *start, *end;
  void *cost, *way, *taken;
  int32_t *branch;
  uint8_t *option;
  float *total;
} job;
void search(const trellis *t, const job *b);
"""


@dataclass(frozen=True)
class Trellis:
    """`came` (states, 2^bits): the state that each branch into a state comes from; `values`, of the same
    shape, float32: what a branch stands for at scale 1."""

    bits: int
    came: np.ndarray
    values: np.ndarray

    @property
    def states(self) -> int:
        """How many."""
        return len(self.came)


@dataclass(frozen=True)
class Found:
    """Of (blocks, count) weights: decoded values, the branch taken at each (state * 2^bits + way), the option
    of each group (blocks, groups), and the cost (blocks) in f32."""

    decoded: np.ndarray
    branches: np.ndarray
    options: np.ndarray
    cost: np.ndarray


@cache
def _library() -> tuple[Any, Any]:
    """viterbi.c, compiled for this machine."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "viterbi.so"
        subprocess.run([*COMPILE, "-o", path, Path(__file__).with_name("viterbi.c")], check=True)
        return ffi, ffi.dlopen(str(path))


def _aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + size].view(dtype).reshape(shape)


def search(
    trellis: Trellis,
    x: np.ndarray,
    scales: np.ndarray,
    group: int,
    start: int | np.ndarray = 0,
    end: int | np.ndarray = ANY,
) -> Found:
    """Least squared error for x (blocks, count), float32; `scales` (blocks, options): each group of `group`
    weights takes one of its block's. `start`, `end`: the state before the first weight and after the last,
    ANY for the best; one for all or one for each block."""
    ffi, library = _library()
    blocks, count = x.shape
    options, groups = scales.shape[1], -(-count // group)
    ways, states = 1 << trellis.bits, trellis.states
    came = np.ascontiguousarray(trellis.came, np.int32)
    values = np.ascontiguousarray(trellis.values, np.float32)
    c_trellis = ffi.new("trellis *")
    c_trellis.states, c_trellis.ways = states, ways
    setattr(c_trellis, "from", ffi.cast("const int32_t *", came.ctypes.data))
    c_trellis.table = ffi.cast("const float *", values.ctypes.data)

    padded = -(-blocks // LANES) * LANES
    ends = [np.resize(np.broadcast_to(np.asarray(e, np.int32), (blocks,)), padded) for e in (start, end)]
    spread = np.resize(np.arange(blocks), padded)  # the last sixteen are filled up with the first blocks
    arrays = {
        "x": _aligned((count, LANES), np.float32),
        "scales": _aligned((options, LANES), np.float32),
        "start": _aligned((LANES,), np.int32),
        "end": _aligned((LANES,), np.int32),
        "cost": _aligned((2, options, states, LANES), np.float32),
        "way": _aligned((count, options, states, LANES), np.uint8),
        "taken": _aligned((groups, states, LANES), np.uint8),
        "branch": _aligned((count, LANES), np.int32),
        "option": _aligned((groups, LANES), np.uint8),
        "total": _aligned((LANES,), np.float32),
    }
    job = ffi.new("job *")
    job.count, job.group, job.options = count, group, options
    for name, array in arrays.items():
        setattr(job, name, ffi.cast(ffi.typeof(getattr(job, name)), array.ctypes.data))
    branches = np.empty((padded, count), np.int32)
    chosen = np.empty((padded, groups), np.uint8)
    cost = np.empty(padded, np.float32)
    for at in range(0, padded, LANES):
        part = spread[at : at + LANES]
        arrays["x"][:] = x[part].T
        arrays["scales"][:] = scales[part].T
        arrays["start"][:], arrays["end"][:] = (e[at : at + LANES] for e in ends)
        library.search(c_trellis, job)
        branches[at : at + LANES] = arrays["branch"].T
        chosen[at : at + LANES] = arrays["option"].T
        cost[at : at + LANES] = arrays["total"]
    branches, chosen, cost = branches[:blocks], chosen[:blocks], cost[:blocks]
    d = np.take_along_axis(np.ascontiguousarray(scales, np.float32), chosen.astype(np.int64), 1)
    decoded = values.ravel()[branches] * np.repeat(d, group, axis=1)[:, :count]
    return Found(decoded, branches, chosen, cost)


def search_tail_biting(
    trellis: Trellis, x: np.ndarray, scales: np.ndarray, group: int, exact: int = 16
) -> Found:
    """As `search`, the state before the first weight being the one after the last. Exact for at most `exact`
    states: every one is tried. For more, the state at the seam of the block turned round by half is taken."""
    if trellis.states <= exact:
        best = search(trellis, x, scales, group, 0, 0)
        for state in range(1, trellis.states):
            best = _nearer(best, search(trellis, x, scales, group, state, state))
        return best
    half = x.shape[1] // 2 // group * group
    turned = search(trellis, np.ascontiguousarray(np.roll(x, half, 1)), scales, group, ANY, ANY)
    seam = trellis.came.ravel()[turned.branches[:, half]]
    return search(trellis, x, scales, group, seam, seam)


def _nearer(a: Found, b: Found) -> Found:
    """Block by block the cheaper one."""
    better = b.cost < a.cost
    row = better[:, None]
    return Found(
        np.where(row, b.decoded, a.decoded),
        np.where(row, b.branches, a.branches),
        np.where(row, b.options, a.options),
        np.where(better, b.cost, a.cost),
    )
