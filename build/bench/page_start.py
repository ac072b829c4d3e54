"""From an opened page to the first token: the demo with the bundled model, a cold cache and a local server.

    python build/bench/page_start.py [--rounds 3]

Every round opens a fresh browser profile. A script that is there before the page's own starts writing as soon
as the page says it is ready, and reads the clock that began with the navigation: no message to the browser is
in the figure. From Python the page starts Pyodide first. What a boot alone takes, in a worker of a page that
does nothing else, is measured in the same round in a profile of its own; `beyond_boot_s` is the difference,
below 0 where the page's start from a snapshot saves more than all the rest takes.
Needs `make wheel`.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "build"), str(ROOT / "py")]

import demo  # noqa: E402
import site_folder  # noqa: E402
from chromium import CHROMIUM_FLAGS, chromium_path  # noqa: E402
from ruvq.cli.server import make_server  # noqa: E402
from timing import summary  # noqa: E402

TIMEOUT = 180_000  # ms; Pyodide on a slow machine
# the page's Pyodide, in a page that has nothing else to do
PYODIDE = f"pyodide/{site_folder.PYODIDE[0]}/"
BARE_BOOT = """
async (base) => {
  const script = `import { loadPyodide } from "${base}pyodide.mjs";
    await loadPyodide({ indexURL: "${base}" });
    postMessage("booted");`;
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const begun = performance.now();
  await new Promise((resolve, reject) => {
    const worker = new Worker(address, { type: "module" });
    worker.onmessage = resolve;
    worker.onerror = (event) => reject(new Error(event.message));
  });
  return performance.now() - begun;
}
"""
# what the page's status says while Pyodide boots, as web/site/session.js words it
PYTHON_PHASE = "Starting Python"
# %s: the host to choose. Times are milliseconds since the navigation began.
WATCH = """
const times = (window.times = { phases: [] });
const now = () => performance.now();
new MutationObserver(() => {
  const choice = document.querySelector("input[name=host][value=%s]");
  if (choice && !times.chosen) {
    choice.checked = true;
    times.chosen = now();
  }
  const [phase] = (document.getElementById("status")?.textContent ?? "").split(":");
  if (phase && times.phases.at(-1)?.[0] !== phase) times.phases.push([phase, now()]);
  if (document.body?.dataset.state === "ready" && !times.started) {
    times.started = now();
    document.getElementById("run").click();
  }
  const written = document.getElementById("output")?.lastChild?.textContent;
  if (times.started && !times.first && written) times.first = now();
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""


@contextmanager
def fresh_page(playwright: Any) -> Iterator[Any]:
    """A page of a browser that has kept nothing."""
    browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
    try:
        yield browser.new_page()
    finally:
        browser.close()


def bare_boot(playwright: Any, url: str) -> float:
    """Seconds that Pyodide's boot takes by itself."""
    with fresh_page(playwright) as page:
        page.goto(f"{url}{PYODIDE}pyodide-lock.json")
        return page.evaluate(BARE_BOOT, url + PYODIDE) / 1000


def open_once(playwright: Any, url: str, host: str) -> dict[str, float]:
    """Seconds from the navigation to the first token; for Python also those beyond Pyodide's boot."""
    with fresh_page(playwright) as page:
        page.add_init_script(WATCH % host)
        page.goto(url)
        page.wait_for_function(
            "window.times.first || !document.getElementById('error').hidden", timeout=TIMEOUT
        )
        if page.is_visible("#error"):
            raise SystemExit(f"the page shows an error:\n{page.inner_text('#error')}")
        times = page.evaluate("window.times")
    if (PYTHON_PHASE in [phase for phase, _ in times["phases"]]) != (host == "pyodide"):
        raise SystemExit(f"the page ran another host than {host}: {times['phases']}")
    first = times["first"] / 1000
    if host != "pyodide":
        return {"first_token_s": first}
    boot = bare_boot(playwright, url)
    return {"first_token_s": first, "boot_s": boot, "beyond_boot_s": first - boot}


def measure_first_token(rounds: int) -> dict[str, Any]:
    """Host → {first_token_s, boot_s}: median and spread, hosts interleaved."""
    from playwright.sync_api import sync_playwright

    models = site_folder.quantize_models(site_folder.SOURCE, None, ROOT / "out" / "models")
    site_folder.assemble(site_folder.SITE, models)
    server = make_server(site_folder.SITE, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_address[1]}/"
    samples: dict[str, list[dict[str, float]]] = {host: [] for host in demo.HOSTS}
    try:
        with sync_playwright() as playwright:
            for _ in range(rounds):
                for host in demo.HOSTS:
                    samples[host].append(open_once(playwright, url, host))
    finally:
        server.shutdown()
    return {
        host: {key: summary([run[key] for run in runs]) for key in runs[0]} for host, runs in samples.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(measure_first_token(parser.parse_args().rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
