"""Measures the two wheels for Pyodide against each other, in a page of headless Chromium.

    python build/bench/pyodide_wheels.py [--rounds 3] [--shape M] [--format pi-t3] [--pyodide 314.0.7]

Every round boots one page a wheel, installs ruvq there with micropip, and times: an empty call of the core;
a product with a small and two larger matrices; quantizing and dequantizing; opening a model from bytes and
decoding with it in the page's thread; decoding with `Model.fetch` in workers, with one thread and two.
Memory is what Pyodide's heap grew by, and the engine module's own. The model has random weights in a real
model's shape. Needs `make wheel`.
Prints a table of medians and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "py")]

import pyodide_dist  # noqa: E402
from chromium import CHROMIUM_FLAGS, chromium_path  # noqa: E402
from random_models import SHAPES, write_model  # noqa: E402
from ruvq.cli.server import make_server  # noqa: E402

WHEELS = {"platform wheel": "simple", "pure wheel": "pure"}  # name: index that gives it

PAGE = """<!doctype html><script type="module">
window.measure = async (version, wheels, program) => {
  const folder = new URL(`./pyodide/${version}/`, location.href).href;
  const { loadPyodide } = await import(`${folder}pyodide.mjs`);
  const lockFileURL = `${folder}pyodide-lock.json`;
  const pyodide = await loadPyodide({ indexURL: folder, packageBaseUrl: folder, lockFileURL });
  await pyodide.loadPackage("micropip", { messageCallback: () => {} });
  const index = decodeURI(new URL(`./pyodide/${wheels}/{package_name}/index.html`, location.href).href);
  pyodide.globals.set("index", index);
  pyodide.globals.set("address", new URL("./model.gguf", location.href).href);
  await pyodide.runPythonAsync("import micropip; micropip.set_index_urls(index)");
  await pyodide.runPythonAsync("await micropip.install('ruvq')");
  return pyodide.runPythonAsync(program);
};
</script>"""

PROGRAM = """
import array, json, time
import ruvq
from ruvq import core
from pyodide.http import pyfetch
from pyodide_js import _module as pyodide_module

def seconds(work, least=0.3):
    work()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < least:
        work()
        calls += 1
    return elapsed / calls

def matrix(rows, width):
    numbers = array.array("f", (((i * 7919) % 1009 - 504) / 2016 for i in range(rows * width)))
    return memoryview(numbers).cast("B").cast("f", [rows, width])

def product(name, rows, width):
    q = ruvq.quantize(matrix(rows, width), name)
    x = array.array("f", (((i * 31) % 17 - 8) / 8 for i in range(width)))
    return seconds(lambda: ruvq.matvec(q, x)) * 1e6

def memory():
    inside = backend._exports.memory.buffer.byteLength if backend.host == "wasm" else 0
    return (pyodide_module.HEAPU8.length + inside) / 1e6

out = {}
backend = core.get()
def calls():
    for _ in range(1000):
        backend.raw("rq_abi_version")
out["empty call, us"] = seconds(calls) * 1e3
out["pi-t3 64 x 256 times vector, us"] = product("pi-t3", 64, 256)
out["pi-t3 1024 x 1024 times vector, us"] = product("pi-t3", 1024, 1024)
out["f16 2048 x 1024 times vector, us"] = product("f16", 2048, 1024)
weights = matrix(512, 1024)
out["quantize 512 x 1024 to pi-q3, ms"] = seconds(lambda: ruvq.quantize(weights, "pi-q3")) * 1e3
q = ruvq.quantize(weights, "f16")
out["dequantize 512 x 1024 from f16, ms"] = seconds(lambda: ruvq.dequantize(q)) * 1e3

data = await (await pyfetch(address)).bytes()
before = memory()
start = time.perf_counter()
model = ruvq.Model.open(data, context=512)
out["open from bytes, ms"] = (time.perf_counter() - start) * 1e3
for _ in model.generate("Once upon a time", max_tokens=48, temperature=0):
    pass
out["decode with open, tokens/s"] = model.last.stats.tokens_per_second
out["memory of open, MB"] = memory() - before
model.close()
del model, data
for threads in (1, 2):
    model = await ruvq.Model.fetch(address, context=512, threads=threads)
    async for _ in model.stream("Once upon a time", max_tokens=48, temperature=0):
        pass
    speed = model.last.stats["tokensPerSecond"]
    out[f"decode with fetch, {threads} thread{'s' * (threads > 1)}, tokens/s"] = speed
    model.close()
json.dumps({"host": backend.host, "figures": out})
"""


def measure(folder: Path, version: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Wheel → what was measured → a figure a round."""
    from playwright.sync_api import sync_playwright

    server = make_server(folder, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found: dict[str, dict[str, list[float]]] = {name: {} for name in WHEELS}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
            for _ in range(rounds):
                for name, index in WHEELS.items():
                    page: Any = browser.new_page()
                    page.set_default_timeout(0)
                    page.goto(f"http://127.0.0.1:{server.server_address[1]}/measure.html")
                    page.wait_for_function("window.measure !== undefined")
                    call = "(given) => measure(...given)"
                    result = json.loads(page.evaluate(call, [version, index, PROGRAM]))
                    for what, figure in result["figures"].items():
                        found[name].setdefault(what, []).append(figure)
                    page.close()
            browser.close()
    finally:
        server.shutdown()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="M")
    parser.add_argument("--format", default="pi-t3")
    parser.add_argument("--pyodide", choices=sorted(pyodide_dist.PACKAGES), default="314.0.7")
    options = parser.parse_args()
    folder = ROOT / "out" / "bench-pyodide"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pyodide_dist.assemble_links(folder / "pyodide", (options.pyodide,))
    (folder / "measure.html").write_text(PAGE)
    write_model(folder / "model.gguf", SHAPES[options.shape], options.format, ascii_only=True)
    found = measure(folder, options.pyodide, options.rounds)
    medians = {n: {k: statistics.median(v) for k, v in figures.items()} for n, figures in found.items()}
    print(f"{'':40}" + "".join(f"{name:>16}" for name in medians))
    for what in next(iter(medians.values())):
        print(f"{what:40}" + "".join(f"{figures[what]:16.2f}" for figures in medians.values()))
    about = {"pyodide": options.pyodide, "shape": options.shape, "format": options.format}
    print(json.dumps({**about, "rounds": options.rounds, "medians": medians}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
