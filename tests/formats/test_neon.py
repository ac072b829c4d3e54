"""The NEON kernels give the bits of the contract, with and without dot products, on an emulated processor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FLAGS = ("-std=c11", "-O2", "-ffreestanding", "-ffp-contract=off", "-fno-math-errno", "-nostdlib", "-static")


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["armv8-a", "armv8.2-a+dotprod"])
def test_neon_kernels_pass_the_self_test(repository: Path, tmp_path: Path, processor: str) -> None:
    kernels = repository / "wasm_kernels"
    sources = [*sorted((kernels / "formats").glob("*.c")), *sorted((kernels / "base").glob("*.c"))]
    program = tmp_path / "self_test"
    target = ("--target=aarch64-linux-gnu", f"-march={processor}", f"--ld-path={shutil.which('ld.lld-19')}")
    main = repository / "tests" / "formats" / "self_test_main.c"
    include = f"-I{repository / 'out' / 'generated'}"
    subprocess.run(["clang-19", *target, *FLAGS, include, "-o", program, main, *sources], check=True)
    run = subprocess.run(["qemu-aarch64", "-cpu", "max", program], check=False)
    assert run.returncode == 0
