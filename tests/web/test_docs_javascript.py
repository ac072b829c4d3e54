"""Every example of docs/javascript.md that is marked `js` runs as it stands; the one for Node in Node."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import lora
from browser import ROOT, serving
from engine import tiny

PAGE = (ROOT / "docs" / "javascript.md").read_text()
EXAMPLES = re.findall(r"^```js\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
IN_PAGE = [example for example in EXAMPLES if "node:" not in example]
IN_NODE = [example for example in EXAMPLES if "node:" in example]


@pytest.fixture(scope="module")
def folder(site_folder: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts with a model.gguf beside them."""
    out = tmp_path_factory.mktemp("docs")
    for path in site_folder.iterdir():
        if path.suffix in (".js", ".wasm", ".html"):
            shutil.copyfile(path, out / path.name)
    shutil.copyfile(site_folder / "models" / "pi-t3.gguf", out / "model.gguf")
    lora.write(out / "adapter.gguf", lora.random_pairs(tiny.stories260k(data_dir), 4))
    return out


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder) as url:
        yield url


def test_there_are_examples() -> None:
    assert len(IN_PAGE) >= 5
    assert len(IN_NODE) == 1


@pytest.mark.parametrize("number", range(len(IN_PAGE)))
def test_an_example_runs_in_a_page(browser: Any, folder: Path, address: str, number: int) -> None:
    script = f"const output = document.body;\n{IN_PAGE[number]}\nconsole.log('the end');\n"
    (folder / f"example{number}.js").write_text(script)
    page = (
        f'<!doctype html><title>example</title><body><script type="module" src="example{number}.js"></script>'
    )
    (folder / f"example{number}.html").write_text(page)
    context = browser.new_context()
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    with opened.expect_console_message(
        lambda message: message.text == "the end" or bool(errors), timeout=60_000
    ):
        opened.goto(f"{address}/example{number}.html")
    context.close()
    assert errors == []


def test_the_example_for_node_runs_in_node(folder: Path) -> None:
    project = folder / "node"
    project.mkdir()
    (project / "package.json").write_text('{"type": "module"}')
    (project / "web").mkdir()
    for path in folder.iterdir():
        if path.suffix in (".js", ".wasm"):
            shutil.copyfile(path, project / "web" / path.name)
    shutil.copyfile(folder / "model.gguf", project / "model.gguf")
    (project / "example.js").write_text(IN_NODE[0])
    done = subprocess.run(["node", "example.js"], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 50
