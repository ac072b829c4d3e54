"""How long a person waits: from opening the site's page to the first token, in Chromium.

    python build/first_token.py [--site out/site] [--rounds 5]

Each round is a new profile, so that nothing is cached. Prints one JSON line: seconds until the model is ready
and until the first token of a text that is begun at once; the median and the slowest of all rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
from pathlib import Path
from typing import Any

import site_folder
from chromium import CHROMIUM_FLAGS, chromium_path
from ruvq.cli.server import make_server

# in the page: begins to write in the moment in which the model is ready, and notes both moments
WATCH = """
window.moments = {};
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => {
    if (document.body.dataset.state !== "ready" || window.moments.ready) return;
    window.moments.ready = performance.now() / 1000;
    document.getElementById("run").click();
  }).observe(document.body, { attributeFilter: ["data-state"] });
  new MutationObserver(() => {
    if (!document.getElementById("output").lastChild?.textContent || !window.moments.ready) return;
    window.moments.token ??= performance.now() / 1000;
  }).observe(document.getElementById("output"), { childList: true, subtree: true });
});
"""


def measure(browser: Any, address: str) -> dict[str, float]:
    """One visit's moments, in seconds from the navigation's start."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        page.wait_for_function("window.moments.token", timeout=60_000)
        return page.evaluate("window.moments")
    finally:
        context.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", type=Path, default=site_folder.SITE)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    server = make_server(args.site, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_address[1]}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        rounds = [measure(browser, address) for _ in range(args.rounds)]
        browser.close()
    server.shutdown()
    result: dict[str, Any] = {"rounds": args.rounds}
    for name in ("ready", "token"):
        times = [moments[name] for moments in rounds]
        result[f"{name}_s"] = round(statistics.median(times), 3)
        result[f"{name}_s_slowest"] = round(max(times), 3)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
