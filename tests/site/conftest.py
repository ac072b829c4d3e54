"""The whole site, assembled as `make site` does, in a Chromium that lets no request leave it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from site_page import watched, watched_in_firefox

import ruvq
from browser import ROOT, serving
from stories import quantize_stories

sys.path.insert(0, str(ROOT / "build"))


@pytest.fixture(scope="session")
def site_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's folder."""
    import site_folder

    folder = tmp_path_factory.mktemp("site")
    site_folder.assemble(
        folder, site_folder.quantize_models(site_folder.SOURCE, None, ROOT / "out" / "models")
    )
    return folder


@pytest.fixture(scope="session")
def site(site_path: Path) -> Iterator[str]:
    """The site's address, with cross-origin isolation."""
    with serving(site_path) as url:
        yield url


@pytest.fixture(scope="session")
def small_model(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stories260K in pi-q3: a file that a person might have on the disk."""
    return quantize_stories(data_dir, tmp_path_factory.mktemp("disk") / "small.gguf", "pi-q3")


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """A fresh page with its first model ready."""
    with watched(browser, f"{site}/", viewport={"width": 1280, "height": 800}) as opened:
        yield opened


@pytest.fixture(scope="module")
def lasting(browser: Any, site: str) -> Iterator[Any]:
    """One page for a module's tests: for those that need a Pyodide that has started."""
    with watched(browser, f"{site}/", viewport={"width": 1280, "height": 800}) as opened:
        yield opened


@pytest.fixture(params=["chromium", pytest.param("firefox", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, site: str) -> Iterator[Any]:
    """A fresh page in each of the two browsers, with the methods that both have (firefox.py)."""
    if request.param == "firefox":
        with watched_in_firefox(f"{site}/") as opened:
            yield opened
    else:
        browser = request.getfixturevalue("browser")
        with watched(browser, f"{site}/", viewport={"width": 1280, "height": 800}) as opened:
            yield opened


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story model in pi-q3, given a chat template that it was not trained for."""
    folder = tmp_path_factory.mktemp("chat")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    (folder / "template.jinja").write_text(template)
    model = folder / "talking.gguf"
    chat_template = str(folder / "template.jinja")
    ruvq.quantize_model(ROOT / "web" / "model", model, "pi-q3", chat_template=chat_template, progress=False)
    return model
