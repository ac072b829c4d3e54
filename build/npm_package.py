"""Assembles the JavaScript package `ruvq` in out/npm/ruvq and packs it: scripts, engine, workers, types.

    python build/npm_package.py

The types are made by TypeScript from the scripts' JSDoc. Prints the path and size of the package that
`npm install out/npm/ruvq-VERSION.tgz` takes. Needs `make wasm`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "npm"
ENTRIES = ("ruvq.js", "worker.js", "pool-worker.js", "local_model.js", "coi-serviceworker.js")
MODULES = ("ruvq.wasm", "ruvq-relaxed.wasm", "ruvq-threads.wasm", "ruvq-threads-relaxed.wasm")
_IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["']\./([\w.-]+\.js)["']""")


def scripts() -> list[str]:
    """The entries and all that they import."""
    found: list[str] = []
    pending = list(ENTRIES)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.append(name)
        pending += _IMPORT.findall((ROOT / "web" / name).read_text())
    return sorted(found)


def version() -> str:
    """Of the Python package, which the scripts are released with."""
    text = (ROOT / "py" / "ruvq" / "version.py").read_text()
    match = re.search(r'__version__\s*(?::\s*\w+\s*)?=\s*"([^"]+)"', text)
    if match is None:
        raise SystemExit("py/ruvq/version.py names no version")
    return match[1]


def manifest() -> dict[str, Any]:
    """The package's package.json."""
    return {
        "name": "ruvq",
        "version": version(),
        "description": "Language models of 2 to 3 bits a weight in the browser: one GGUF file, WebAssembly",
        "license": "MIT",
        "type": "module",
        "main": "./ruvq.js",
        "types": "./types/ruvq.d.ts",
        "exports": {
            ".": {"types": "./types/ruvq.d.ts", "default": "./ruvq.js"},
            "./local_model.js": {"types": "./types/local_model.d.ts", "default": "./local_model.js"},
            "./engine.js": {"types": "./types/engine.d.ts", "default": "./engine.js"},
            "./*": "./*",
        },
        "files": ["*.js", "*.wasm", "types"],
        "sideEffects": ["./worker.js", "./pool-worker.js", "./coi-serviceworker.js"],
        "keywords": ["llm", "gguf", "webassembly", "quantization"],
        "engines": {"node": ">=18.18"},
    }


def assemble(folder: Path) -> None:
    """Fills `folder` with the package's files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (*scripts(), *MODULES):
        source = ROOT / "web" / name
        if not source.is_file():
            raise SystemExit(f"web/{name} is not there: run `make wasm`")
        shutil.copyfile(source, folder / name)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    shutil.copyfile(ROOT / "docs" / "javascript.md", folder / "README.md")
    (folder / "package.json").write_text(json.dumps(manifest(), indent=2) + "\n")
    make_types(folder)


def make_types(folder: Path) -> None:
    """types/*.d.ts, from the JSDoc of the scripts."""
    command = ["npx", "--no-install", "tsc", "--allowJs", "--declaration", "--emitDeclarationOnly"]
    command += ["--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler", "--skipLibCheck"]
    command += ["--lib", "es2022,dom,dom.iterable,dom.asynciterable", "--outDir", str(folder / "types")]
    entries = [str(folder / name) for name in ("ruvq.js", "local_model.js", "engine.js")]
    subprocess.run([*command, *entries], cwd=ROOT, check=True, stdout=sys.stderr)


def pack() -> Path:
    """The package as one file; its path."""
    assemble(OUT / "ruvq")
    for old in OUT.glob("ruvq-*.tgz"):
        old.unlink()
    done = subprocess.run(
        ["npm", "pack", "--json", "--pack-destination", str(OUT)],
        cwd=OUT / "ruvq",
        check=True,
        capture_output=True,
        text=True,
    )
    return OUT / json.loads(done.stdout)[0]["filename"]


def main() -> int:
    path = pack()
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
