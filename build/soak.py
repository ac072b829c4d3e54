"""Load, generate, abort, dispose, again and again in one Chromium tab: does its memory grow?

    python build/soak.py [--minutes 120] [--share 0.5] [--json out/soak.json]      (or: make soak)

A cycle loads the bundled model in a worker of its own, writes, stops a second text half-way, opens a file
that is refused, aborts a download now and then, and disposes of it all. A second model stays open the whole
time and writes and is stopped in every cycle. After each cycle, once the workers are gone and garbage is
collected, three things are read: the renderer process's resident memory, the page's JavaScript heap, the
kept engine's memory.

The verdict is a robust line through the samples after warm-up (Theil-Sen: the median of all slopes, which
single jumps don't move): none of the three may rise by more than its MOST_GROWTH over the run. A text that
differs from the first cycle's fails too. `--json` is rewritten as the run goes on, with "state": "running"
until it ends. The last line of standard output is the result; the exit code is 1 when anything grew."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import site_folder
from chromium import CHROMIUM_FLAGS, chromium_path
from ruvq.cli.server import make_server

# bytes over a run: about what the renderer's own caches and V8's move by; an engine's memory never shrinks
MOST_GROWTH = {"renderer": 8e6, "heap": 0.5e6, "engine": 0}
WARM_UP = 0.2  # of the samples: until caches, compiled code and the allocator's arenas are there
FEWEST_SAMPLES = 8  # after warm-up
MOST_POINTS = 400  # that a slope is taken from: the number of pairs is half its square
ABORT_LOAD_EVERY = 3  # cycles
WORKER_SECONDS = 30  # to end one: Chromium takes two where helpers sleep
BLANK = "soak.html"

OPEN = """async (url) => {
  const { Model } = await import("/ruvq.js");
  window.kept = await Model.fetch(url, { threads: 1 });
}"""

# One cycle; gives the texts and the memory of the engine that stays.
CYCLE = """async ([url, threads, abortLoad]) => {
  const { Model } = await import("/ruvq.js");
  const write = async (model, maxTokens, stopAfter = Infinity) => {
    const stop = new AbortController();
    const options = { temperature: 0, maxTokens, signal: stop.signal };
    const generation = model.generate("Once upon a time", options);
    let pieces = 0;
    for await (const piece of generation) if (piece && ++pieces === stopAfter) stop.abort();
    return { text: generation.text, reason: generation.stats.finishReason };
  };
  const refused = await Model.open(new Uint8Array(4096)).then(() => "nothing", (error) => error.name);
  if (abortLoad) {
    const stop = new AbortController();
    const onProgress = ({ phase }) => phase === "download" && stop.abort();
    await Model.fetch(url, { signal: stop.signal, onProgress })
      .then((model) => model.dispose(), (error) => { if (error.name !== "AbortError") throw error; });
  }
  const model = await Model.fetch(url, { threads });
  const whole = await write(model, 32);
  const stopped = await write(model, 200, 5);
  model.dispose();
  const again = await write(window.kept, 32);
  await write(window.kept, 200, 5);
  return { texts: [whole.text, again.text], stopped: stopped.reason, refused,
           engine: window.kept.engineBytes };
}"""


def slope(values: Sequence[float]) -> float:
    """Theil-Sen slope: the median of (y_j - y_i) / (j - i) over all pairs i < j; 0.0 for fewer than two."""
    step = max(1, -(-len(values) // MOST_POINTS))
    points = list(enumerate(values))[::step]
    slopes = [(y2 - y1) / (x2 - x1) for n, (x1, y1) in enumerate(points) for x2, y2 in points[n + 1 :]]
    return statistics.median(slopes) if slopes else 0.0


def growth(values: Sequence[float]) -> float:
    """What the line through the samples after warm-up rises by over them."""
    steady = values[int(len(values) * WARM_UP) :]
    return slope(steady) * max(len(steady) - 1, 0)


def verdict(samples: dict[str, list[float]]) -> dict[str, Any]:
    """First, last, most and growth in bytes of each kind; "grew" names those that rise too much."""
    kinds = {
        kind: {
            "first": values[int(len(values) * WARM_UP)],
            "last": values[-1],
            "most": max(values),
            "growth": round(growth(values)),
        }
        for kind, values in samples.items()
        if values
    }
    grew = [kind for kind, found in kinds.items() if found["growth"] > MOST_GROWTH[kind]]
    return {"memory": kinds, "grew": grew}


class Tab:
    """A tab with the model that stays, and the measures of its process."""

    def __init__(self, browser: Any, address: str, model: str) -> None:
        self.model = model
        self.page = browser.new_page()
        self.page.set_default_timeout(600_000)
        self.page.goto(f"{address}/{BLANK}")
        self.page.evaluate(OPEN, model)
        self._session = self.page.context.new_cdp_session(self.page)
        self._browser_session = browser.new_browser_cdp_session()
        renderers = [p for p in self._processes() if p["type"] == "renderer"]
        self.process = max(renderers, key=lambda p: p["cpuTime"])[
            "id"
        ]  # the others are spares that did nothing

    def _processes(self) -> list[dict[str, Any]]:
        return self._browser_session.send("SystemInfo.getProcessInfo")["processInfo"]

    def cpu_seconds(self) -> float:
        """Of all of the browser's processes so far."""
        return sum(process["cpuTime"] for process in self._processes())

    def cycle(self, threads: int, abort_load: bool) -> dict[str, Any]:
        """Runs CYCLE and waits until only the kept model's worker is there."""
        found = self.page.evaluate(CYCLE, [self.model, threads, abort_load])
        deadline = time.monotonic() + WORKER_SECONDS
        while len(self.page.workers) > 1 and time.monotonic() < deadline:
            self.page.wait_for_timeout(100)
        found["workers"] = len(self.page.workers)
        return found

    def memory(self) -> dict[str, float]:
        """Bytes: "renderer" resident, "heap" of JavaScript in use, after a collection."""
        self._session.send("HeapProfiler.collectGarbage")
        heap = self._session.send("Runtime.getHeapUsage")["usedSize"]
        status = Path(f"/proc/{self.process}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
        return {"renderer": resident, "heap": heap}


def check_cycle(found: dict[str, Any], text: str) -> None:
    """Raises SystemExit when a cycle did something else than it should."""
    expected = {"texts": [text] * 2, "refused": "FileFormatError", "workers": 1}
    wrong = {key: found[key] for key, value in expected.items() if found[key] != value}
    if wrong:
        raise SystemExit(f"a cycle went wrong: expected {expected}, found {wrong}")


def soak(tab: Tab, seconds: float, share: float, report: Path | None) -> dict[str, Any]:
    """Cycles for `seconds`, pausing so that they take `share` of the time; the result."""
    samples: dict[str, list[float]] = {kind: [] for kind in MOST_GROWTH}
    started, cpu_before, text, cycles, stopped = time.monotonic(), tab.cpu_seconds(), "", 0, 0
    result: dict[str, Any] = {}
    while (elapsed := time.monotonic() - started) < seconds or len(samples["heap"]) < FEWEST_SAMPLES:
        begun = time.monotonic()
        found = tab.cycle(threads=1 + cycles % 2, abort_load=cycles % ABORT_LOAD_EVERY == 0)
        text = text or found["texts"][0]
        check_cycle(found, text)
        cycles += 1
        stopped += (
            found["stopped"] == "aborted"
        )  # on a busy machine the text may end before the page can stop it
        for kind, value in (tab.memory() | {"engine": found["engine"]}).items():
            samples[kind].append(value)
        took = time.monotonic() - begun
        result = {
            "state": "running",
            "cycles": cycles,
            "stopped": stopped,
            "minutes": round(elapsed / 60, 2),
            "cpu_share": round((tab.cpu_seconds() - cpu_before) / (time.monotonic() - started), 3),
            **verdict(samples),
        }
        if report:
            write_whole(report, result)
        tab.page.wait_for_timeout(1000 * min(took * (1 / share - 1), max(seconds - elapsed - took, 0)))
    result["minutes"] = round((time.monotonic() - started) / 60, 2)
    return result | {"state": "grew" if result["grew"] else "steady", "samples": samples}


def write_whole(path: Path, value: dict[str, Any]) -> None:
    """JSON under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value) + "\n")
    part.replace(path)


def run(seconds: float, share: float = 1.0, report: Path | None = None) -> dict[str, Any]:
    """Serves the site, starts Chromium, soaks; the result, also in `report`."""
    from playwright.sync_api import sync_playwright

    models = site_folder.quantize_models(site_folder.SOURCE, None, site_folder.ROOT / "out" / "models")[:1]
    folder = site_folder.ROOT / "out" / "soak"
    site_folder.assemble(folder, models, pyodide=False)
    (folder / BLANK).write_text('<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">')
    server = make_server(folder, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        try:
            result = soak(Tab(browser, address, f"/models/{models[0].name}"), seconds, share, report)
        finally:
            browser.close()
            server.shutdown()
    if report:
        write_whole(report, result)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    minutes = float(os.environ.get("SOAK_MINUTES", "120"))
    parser.add_argument("--minutes", type=float, default=minutes, help="default SOAK_MINUTES, or 120")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the time that cycles take; pauses between"
    )
    parser.add_argument(
        "--json", type=Path, default=site_folder.ROOT / "out" / "soak.json", help="the result's file"
    )
    args = parser.parse_args()
    result = run(args.minutes * 60, args.share, args.json)
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}))
    return 1 if result["grew"] else 0


if __name__ == "__main__":
    sys.exit(main())
