"""Assembles the site: the page, the engine, models and Pyodide, in one folder that any server can serve.

    python build/site_folder.py [--to out/site] [--model FILE.gguf ...] [--no-pyodide]

Quick when nothing has changed: only newer files are copied. Needs `make wasm`, and `make wheel` for Pyodide.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "out" / "site"
PAGE_SUFFIXES = (".html", ".css", ".js", ".wasm")


def copy_if_changed(source: Path, target: Path) -> None:
    """Copies with the source's time; under a temporary name first, so that nothing is ever half-written."""
    status = source.stat()
    if target.is_file() and (target.stat().st_mtime_ns, target.stat().st_size) == (
        status.st_mtime_ns,
        status.st_size,
    ):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    part.replace(target)


def copy_page(site: Path) -> None:
    """The scripts, the page and the engine; files that are gone from web/ go from the site."""
    sources = [p for p in (ROOT / "web").iterdir() if p.is_file() and p.suffix in PAGE_SUFFIXES]
    for name in ("ruvq.wasm", "ruvq-threads.wasm", "jinja.js"):
        if not any(p.name == name for p in sources):
            raise SystemExit(f"web/{name} is not there: run `make wasm`")
    for source in sources:
        copy_if_changed(source, site / source.name)
    for old in site.iterdir():
        if old.is_file() and old.suffix in PAGE_SUFFIXES and not (ROOT / "web" / old.name).exists():
            old.unlink()


def describe_model(path: Path) -> dict[str, Any]:
    """A model's entry in models/index.json."""
    from ruvq.gguf import inspect

    facts = inspect(path)
    weights: dict[str, int] = {}
    for tensor in facts["tensors"]:
        count = 1
        for extent in tensor["shape"]:
            count *= extent
        weights[tensor["format"]] = weights.get(tensor["format"], 0) + count
    kind = max(weights, key=lambda name: weights[name])
    return {
        "name": path.stem.removesuffix(f"-{kind}"),
        "file": path.name,
        "bytes": path.stat().st_size,
        "format": kind,
        "bits_per_weight": facts["bits_per_weight"],
        "bits_per_weight_actual": facts["bits_per_weight_actual"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def copy_models(site: Path, models: list[Path]) -> list[dict[str, Any]]:
    """The models, in the order given (the first is the page's default), and their list."""
    folder = site / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        copy_if_changed(model, folder / model.name)
    for old in folder.glob("*.gguf"):
        if old.name not in {model.name for model in models}:
            old.unlink()
    entries = [describe_model(model) for model in models]
    part = folder / "index.json.part"
    part.write_text(json.dumps(entries, indent=1) + "\n")
    part.replace(folder / "index.json")
    return entries


def assemble(site: Path, models: list[Path], pyodide: bool = True) -> list[dict[str, Any]]:
    """Everything into `site`; the entries of models/index.json."""
    site.mkdir(parents=True, exist_ok=True)
    copy_page(site)
    if pyodide:
        import pyodide_dist

        pyodide_dist.assemble(site / "pyodide")
    return copy_models(site, models)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=SITE, help="folder to fill (default out/site)")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a GGUF file to offer")
    parser.add_argument("--no-pyodide", action="store_true", help="leave the Python host out")
    args = parser.parse_args()
    models = args.model or sorted(
        (ROOT / "out" / "models").glob("*.gguf"), key=lambda model: -model.stat().st_size
    )
    for entry in assemble(args.to, models, pyodide=not args.no_pyodide):
        print(f"{entry['file']}  {entry['format']}, {entry['bits_per_weight_actual']:.2f} bits per weight")
    return 0


if __name__ == "__main__":
    sys.exit(main())
