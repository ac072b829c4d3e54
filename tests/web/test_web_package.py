"""The npm package: installs, has types, goes through Vite and webpack, and runs under a strict content
security policy, with threads and without a blob: worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ruvq
from browser import ROOT, serving

HERE = Path(__file__).resolve().parent
CSP = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'"

MAIN = """
import { Model, ModelLibrary, PiQuantWasm, Tokenizer, init } from "ruvq";

async function run() {
  await init();
  const grid = new PiQuantWasm(3, 4);
  const model = await Model.fetch("/model.gguf", { threads: 2 });
  let text = "";
  for await (const piece of model.generate("Once upon", { maxTokens: 20, temperature: 0 })) text += piece;
  const ids = await model.tokenize("Once upon");
  const tokenizer = await Tokenizer.fromGguf(await (await fetch("/model.gguf")).blob());
  const { threads, engineVariant } = model.info;
  model.dispose();
  const kept = (await (await ModelLibrary.open()).list()).length;
  const own = tokenizer.encode("Once upon");
  return { text, ids, own, threads, engineVariant, kept, mse: grid.computeMse([1, 2]) };
}

const explain = ({ name, message, stack }) => ({ error: `${name}: ${message} ${stack}` });
document.body.append(Object.assign(document.createElement("pre"), {
  id: "result", textContent: JSON.stringify(await run().catch(explain)),
}));
"""

# For webpack, whose index.html is copied as it is, and for Vite, which rewrites the address.
INDEX = '<!doctype html><title>ruvq</title><script type="module" src="./main.js"></script>'

TYPED = """
import { AbortError, Model, ModelLibrary, PiQuantWasm, compare, dequantize, init, quantize } from "ruvq";
import type { QuantizedTensor } from "ruvq/types/quant.js";

export async function story(url: string, signal: AbortSignal): Promise<string> {
  await init();
  const tensor: QuantizedTensor = quantize(new Float32Array(8), "pi-t3", { width: 4, k: 4 });
  const error: number = compare(dequantize(tensor), new Float32Array(8)).mse + new PiQuantWasm(3, 4).stepSize;
  const model: Model = await Model.fetch(url, { cache: "reload", sha256: "0", memoryBudget: error, signal });
  const generation = model.generate("", { maxTokens: 5, logitBias: { 3: 1 }, logprobs: 2, mirostatTau: 3 });
  for await (const piece of generation) console.log(piece.length, generation.logprobs[0].top[0].logprob);
  const vector: Float32Array = await model.embed("text");
  const adapter = await model.loadAdapter(new Blob([]), { scale: 0.5, cache: "no-store", signal });
  await adapter.setScale(adapter.scale + adapter.bytes);
  await model.unloadAdapter();
  const library = await ModelLibrary.open();
  return (await library.list()).map((entry) => entry.url).join() + vector.length + new AbortError().hint;
}
// @ts-expect-error an option that isn't there
export const wrong = Model.fetch("x", { cache: "sometimes" });
// @ts-expect-error a scale is a number
export const scaled = (model: Model) => model.loadAdapter("x", { scale: "half" });
"""


@pytest.fixture(scope="module")
def package() -> Path:
    """The packed package."""
    sys.path.insert(0, str(ROOT / "build"))
    import npm_package

    return npm_package.pack()


@pytest.fixture(scope="module")
def project(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the package installed, inside the checkout's out/ so that bundlers are found."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"name": "app", "private": true, "type": "module"}')
    (folder / "main.js").write_text(MAIN)
    (folder / "index.html").write_text(INDEX)
    command = ["npm", "install", "--offline", "--no-audit", "--no-fund", "--silent", str(package)]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return folder


def test_the_package_has_what_it_needs_and_no_more(project: Path) -> None:
    installed = project / "node_modules" / "ruvq"
    names = {path.name for path in installed.iterdir()}
    assert {"ruvq.js", "worker.js", "pool-worker.js", "ruvq.wasm", "types", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("demo", "bench"))]


def test_the_types_hold_for_a_strict_user(project: Path) -> None:
    (project / "story.ts").write_text(TYPED)
    command = [str(ROOT / "node_modules" / ".bin" / "tsc"), "--noEmit", "--strict", "--target", "es2022"]
    command += [
        "--module",
        "es2022",
        "--moduleResolution",
        "bundler",
        "--lib",
        "es2022,dom,dom.asynciterable",
    ]
    done = subprocess.run([*command, "story.ts"], cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def run_page(browser: Any, url: str) -> tuple[dict[str, Any], list[str]]:
    """What main.js leaves, and what the console says of the policy."""
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    # not by a script of the test's own, which the policy would refuse
    result = json.loads(page.locator("#result").text_content(timeout=60_000))
    context.close()
    return result, [text for text in said if "Content Security Policy" in text]


def check(result: dict[str, Any], model: Path) -> None:
    assert "error" not in result, result
    with ruvq.Model.open(model) as native:
        assert result["text"] == "".join(native.generate("Once upon", 20, temperature=0))
        assert result["ids"] == result["own"] == native.tokenizer.encode("Once upon")
    assert result["threads"] == 2
    assert result["engineVariant"] == "relaxed-simd"
    assert result["kept"] == 1


@pytest.mark.parametrize("bundler", ["vite", "webpack"])
def test_a_bundled_page_runs_under_a_strict_policy(
    browser: Any, project: Path, models: Path, tmp_path: Path, bundler: str
) -> None:
    folder = tmp_path / bundler
    shutil.copytree(project, folder)
    command = ["node", str(HERE / "bundle.mjs"), bundler, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copyfile(models / "pi-t3.gguf", folder / "dist" / "model.gguf")
    with serving(folder / "dist", extra={"Content-Security-Policy": CSP}) as url:
        result, refused = run_page(browser, f"{url}/index.html")
    check(result, models / "pi-t3.gguf")
    assert refused == []


def test_the_files_as_they_are_run_under_a_strict_policy(
    browser: Any, project: Path, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(project / "node_modules" / "ruvq", folder / "ruvq")
    (folder / "main.js").write_text(MAIN.replace('"ruvq"', '"./ruvq/ruvq.js"'))
    (folder / "index.html").write_text(INDEX)
    shutil.copyfile(models / "pi-t3.gguf", folder / "model.gguf")
    with serving(folder, extra={"Content-Security-Policy": CSP}) as url:
        result, refused = run_page(browser, f"{url}/index.html")
    check(result, models / "pi-t3.gguf")
    assert refused == []
