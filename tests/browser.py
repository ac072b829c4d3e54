"""What tests in pages share: Chromium, folders to serve, and the servers of attacks/, which may misbehave."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attacks.servers import serving

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build"))

from chromium import CHROMIUM_FLAGS, chromium_path  # noqa: E402

__all__ = ["ISOLATION", "ROOT", "chromium", "copy_scripts", "page_at", "serving"]

ISOLATION = ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy")


def copy_scripts(folder: Path) -> Path:
    """The page's scripts and modules, and an empty page, blank.html."""
    for item in (ROOT / "web").iterdir():
        if item.is_file():
            shutil.copyfile(item, folder / item.name)
    shutil.copyfile(ROOT / "tests" / "web" / "blank.html", folder / "blank.html")
    return folder


@contextmanager
def page_at(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page in a browser profile of its own. `options` of Playwright's new_context."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        page.goto(address)
        yield page
    finally:
        context.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """A running Chromium (a Playwright Browser). One at a time in a thread: see fixture `browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()
