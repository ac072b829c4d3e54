"""Real Pyodides in a real Chromium: one site with both, served as a page would get them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import lora
from browser import serving
from engine import tiny
from stories import quantize_stories

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "build"))

VERSIONS = ("314.0.7", "0.29.5")
PLACES = ("page", "worker")
STORIES_FORMATS = ("f32", "f16", "pi-q3", "pi-q2", "pi-t3", "pi-t2", "ternary", "pi-ternary")

WHEELS = {"simple": "heap", "pure": "wasm"}  # index: the back end of the wheel that micropip takes from it

RunPython = Callable[..., Any]


@pytest.fixture(scope="session")
def stories_models(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """stories260K in every format: format → file."""
    folder = tmp_path_factory.mktemp("stories")
    return {name: quantize_stories(data_dir, folder / f"{name}.gguf", name) for name in STORIES_FORMATS}


@pytest.fixture(scope="session")
def stories_adapter(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA adapter for stories260K."""
    pairs = lora.random_pairs(tiny.stories260k(data_dir), 6)
    return lora.write(tmp_path_factory.mktemp("adapter") / "adapter.gguf", pairs)


@pytest.fixture(scope="session")
def pyodide_site(stories_models: dict[str, Path], stories_adapter: Path) -> Iterator[str]:
    """The address of a site with both Pyodides, the wheel's index and the models."""
    import pyodide_dist

    folder = ROOT / "out" / "test-pyodide"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pyodide_dist.assemble_links(folder / "pyodide")
    for name in ("program.html", "program.mjs"):
        shutil.copy(HERE / name, folder / name)
    (folder / "models").mkdir()
    for name, path in stories_models.items():
        shutil.copy(path, folder / "models" / f"{name}.gguf")
    shutil.copy(stories_adapter, folder / "models" / "adapter.gguf")
    (folder / "models" / "page.gguf").write_text("<!DOCTYPE html><html><body>404</body></html>")
    with serving(folder) as address:
        yield address


@pytest.fixture(scope="session")
def run_python(browser: Any, pyodide_site: str) -> RunPython:
    """run_python(where, version, program, wheels="simple"): the JSON value that the program ends with."""
    pages: dict[tuple[str, str], Any] = {}

    def run(where: str, version: str, program: str, wheels: str = "simple") -> Any:
        key = (version, wheels)
        if key not in pages:  # one page for each: a booted Pyodide serves many tests
            pages[key] = browser.new_page()
            pages[key].set_default_timeout(0)
            pages[key].goto(f"{pyodide_site}/program.html")
            pages[key].wait_for_function("window.runPython !== undefined", timeout=30_000)
        call = "(given) => runPython(...given)"
        return json.loads(pages[key].evaluate(call, [where, version, program, wheels]))

    return run
