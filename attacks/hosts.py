"""Runs the corpus on every host: native and Node as processes, a page in Chromium, Pyodide in Node."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacks.case import SOURCES
from ruvq import errors
from ruvq.cli.server import make_server

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "attacks"  # below what the page's server serves

Answer = dict[str, Any]  # {"results": [...], "memoryBytes": n}; see answer.py and examine.js


def native(folder: Path = FOLDER) -> Answer:
    return _last_line([sys.executable, "-m", "attacks.answer", str(folder)])


def node(folder: Path = FOLDER) -> Answer:
    return _last_line(["node", str(ROOT / "attacks" / "node.mjs"), str(folder)])


def pyodide(folder: Path = FOLDER, package: str = "pyodide") -> Answer:
    wheels = sorted((ROOT / "out" / "wheels").glob("ruvq-*-py3-none-any.whl"))
    if not wheels:
        raise SystemExit("no pure wheel in out/wheels: run `make wheel`")
    script = str(ROOT / "attacks" / "pyodide.mjs")
    return _last_line(["node", script, str(folder.resolve()), str(wheels[-1]), package])


def page(folder: Path = FOLDER) -> Answer:
    """In a Chromium of its own."""
    sys.path.insert(0, str(ROOT / "build"))
    from playwright.sync_api import sync_playwright

    from chromium import CHROMIUM_FLAGS, chromium_path

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        try:
            return in_page(browser, folder)
        finally:
            browser.close()


def in_page(browser: Any, folder: Path = FOLDER) -> Answer:
    """In a page of `browser` (a Playwright Browser), with the repository served to it."""
    server = make_server(ROOT, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opened = browser.new_page()
    try:
        opened.set_default_timeout(300_000)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        opened.goto(f"{address}/tests/web/blank.html")
        run = 'async (folder) => (await import("/attacks/page.js")).run(folder)'
        answer: Answer = opened.evaluate(run, f"/{folder.relative_to(ROOT)}/")
        answer["workers"] = len(opened.workers)
        return answer
    finally:
        opened.close()
        server.shutdown()


def _last_line(command: list[str]) -> Answer:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-3000:]}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


READERS = {"native": SOURCES, "Pyodide": ("safetensors",)}  # JavaScript has none
HOSTS: dict[str, Callable[[], Answer]] = {"native": native, "Node": node, "page": page, "Pyodide": pyodide}


def wrong(result: dict[str, Any], host: str) -> str:
    """What is wrong with a host's answer to one file, or ""."""
    code, found = result["code"], result["found"]
    if result["stage"] in SOURCES and result["stage"] not in READERS.get(host, ()):
        # the host has no reader for these: whatever they hold, they are no model
        return "" if found in ("RQ_E_MAGIC", "RQ_E_TRUNCATED") else f"{result['file']}: {found}"
    if code is None:
        return "" if found is None else f"{result['file']}: refused, {found}: {result['message']}"
    if found != code or not result["typed"]:
        return f"{result['file']}: expected {code}, found {found}: {result.get('message', 'accepted')}"
    if code and result["name"] != errors.for_code(code).__name__:
        return f"{result['file']}: {result['name']} for {code}"
    return "" if result["says"] in result["message"] else f"{result['file']}: says {result['message']}"
