"""Screenshots of every view of the site, at phone and desktop width, for the README: `make shots`.

    python build/site_shots.py [--site out/site] [--to docs/img] [--only VIEW ...] [--dark]

Every view is used first: a text written, a model quantized, the formats measured, a program run. Fails when
all pictures together are over their budget.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

import site_folder
from chromium import CHROMIUM_FLAGS, chromium_path
from ruvq.cli.server import make_server

IMAGES = site_folder.ROOT / "docs" / "img"
WIDTHS = {"desktop": (1280, 800), "phone": (360, 740)}
BUDGET = 2_000_000  # bytes of all pictures
SLOW_MS = 180_000  # Python's start on a busy machine


def write(page: Any) -> None:
    page.fill("#seed", "1")
    page.click("#run")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')")


def quantize(page: Any) -> None:
    page.click("#quantize-run")
    page.wait_for_function("document.querySelectorAll('#results tr').length === 2", timeout=SLOW_MS)


def benchmark(page: Any) -> None:
    page.select_option("#bench-size", "128")
    page.click("#bench-run")
    page.wait_for_function(
        "document.getElementById('bench-status').textContent.startsWith('Done')", timeout=SLOW_MS
    )


def python(page: Any) -> None:
    page.select_option("#example", label="Quantize a matrix")
    page.click("#cell-run")
    page.wait_for_function("document.getElementById('cell-status').textContent === 'Done'", timeout=SLOW_MS)


VIEWS = {
    "write": write,
    "chat": lambda page: page.wait_for_selector("#chat-none, #chat-talk"),
    "models": lambda page: page.wait_for_selector("#device dd"),
    "quantize": quantize,
    "benchmark": benchmark,
    "python": python,
}


def shoot(page: Any, view: str, folder: Path, suffix: str = "") -> list[Path]:
    """Uses a view and takes its pictures."""
    page.goto(page.url.split("#")[0] + f"#{view}")
    page.wait_for_selector(f"#view-{view}:not([hidden])")
    VIEWS[view](page)
    made = []
    for width, (across, down) in WIDTHS.items():
        page.set_viewport_size({"width": across, "height": down})
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        path = folder / f"{view}-{width}{suffix}.png"
        page.screenshot(path=path, full_page=width == "desktop")
        made.append(path)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", type=Path, default=site_folder.SITE)
    parser.add_argument("--to", type=Path, default=IMAGES)
    parser.add_argument("--only", nargs="*", choices=list(VIEWS), default=list(VIEWS))
    parser.add_argument("--dark", action="store_true", help="the dark theme, into files of their own")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    args.to.mkdir(parents=True, exist_ok=True)
    server = make_server(args.site, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        context = browser.new_context(color_scheme="dark" if args.dark else "light", reduced_motion="reduce")
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_address[1]}/")
        page.wait_for_function("document.body.dataset.state === 'ready'")
        for view in args.only:
            made += shoot(page, view, args.to, "-dark" if args.dark else "")
        browser.close()
    server.shutdown()
    total = sum(path.stat().st_size for path in args.to.glob("*.png"))
    for path in made:
        print(f"{path.name}  {path.stat().st_size:,} bytes")
    if total > BUDGET:
        print(f"the pictures are over their budget: {total:,} bytes of {BUDGET:,}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
