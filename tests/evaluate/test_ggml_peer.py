"""The way to ggml's own quantizers: what goes there, what comes back, what is said where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ruvq.errors import MissingDependencyError, UsageError
from ruvq.evaluate import ggml_peer

STUB = Path(__file__).with_name("stub_ggml.c")


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package llama_cpp whose library is the stub, found by this Python."""
    library = tmp_path / "llama_cpp" / "lib"
    library.mkdir(parents=True)
    (library.parent / "__init__.py").write_text("")
    compiler = shutil.which("cc") or shutil.which("clang-19")
    assert compiler, "no C compiler"
    target = library / "libggml-base.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", target, STUB], check=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RUVQ_LLAMA_PYTHON", sys.executable)
    return target


def values(rows: int = 3, width: int = 64) -> np.ndarray:
    return (np.arange(rows * width).reshape(rows, width) % 100 - 50).astype(np.float32)


@pytest.mark.usefixtures("stub")
def test_floats_go_there_and_bytes_come_back() -> None:
    assert np.array_equal(ggml_peer.quantize(values(), "q8_0"), values())


@pytest.mark.usefixtures("stub")
def test_importance_goes_along_for_all_rows_or_for_each() -> None:
    columns = np.arange(64, dtype=np.float32) % 2
    assert np.array_equal(ggml_peer.quantize(values(), "q8_0", columns), values() * columns)
    each = np.stack([columns, 1 - columns, np.ones(64, np.float32)])
    assert np.array_equal(ggml_peer.quantize(values(), "q8_0", each), values() * each)


@pytest.mark.usefixtures("stub")
def test_a_type_that_the_library_doesn_t_take_is_an_error() -> None:
    with pytest.raises(MissingDependencyError, match="gave 0 bytes"):
        ggml_peer.quantize(values(), "q4_0")


def test_formats_that_aren_t_ggml_s_are_refused() -> None:
    with pytest.raises(UsageError, match="not a format of ggml's"):
        ggml_peer.quantize(values(), "pi-t3")


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUVQ_LLAMA_PYTHON", "/nowhere/python")
    assert not ggml_peer.available()
    with pytest.raises(MissingDependencyError, match="RUVQ_LLAMA_PYTHON"):
        ggml_peer.quantize(values(), "q8_0")


def test_a_python_without_the_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv("RUVQ_LLAMA_PYTHON", str(bare))
    assert not ggml_peer.available()
    with pytest.raises(MissingDependencyError, match="isn't installed"):
        ggml_peer.quantize(values(), "q8_0")
