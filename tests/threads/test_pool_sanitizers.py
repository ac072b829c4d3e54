"""The pool under sanitizers: no race, no access outside, every unit done once, more threads than cores."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PARTS = ("threads/pool.c", "hosts/native_threads.c", "base/base.c")


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_jobs_sleep_and_restart_cleanly(sanitizer: str, repository: Path, tmp_path: Path) -> None:
    program = tmp_path / "pool_stress"
    sources = [repository / "tests/threads/pool_stress.c", *(repository / "wasm_kernels" / p for p in PARTS)]
    flags = [
        "-std=c11",
        "-O1",
        "-g",
        "-D_DEFAULT_SOURCE",
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=all",
    ]
    compiler = os.environ.get("RUVQ_SANITIZER_CC", "clang-19")
    build = subprocess.run(
        [compiler, *flags, *map(str, sources), "-lpthread", "-o", str(program)],
        capture_output=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr.decode()
    run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr[-3000:]
