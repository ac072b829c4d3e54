"""Chromium on the benchmark's page: cross-origin isolated, everything from a local server."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "py")]

from chromium import CHROMIUM_FLAGS, chromium_path  # noqa: E402
from ruvq.cli.server import make_server  # noqa: E402


@contextmanager
def browser_page(folder: Path, flags: Sequence[str] = ()) -> Iterator[tuple[Any, str]]:
    """Serves the folder above `folder`, scripts copied to it; gives the page and the browser's version."""
    from playwright.sync_api import sync_playwright

    for item in (ROOT / "web").iterdir():
        if item.is_file():
            shutil.copy(item, folder.parent / item.name)
    server = make_server(folder.parent, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium_path(), args=[*CHROMIUM_FLAGS, *flags]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/bench.html")
            page.wait_for_function("window.runTask !== undefined")
            page.set_default_timeout(0)
            yield page, browser.version
            browser.close()
    finally:
        server.shutdown()


def in_browser(page: Any, task: str, **spec: Any) -> Any:
    """One task of bench-worker.js in a fresh worker, or of bench-peers.js."""
    return page.evaluate("([task, spec]) => runTask(task, spec)", [task, spec])
