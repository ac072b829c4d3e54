"""Threads change the time and nothing else: the same bits for any number, and no trace when they are gone."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engine import tiny
from engine.test_engine_determinism import FLUSH, GGML_FORMATS, OWN_FORMATS, mxcsr, write
from ruvq import Model
from ruvq.core import CONSTANTS, get
from ruvq.errors import DataError, UsageError
from ruvq.gguf import GGUFFile
from ruvq.runtime.engine import Engine
from ruvq.runtime.threads import Pool, choose, usable_cores

__all__ = ["mxcsr"]  # a fixture
TOKENS = np.random.default_rng(5).integers(0, 131, 75).tolist()
COUNTS = [2, 3, 4, 7]
PROMPT = 50  # tokens in batches; the others one at a time
HADAMARD = {
    "ruvq.hadamard.seed": (77, "u64"),
    "ruvq.hadamard.generator": ("splitmix64", "str"),
    "ruvq.hadamard.cut": ("greedy-256", "str"),
}


def run(path: Path, threads: int, **options: object) -> tuple[list[int], bytes]:
    """Hashes of a prompt and of tokens after it, every job split; the last logits."""
    with (
        GGUFFile.open(path) as file,
        Engine(file, hashes=True, threads=threads, split_all=True, **options) as engine,  # type: ignore[arg-type]
    ):
        assert engine.threads == threads
        engine.feed(TOKENS[:PROMPT])
        while engine.step():
            pass
        for token in TOKENS[PROMPT:]:
            engine.feed([token])
            engine.step()
        return engine.hashes(), engine.logits()


@pytest.mark.parametrize("kv", ["f16", "f32"])
@pytest.mark.parametrize("format", OWN_FORMATS + GGML_FORMATS)
def test_any_number_of_threads_gives_the_same_bits(format: str, kv: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", format)
    alone = run(path, 1, kv=kv)
    for threads in COUNTS:
        assert run(path, threads, kv=kv) == alone, threads


@pytest.mark.parametrize("scalar", [False, True])
def test_with_the_transform_biases_and_either_kernel(scalar: bool, tmp_path: Path) -> None:
    model = tiny.random_llama(biases=True, tied=False)
    changes = HADAMARD | {"ruvq.hadamard.tensors": (tiny.matrix_names(model)[::2], "arr")}
    path = tiny.write(tmp_path / "m.gguf", model, encoded=tiny.encode_all(model, "pi-t3"), changes=changes)
    alone = run(path, 1, scalar=scalar)
    assert all(run(path, threads, scalar=scalar) == alone for threads in COUNTS)


@pytest.mark.parametrize("kv_heads", [1, 6])
def test_fewer_heads_than_threads_and_more(kv_heads: int, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F32", kv_heads=kv_heads)
    alone = run(path, 1)
    assert all(run(path, threads, batch=batch) == alone for threads in COUNTS for batch in (1, 7))


def test_workers_take_their_share(tmp_path: Path) -> None:
    """The time that threads other than the caller's have computed."""
    model = tiny.random_llama(width=512, ff=1024, heads=8, kv_heads=8, layers=2, context=96)
    path = tiny.write(tmp_path / "m.gguf", model)
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("no /proc to read the threads' times from")
    with GGUFFile.open(path) as file:
        before = {t.name for t in tasks.iterdir()}
        with Engine(file, threads=3) as engine:
            new = [t for t in tasks.iterdir() if t.name not in before]
            assert len(new) == 2
            deadline = time.monotonic() + 30
            shares: list[int] = []
            while time.monotonic() < deadline and min(shares, default=0) < 3:
                engine.truncate(0)
                engine.feed(TOKENS)
                while engine.step():
                    pass
                # user time in ticks of 10 ms
                shares = [int((t / "stat").read_text().rpartition(")")[2].split()[11]) for t in new]
            assert min(shares) >= 3
        assert {t.name for t in tasks.iterdir()} == before


@pytest.mark.parametrize("threads", [2, 16])
def test_empty_jobs_are_counted_and_end_with_more_threads_than_cores(threads: int) -> None:
    core = get()
    pool = Pool(core, threads)
    while core.raw("rq_pool_workers", pool.address) < threads - 1:
        time.sleep(0.001)
    core.call("rq_pool_exercise", pool.address, 3000)
    assert core.raw("rq_pool_jobs", pool.address) == 3000
    pool.close()


