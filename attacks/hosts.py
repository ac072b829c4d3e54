"""Runs the corpus on every host: native and Node as processes, a page in Chromium, Pyodide in Node; downloads
in pages, where Pyodide has them too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attacks.corpus import corpus
from attacks.servers import FILE, MODEL, serving
from ruvq import errors

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "attacks"  # below what the page's server serves
BLANK = "tests/web/blank.html"

Answer = dict[str, Any]  # {"results": [...], "memoryBytes": n}; see answer.py and examine.js


def expected_of(host: str) -> int:
    """How many cases concern it."""
    return sum(host in case.hosts for case in corpus())


def native(folder: Path = FOLDER) -> Answer:
    return _last_line([sys.executable, "-m", "attacks.answer", str(folder)])


def node(folder: Path = FOLDER) -> Answer:
    return _last_line(["node", str(ROOT / "attacks" / "node.mjs"), str(folder)])


def pyodide_in_node(folder: Path = FOLDER, package: str = "pyodide") -> Answer:
    """Everything but downloads."""
    script = str(ROOT / "attacks" / "pyodide.mjs")
    return _last_line(["node", script, str(folder.resolve()), str(_wheel()), package])


def pyodide(folder: Path = FOLDER) -> Answer:
    """Everything; downloads in a Chromium of its own."""
    answer = pyodide_in_node(folder)
    with _chromium() as browser:
        answer["results"] += downloads_in_pyodide(browser, folder)
    return answer


def page(folder: Path = FOLDER) -> Answer:
    """Everything, in a Chromium of its own."""
    with _chromium() as browser:
        return in_page(browser, folder)


def in_page(browser: Any, folder: Path = FOLDER) -> Answer:
    """Everything in pages of `browser` (a Playwright Browser), with the repository served to it."""
    with serving(ROOT) as site:
        opened = browser.new_page()
        try:
            opened.set_default_timeout(300_000)
            opened.goto(f"{site}/{BLANK}")
            run = 'async (folder) => (await import("/attacks/page.js")).run(folder)'
            answer: Answer = opened.evaluate(run, f"/{folder.relative_to(ROOT)}/")
            answer["workers"] = len(opened.workers)
        finally:
            opened.close()
    answer["results"] += _downloads(browser, folder, "page", "/attacks/page.js")
    return answer


def downloads_in_pyodide(browser: Any, folder: Path = FOLDER, package: str = "pyodide") -> list[Answer]:
    """The downloads, by Python in pages."""
    script = f"/attacks/pyodide_page.js?package={package}&wheel=/{_wheel().relative_to(ROOT)}"
    return _downloads(browser, folder, "Pyodide", script)


def _downloads(browser: Any, folder: Path, host: str, script: str) -> list[Answer]:
    """Each case in a browser profile of its own, in as many tabs as it says; of several tabs the worst."""
    (ROOT / FILE).write_bytes(MODEL)
    index = json.loads((folder / "index.json").read_text())
    results = []
    for entry in index:
        if entry["stage"] != "download" or host not in entry["hosts"]:
            continue
        context = browser.new_context()
        with serving(ROOT) as site:
            tabs = [_tab(context, site, script, entry["quota"]) for _ in range(entry["tabs"])]
            for tab in tabs:
                tab.evaluate("(entry) => { globalThis.pending = answerDownload(entry); }", entry)
            found = [tab.evaluate("() => pending") for tab in tabs]
            context.close()
        results.append(next((result for result in found if wrong(result, host)), found[0]))
    return results


def _tab(context: Any, site: str, script: str, quota: int) -> Any:
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(f"{site}/{BLANK}")
    if quota:
        limits = {"origin": site, "quotaSize": quota}
        context.new_cdp_session(tab).send("Storage.overrideQuotaForOrigin", limits)
    tab.evaluate("(script) => import(script).then(() => null)", script)
    return tab


@contextmanager
def _chromium() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "build"))
    from playwright.sync_api import sync_playwright

    from chromium import CHROMIUM_FLAGS, chromium_path

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def _wheel() -> Path:
    wheels = sorted((ROOT / "out" / "wheels").glob("ruvq-*-py3-none-any.whl"))
    if not wheels:
        raise SystemExit("no pure wheel in out/wheels: run `make wheel`")
    return wheels[-1]


def _last_line(command: list[str]) -> Answer:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-3000:]}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


HOSTS: dict[str, Callable[[], Answer]] = {"native": native, "Node": node, "page": page, "Pyodide": pyodide}


def wrong(result: dict[str, Any], host: str) -> str:
    """What is wrong with a host's answer to one case, or ""."""
    code, found = result["code"], result["found"]
    reads_sources = host in ("native", "Pyodide")
    if result["stage"] == "safetensors" and not reads_sources:
        # JavaScript has no reader for these: whatever they hold, they are no model
        return "" if found in ("RQ_E_MAGIC", "RQ_E_TRUNCATED") else f"{result['file']}: {found}"
    if code is None and found is not None:
        return f"{result['file']}: refused, {found}: {result['message']}"
    if found != code or not result["typed"]:
        return f"{result['file']}: expected {code}, found {found}: {result.get('message', 'accepted')}"
    name = result["error"] or (errors.for_code(code).__name__ if code else "")
    if name and result["name"] != name:
        return f"{result['file']}: {result['name']}, not {name}"
    return "" if result["says"] in result["message"] else f"{result['file']}: says {result['message']}"
