"""Assembles the site: the page, the engine, models, the float model to quantize, and Pyodide.

It is one folder that any static server can serve, and the page asks no other server for anything.

    python build/site_folder.py [--to out/site] [--model FILE.gguf ...] [--no-pyodide]

Without --model it has the bundled model, quantized here, or as it was trained with its bits in the loop where
web/model has such a file. Quick when nothing has changed: only newer files are copied.
Needs `make wasm`, and `make wheel` for Pyodide.
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

from alone import alone

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "out" / "site"
SOURCE = ROOT / "web" / "model"  # the bundled model: a Hugging Face folder in floats
FORMATS = ("pi-t2", "pi-t3")  # of the bundled model; the first is what the page opens with
PAGE_SUFFIXES = (".html", ".css", ".js", ".wasm")
VIEW_SUFFIXES = (*PAGE_SUFFIXES, ".py", ".json")  # in web/site/
TRAINED = "trained-{kind}.gguf"  # in the bundled model's folder: what `ruvq qat` made of it (its README.md)
SOURCE_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
PYODIDE = ("314.0.7",)  # the page's own; tests and notebooks have another as well


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


def newest(paths: list[Path]) -> float:
    """Time of the last change among files and the files of folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def quantize_models(source: Path, tokenizer: Path | None, folder: Path) -> list[Path]:
    """The page's GGUF files, made where they are missing or stale; trained ones are copied."""
    with alone("models"):
        return _quantize_models(source, tokenizer, folder)


def _quantize_models(source: Path, tokenizer: Path | None, folder: Path) -> list[Path]:
    if not source.exists():
        raise SystemExit(f"{source} is not there: `make model` trains it, or --source names another model")
    package = ROOT / "py" / "ruvq"
    inputs = [source, *(package / name for name in ("core/_native", "quantize", "sources", "gguf"))]
    changed = newest([*inputs, *([tokenizer] if tokenizer else [])])
    name = source.stem if source != SOURCE else "stories"
    folder.mkdir(parents=True, exist_ok=True)
    models = []
    for kind in FORMATS:
        target, trained = folder / f"{name}-{kind}.gguf", source / TRAINED.format(kind=kind)
        if trained.is_file():
            copy_if_changed(trained, target)
        elif not target.exists() or target.stat().st_mtime < changed:
            from ruvq.quantize.pipeline import quantize_model

            print(f"quantizing {source.name} to {kind}", file=sys.stderr, flush=True)
            report = quantize_model(
                source, target, kind, tokenizer=tokenizer, embeddings="same", progress=False, overwrite=True
            )
            print(report.summary(), file=sys.stderr, flush=True)
        models.append(target)
    return models


def copy_folder(source: Path, target: Path, suffixes: tuple[str, ...], leave_out: str = "") -> None:
    """The files of a folder that have these endings; what is gone from it goes from the target. Those whose
    names begin with `leave_out` stay behind."""
    wanted = {p.name: p for p in source.iterdir() if p.is_file() and p.suffix in suffixes}
    wanted = {n: p for n, p in wanted.items() if not (leave_out and n.startswith(leave_out))}
    for path in wanted.values():
        copy_if_changed(path, target / path.name)
    for old in target.iterdir():
        if old.is_file() and old.suffix in suffixes and old.name not in wanted:
            old.unlink()


def copy_page(site: Path) -> None:
    """The page, its views and the engine."""
    web = ROOT / "web"
    for name in ("ruvq.wasm", "ruvq-threads.wasm", "jinja.js"):
        if not (web / name).is_file():
            raise SystemExit(f"web/{name} is not there: run `make wasm`")
    copy_folder(web, site, PAGE_SUFFIXES, "bench")  # what `make bench` drives
    for folder in ("site", "site/examples"):
        copy_folder(web / folder, site / folder, VIEW_SUFFIXES)


def copy_source(site: Path) -> None:
    """The float model that the page can quantize, and the list of its files."""
    for name in SOURCE_FILES:
        copy_if_changed(SOURCE / name, site / "source" / name)
    write_json(site / "source" / "index.json", {"name": SOURCE.name, "files": SOURCE_FILES})


def write_json(path: Path, value: Any) -> None:
    """Under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def memory_needed(path: Path) -> int:
    """Bytes that running the model takes: the file, the cache of its context, activations."""
    from ruvq.runtime.model import Model

    with Model.open(path) as model:
        return path.stat().st_size + model.info.memory_bytes


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
        "memory_bytes": memory_needed(path),
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
    write_json(folder / "index.json", entries)
    return entries


def assemble(site: Path, models: list[Path], pyodide: bool = True) -> list[dict[str, Any]]:
    """Everything into `site`; the entries of models/index.json."""
    site.mkdir(parents=True, exist_ok=True)
    copy_page(site)
    copy_source(site)
    if pyodide:
        import pyodide_dist

        pyodide_dist.assemble(site / "pyodide", PYODIDE)
        pyodide_dist.for_quick_start(site / "pyodide", PYODIDE[0])
    return copy_models(site, models)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=SITE, help="folder to fill (default out/site)")
    parser.add_argument("--model", type=Path, action="append", default=[], help="a GGUF file to offer")
    parser.add_argument("--no-pyodide", action="store_true", help="leave the Python host out")
    args = parser.parse_args()
    models = args.model or quantize_models(SOURCE, None, ROOT / "out" / "models")
    for entry in assemble(args.to, models, pyodide=not args.no_pyodide):
        print(f"{entry['file']}  {entry['format']}, {entry['bits_per_weight_actual']:.2f} bits per weight")
    return 0


if __name__ == "__main__":
    sys.exit(main())
