"""Every example runs as it stands, on a small model, and writes what native writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ruvq
from browser import page_at, serving
from stories import quantize_stories

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(ROOT / "build"))
WAIT_MS = 180_000


@pytest.fixture(scope="module")
def model(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize_stories(data_dir, tmp_path_factory.mktemp("model") / "model.gguf", "pi-t3")


@pytest.fixture(scope="module")
def story(model: Path) -> str:
    """What every example writes."""
    with ruvq.Model.open(model) as opened:
        return "Once upon a time" + "".join(opened.generate("Once upon a time", max_tokens=60, seed=1))


@pytest.fixture(scope="module")
def site(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    import examples

    folder = tmp_path_factory.mktemp("examples")
    examples.assemble(folder, model)
    with serving(folder) as address:
        yield address, folder


@pytest.fixture
def page(browser: Any, site: tuple[str, Path]) -> Iterator[Any]:
    """A page in which micropip finds ruvq's wheels in the site's own index."""
    address, folder = site
    names = sorted(wheel.name for wheel in (folder / "pyodide" / "wheels").glob("ruvq-*.whl"))
    links = (f'<a href="{address}/pyodide/wheels/{name}">{name}</a>' for name in names)
    index = "<!doctype html>" + "\n".join(links)
    headers = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
    with page_at(browser, "about:blank") as opened:
        opened.route(
            "**/simple/ruvq/**",
            lambda route: route.fulfill(body=index, content_type="text/html", headers=headers),
        )
        opened.set_default_timeout(WAIT_MS)
        yield opened


def test_the_python_script(data_dir: Path, story: str) -> None:
    folder = data_dir / "stories260K"
    words = [sys.executable, str(EXAMPLES / "story.py"), folder / "stories260K.bin", folder / "tok512.bin"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "Once upon a time" + done.stdout.rstrip("\n") == story.rstrip("\n")
    assert "bits per weight" in done.stderr


def test_the_plain_page(page: Any, site: tuple[str, Path], story: str) -> None:
    assert len((EXAMPLES / "page.html").read_text().splitlines()) <= 21
    page.goto(f"{site[0]}/page.html")
    page.wait_for_function("document.title === 'length'")
    assert page.text_content("#text") == story


@pytest.mark.slow
def test_the_pyscript_page(page: Any, site: tuple[str, Path], story: str) -> None:
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.goto(f"{site[0]}/pyscript.html")
    page.wait_for_function("document.title === 'done' || document.querySelector('.py-error')")
    assert page.title() == "done", problems
    assert page.text_content("#text") == story


@pytest.mark.slow
def test_the_notebook(page: Any, site: tuple[str, Path], story: str) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    page.goto(f"{site[0]}/page.html")
    printed = page.evaluate(
        """async (cells) => {
          const folder = new URL("./pyodide/314.0.7/", location.href).href;
          const { loadPyodide } = await import(folder + "pyodide.mjs");
          const out = [];
          const pyodide = await loadPyodide({ indexURL: folder, packageBaseUrl: folder,
            lockFileURL: folder + "pyodide-lock.json", stdout: (line) => out.push(line) });
          await pyodide.loadPackage("micropip", { messageCallback: () => {} });
          for (const cell of cells) await pyodide.runPythonAsync(cell);
          return out.join("\\n");
        }""",
        cells,
    )
    assert printed.startswith(story)
    assert "bits per weight" in printed
