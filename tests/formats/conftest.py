"""Builds of the core's sources for tests that need functions the library doesn't export, or damaged ones."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from pathlib import Path

import pytest

from formats import kernels

FLAGS = ["-std=c11", "-O1", "-ffreestanding", "-ffp-contract=off", "-fno-math-errno", "-fPIC"]


@pytest.fixture(scope="session")
def compiler(repository: Path) -> list[str]:
    """The command that compiles sources of the core, without what it is to make of them."""
    compiler = os.environ.get("CC", "clang-19")
    generated = repository / "out" / "generated"  # by `make native`
    if not generated.is_dir():
        pytest.fail("out/generated is missing: run `make native`")

    machine = ["-msse4.1"] if platform.machine() == "x86_64" else []
    return [compiler, *FLAGS, f"-I{generated}", *machine]


@pytest.fixture(scope="session")
def kernel_objects(repository: Path, compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those compiled: NAME.o, and NAME.d, which names the files that it was made from."""
    folder = tmp_path_factory.mktemp("objects")
    sources = kernels.sources(repository / "wasm_kernels")
    subprocess.run([*compiler, "-c", "-MMD", *sources], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def compile_sources(compiler: list[str]):
    """compile_sources(sources, output): a shared library with every function visible. Objects are linked."""

    def build(sources: list[Path], output: Path) -> ctypes.CDLL:
        subprocess.run([*compiler, "-shared", "-o", output, *sources], check=True)
        return ctypes.CDLL(str(output))

    return build
