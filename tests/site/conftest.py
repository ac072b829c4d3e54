"""The whole site, assembled as `make site` does, in a Chromium that lets no request leave it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ruvq
from browser import ROOT, serving

sys.path.insert(0, str(ROOT / "build"))

FOREIGN = re.compile(r"^(?!http://127\.0\.0\.1:)(https?|wss?)://")
READY_MS = 60_000
PYTHON_MS = 240_000  # Pyodide's start on a busy machine


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
    target = tmp_path_factory.mktemp("disk") / "small.gguf"
    source = data_dir / "stories260K"
    ruvq.quantize_model(
        source / "stories260K.bin", target, "pi-q3", tokenizer=source / "tok512.bin", progress=False
    )
    return target


@contextmanager
def watched(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page of the site with the network off: at the end nothing may have been asked of another server, and
    no error logged."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.problems = []
    context.route(FOREIGN, lambda route: route.abort())
    context.on("request", lambda request: _note_foreign(page.problems, request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.goto(address)
    await_state(page, "ready")
    try:
        yield page
        assert page.problems == []
    finally:
        context.close()


def _note_foreign(problems: list[str], address: str) -> None:
    if FOREIGN.match(address):
        problems.append(f"asked another server: {address}")


def await_state(page: Any, state: str, timeout: int = READY_MS) -> None:
    """Waits for the page's state."""
    page.wait_for_function("(s) => document.body.dataset.state === s", arg=state, timeout=timeout)


def await_text(page: Any, selector: str, start: str, timeout: int = READY_MS) -> None:
    """Waits until an element's text begins so."""
    page.wait_for_function(
        "([s, start]) => document.querySelector(s).textContent.startsWith(start)",
        arg=[selector, start],
        timeout=timeout,
    )


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