def test_a_token_of_a_small_model_is_not_shared_out(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "pi-t3")
    for split_all in (False, True):
        with GGUFFile.open(path) as file, Engine(file, threads=2, split_all=split_all) as engine:
            assert engine._pool is not None
            while engine._core.raw("rq_pool_workers", engine._pool.address) < 1:
                time.sleep(0.001)
            engine.feed([1])
            engine.step()
            assert (engine._core.raw("rq_pool_jobs", engine._pool.address) > 0) == split_all


def test_damaged_weights_are_reported_as_with_one_thread(tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["blk.1.ffn_up.weight"][:] *= np.float32(3e38)
    path = tiny.write(tmp_path / "m.gguf", model)
    said = []
    for threads in (1, 3):
        with GGUFFile.open(path) as file, Engine(file, threads=threads, split_all=True) as engine:
            engine.feed(TOKENS[:20])
            with pytest.raises(DataError) as caught:
                engine.step()
            said.append(str(caught.value))
            assert engine.position == 0
    assert said[0] == said[1]


def test_open_and_close_leave_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "pi-t3")
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc to read sizes from")

    def cycle() -> None:
        with Model.open(path, threads=4) as model:
            model.score(TOKENS)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(3):
        cycle()
    threads, pages = len(os.listdir("/proc/self/task")), resident()
    for _ in range(20):
        cycle()
    assert len(os.listdir("/proc/self/task")) == threads
    assert resident() - pages < 256


def test_closing_wakes_workers_that_sleep(tmp_path: Path) -> None:
    core = get()
    pool = Pool(core, 4)
    deadline = time.monotonic() + 10
    while core.raw("rq_pool_workers", pool.address) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert core.raw("rq_pool_workers", pool.address) == 3
    time.sleep(0.05)  # long past looking around: they sleep
    pool.close()  # joins them
    pool.close()


def test_a_lost_model_takes_its_threads_along(tmp_path: Path) -> None:
    """Ends without close(), by an exception, and by a fork: no crash, no hang."""
    path = write(tmp_path / "m.gguf", "pi-t3")
    script = """
import os, sys
from ruvq import Model
lost = Model.open(sys.argv[1], threads=3); lost.score([1, 2, 3]); del lost
kept = Model.open(sys.argv[1], threads=3); first = kept.score([1, 2, 3])
child = os.fork()
if child == 0:
    kept.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert kept.score([1, 2, 3]) == first
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "pi-t3")
    for threads in (0, -1, CONSTANTS["RQ_MAX_THREADS"] + 1):
        with pytest.raises(UsageError, match="threads"):
            Model.open(path, threads=threads)
    with GGUFFile.open(path) as file, Engine(file, threads=2) as engine:
        pool = Pool(get(), 3)
        with pytest.raises(UsageError, match="at most 2"):
            engine._core.call("rq_model_use_pool", engine._memory.address, pool.address)
        pool.close()


def test_the_default_is_the_cores_that_may_be_used() -> None:
    assert 1 <= choose(None, "native") == min(usable_cores(), 8) <= (os.cpu_count() or 1)
    assert choose(None, "wasm") == choose(4, "wasm") == 1


def test_denormals_count_in_every_thread(mxcsr: ctypes.CDLL, tmp_path: Path) -> None:
    """Workers inherit the floating-point mode of whoever starts them, which may flush denormals."""
    model = tiny.random_llama()
    model.tensors["output_norm.weight"] *= np.float32(1e-38)
    model.tensors["blk.0.attn_v.weight"] *= np.float32(1e-39)
    path = tiny.write(tmp_path / "m.gguf", model)
    alone = run(path, 1, kv="f32")
    before = mxcsr.get_it() & 0xFFC0
    with GGUFFile.open(path) as file:
        mxcsr.set_it(before | FLUSH)
        try:
            engine = Engine(file, hashes=True, threads=4, split_all=True, kv="f32")
            while engine._core.raw("rq_pool_workers", engine._pool.address) < 3:
                time.sleep(0.001)
        finally:
            mxcsr.set_it(before)
        with engine:
            engine.feed(TOKENS[:PROMPT])
            while engine.step():
                pass
            for token in TOKENS[PROMPT:]:
                engine.feed([token])
                engine.step()
            assert (engine.hashes(), engine.logits()) == alone
