"""Builds of the core's sources for tests that need functions the library doesn't export, or damaged ones."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from pathlib import Path

import pytest

FLAGS = ["-std=c11", "-O1", "-ffreestanding", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared"]


@pytest.fixture(scope="session")
def compile_sources(repository: Path):
    """compile_sources(sources, output): a shared library with every function visible."""
    compiler = os.environ.get("CC", "clang-19")
    generated = repository / "out" / "generated"  # by `make native`
    if not generated.is_dir():
        pytest.fail("out/generated is missing: run `make native`")

    def build(sources: list[Path], output: Path) -> ctypes.CDLL:
        machine = ["-msse4.1"] if platform.machine() == "x86_64" else []
        subprocess.run([compiler, *FLAGS, f"-I{generated}", *machine, "-o", output, *sources], check=True)
        return ctypes.CDLL(str(output))

    return build
