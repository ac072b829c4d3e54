"""Chromium for tests, and the servers of attacks/, which misbehave on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attacks.servers import serving

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build"))

from chromium import CHROMIUM_FLAGS, chromium_path  # noqa: E402

__all__ = ["ISOLATION", "ROOT", "chromium", "serving"]

ISOLATION = ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy")


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
