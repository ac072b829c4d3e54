"""What every test can ask for: the folder of real data, the repository, Chromium; and how tests are shared
out among processes (`pytest -n 2`, by pytest-xdist): a file stays in one, some folders do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium

from alone import alone  # isort: skip

ROOT = Path(__file__).resolve().parent.parent
# folders whose files share what takes long to make, or a folder of out/ that they write
TOGETHER = ("bench", "formats", "pyodide", "site")


def group_of(test: str) -> str:
    """What runs in one process: of `tests/FOLDER/FILE.py::NAME` the file, or its folder."""
    file = test.split("::", 1)[0]
    folder = file.rpartition("/")[0]
    return folder if folder.rpartition("/")[2] in TOGETHER else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow begins, so that no process ends with it alone."""
    slow = {group_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: group_of(item.nodeid) not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Only with `-n`."""
    from xdist.scheduler import LoadFileScheduling

    class Groups(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def core_sources() -> list[str]:
    """Every C file of the core, as the native library is linked from them."""
    return sorted(str(path) for path in (ROOT / "wasm_kernels").glob("*/*.c"))


@pytest.fixture(scope="session")
def make() -> Callable[..., None]:
    """make("out/...", ...): builds files of out/ that `make wheel` does not, one process at a time."""

    def run(*targets: str) -> None:
        command = ["make", "-f", "build/core.mk", f"-j{os.cpu_count()}", *targets]
        with alone("make"):
            built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[-3000:]

    return run


@pytest.fixture(scope="session")
def mutating(make: Callable[..., None]) -> Path:
    """A program under sanitizers: `PROGRAM COUNT FILE...` reads each file, and COUNT mutations of each."""
    make("out/fuzz/mutate_file")
    return ROOT / "out" / "fuzz" / "mutate_file"


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
