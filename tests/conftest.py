"""What every test can ask for: the folder of real data, the repository, a seeded generator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def core_sources() -> list[str]:
    """Every C file of the core, as the native library is linked from them."""
    return sorted(str(path) for path in (ROOT / "wasm_kernels").glob("*/*.c"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real weights and texts (docs/data.md). In CI missing data is a failure, never a skip."""
    folder = Path(os.environ.get("RUVQ_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_absolute():
        folder = ROOT / folder
    if not (folder / "MANIFEST.json").is_file():
        message = f"no test data in {folder}: set RUVQ_DATA, or fetch it with `make data`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium (a Playwright Browser), one for all tests: Playwright can't be started twice in a thread."""
    with chromium() as running:
        yield running
