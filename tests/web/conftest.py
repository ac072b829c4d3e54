"""What the tests of the scripts share: models in every format, the native core's results, Node, a page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web_formats import FORMATS, GREEDY_TOKENS

import ruvq
from browser import copy_scripts, page_at, serving
from stories import quantize_stories

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def site_folder(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files with models/FORMAT.gguf: stories260K in every format."""
    folder = copy_scripts(tmp_path_factory.mktemp("site"))
    (folder / "models").mkdir()
    for name in FORMATS:
        quantize_stories(data_dir, folder / "models" / f"{name}.gguf", name)
    return folder


@pytest.fixture(scope="session")
def models(site_folder: Path) -> Path:
    """Folder of FORMAT.gguf."""
    return site_folder / "models"


@pytest.fixture(scope="session")
def native_run(models: Path) -> Callable[[str], dict[str, Any]]:
    """native_run(format): text and hashes that the native core gives, greedily and without a prompt."""

    def run(name: str) -> dict[str, Any]:
        with ruvq.Model.open(models / f"{name}.gguf", kv="f32", hashes=True) as model:
            text = "".join(model.generate("", GREEDY_TOKENS, temperature=0))
            return {"text": text, "hashes": model.hashes()}

    return run


@pytest.fixture(scope="session")
def site(site_folder: Path) -> Iterator[str]:
    """The site's address, with cross-origin isolation."""
    with serving(site_folder) as url:
        yield url


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """An empty page of the site. `page.evaluate` may import "/ruvq.js"."""
    with page_at(browser, f"{site}/blank.html") as opened:
        yield opened


@pytest.fixture(scope="session")
def node() -> Callable[..., Any]:
    """node("script.mjs", *args): the JSON value that the script prints."""

    def run(script: str, *args: object) -> Any:
        command = ["node", str(HERE / script), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
