"""What `make demo` runs after the build: assembles the site (site_folder.py) and serves it.

    python build/demo.py                 prints the page's address and serves until Ctrl-C
    HEADLESS=1 python build/demo.py      drives the page in Chromium with both hosts instead, and ends with
                                         one JSON line: text, tokens_per_second, format, bits_per_weight

Quick when nothing has changed: a model is quantized again only when its source, the quantizer or the core
is newer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import site_folder
from chromium import CHROMIUM_FLAGS, chromium_path
from ruvq.cli.server import make_server
from ruvq.errors import RuvqError

HOSTS = ("javascript", "pyodide")
PROMPT = "Once upon a time"
TOKENS = 200
SEED = 1
BOOT_SECONDS = 180  # Pyodide on a slow machine
WRITE_SECONDS = 120


def log(text: str) -> None:
    """Messages go to standard error: the last line of standard output is the result."""
    print(text, file=sys.stderr, flush=True)


# ---- driving the page ----


def run_host(page: Any, host: str) -> dict[str, Any]:
    """Lets one host write on the open page; its text and figures. Raises SystemExit with the page's error."""
    log(f"running the page's {host} host")
    page.check(f"input[name=host][value={host}]")
    await_state(page, "ready", BOOT_SECONDS)
    page.fill("#prompt", PROMPT)
    page.fill("#max-tokens", str(TOKENS))
    page.fill("#seed", str(SEED))
    page.click("#run")
    await_state(page, "ready", WRITE_SECONDS)
    text = page.evaluate("document.getElementById('output').lastChild.textContent")
    speed = float(page.inner_text("#stat-speed"))
    if not text.strip() or speed <= 0:
        raise SystemExit(f"the {host} host wrote nothing")
    return {"text": PROMPT + text, "tokens_per_second": speed}


def await_state(page: Any, state: str, seconds: float) -> None:
    """Waits until the page is in that state and shows no error."""
    expression = "(s) => document.body.dataset.state === s || !document.getElementById('error').hidden"
    page.wait_for_function(expression, arg=state, timeout=seconds * 1000)
    if page.is_visible("#error"):
        raise SystemExit(f"the page shows an error:\n{page.inner_text('#error')}")


def drive(url: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Runs both hosts on the page's default model; what HEADLESS=1 prints."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        try:
            page = browser.new_page()
            page.goto(url)
            await_state(page, "ready", WRITE_SECONDS)
            runs = {host: run_host(page, host) for host in HOSTS}
        finally:
            browser.close()
    texts = {run["text"] for run in runs.values()}
    if len(texts) != 1:
        raise SystemExit(f"the hosts wrote different texts from the same seed: {sorted(texts)}")
    return {
        "text": texts.pop(),
        "tokens_per_second": {host: run["tokens_per_second"] for host, run in runs.items()},
        "format": entry["format"],
        "bits_per_weight": entry["bits_per_weight"],
        "bits_per_weight_actual": entry["bits_per_weight_actual"],
        "model": entry["file"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", type=Path, default=site_folder.SOURCE, help="float model to quantize (default web/model)"
    )
    parser.add_argument("--tokenizer", type=Path, help="its tokenizer, when not beside it")
    parser.add_argument(
        "--models", type=Path, default=site_folder.ROOT / "out" / "models", help="folder for the GGUF files"
    )
    parser.add_argument("--site", type=Path, default=site_folder.SITE, help="folder to serve")
    parser.add_argument("--port", type=int, default=8000, help="the next free one is taken when it is in use")
    args = parser.parse_args()
    headless = os.environ.get("HEADLESS", "") not in ("", "0")
    try:
        models = site_folder.quantize_models(args.source, args.tokenizer, args.models)
        entries = site_folder.assemble(args.site, models)
    except RuvqError as error:
        raise SystemExit(str(error)) from error
    server = make_server(args.site, port=0 if headless else args.port)
    url = f"http://localhost:{server.server_address[1]}/"
    if headless:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = drive(url, entries[0])
        server.shutdown()
        print(json.dumps(result), flush=True)
        return 0
    print(f"Open {url} (Ctrl-C stops)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        log("")
    return 0


if __name__ == "__main__":
    sys.exit(main())
