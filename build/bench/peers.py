"""The engines ruvq is compared with: which of them are installed, their versions, the files they read.

    wllama            what a page would use instead            npm: @wllama/wllama (in package.json)
    llama.cpp native  the second yardstick beside it           PyPI: llama-cpp-python (extra "peers")
    onnxruntime-web   whole models in int4, single products    npm: onnxruntime-web, PyPI: onnx ("peers")

A peer that is not there is reported with the way to get it; the benchmark goes on with what it has.
RUVQ_LLAMA_PYTHON names another Python that has llama-cpp-python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from random_models import SHAPES, write_model
from ruvq.gguf import GGUFFile

SCRIPT = Path(__file__).resolve().parent / "peer_llama.py"
PIP = 'install it with: pip install -e ".[peers]" (it compiles; needs cmake and a C++ compiler)'
NPM = "install it with: npm ci"
# llama.cpp's names of file types to compare with, by shape; K-quants and TQ2_0 want widths that are multiples
# of 256, which only K has: on M llama.cpp falls back to larger types, and TQ2_0 to Q4_0 throughout
PEER_FORMATS = {
    "K": ("F16", "Q8_0", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "TQ2_0"),
    "M": ("Q8_0", "Q4_K_M", "Q4_0", "Q2_K"),
    "tiny": ("Q8_0", "Q4_0"),
}
_WRITTEN_HERE = {"F16": "f16", "Q8_0": "q8_0"}  # what random_models.py writes by itself


@dataclass
class Peers:
    """What is installed: None where it is not, and then `missing` says why and how to get it."""

    wllama: dict[str, Any] | None = None
    llama: dict[str, Any] | None = None
    onnx: dict[str, Any] | None = None
    missing: dict[str, str] = field(default_factory=dict)


def llama_python() -> str:
    """The Python that runs llama-cpp-python."""
    return os.environ.get("RUVQ_LLAMA_PYTHON") or sys.executable


def call_llama(*arguments: object) -> dict[str, Any]:
    """One command of peer_llama.py. RuntimeError with the end of its message when it fails."""
    command = [llama_python(), str(SCRIPT), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        lines = (run.stderr or run.stdout).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"ended with code {run.returncode}")
    return json.loads(run.stdout)


def _npm_package(modules: Path, name: str, files: dict[str, str], target: Path) -> dict[str, Any]:
    """Copies the files of an npm package to where the page finds them; its version. OSError: not there."""
    folder = modules / name
    version = json.loads((folder / "package.json").read_text())["version"]
    for source, place in files.items():
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / source, target / place)
    return {"version": version}


def find_peers(site: Path, modules: Path) -> Peers:
    """Looks for every peer and puts the browser's ones below `site`/peers."""
    peers = Peers()
    try:
        files = {"esm/index.js": "index.js", "esm/wasm/wllama.wasm": "wasm/wllama.wasm"}
        peers.wllama = _npm_package(modules, "@wllama/wllama", files, site / "peers" / "wllama")
    except OSError:
        peers.missing["wllama"] = f"the npm package @wllama/wllama is not in {modules.name}/; {NPM}"
    try:
        names = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
        files = {f"dist/{name}": name for name in names}
        peers.onnx = _npm_package(modules, "onnxruntime-web", files, site / "peers" / "ort")
        if find_spec("onnx") is None:
            peers.onnx = None
            peers.missing["onnxruntime-web"] = f"its graphs need the Python package onnx; {PIP}"
    except OSError:
        peers.missing["onnxruntime-web"] = f"the npm package is not in {modules.name}/; {NPM}"
    try:
        peers.llama = call_llama("version")
    except (OSError, RuntimeError, ValueError) as error:
        peers.missing["llama.cpp"] = f"llama-cpp-python can't be used ({error}); {PIP}"
    return peers


def own_file(folder: Path, shape: str, name: str) -> Path:
    """A random model in a format ruvq writes, made once."""
    path = folder / f"random-{shape}-{name}.gguf"
    if not path.exists():
        part = path.with_name(path.name + ".part")
        write_model(part, SHAPES[shape], name, ascii_only=True)  # wllama fails on text that is no UTF-8
        part.replace(path)
    return path


def peer_files(folder: Path, shape: str, names: tuple[str, ...], peers: Peers) -> dict[str, Path]:
    """Name → file: random F16 weights quantized by llama.cpp itself. Without it only what is written here."""
    files = {}
    for name in names:
        path = folder / f"random-{shape}-llama.cpp-{name}.gguf"
        if name == "F16" or (peers.llama is None and name in _WRITTEN_HERE):
            path = own_file(folder, shape, _WRITTEN_HERE[name])
        elif peers.llama is None:
            continue
        elif not path.exists():
            call_llama("quantize", own_file(folder, shape, "f16"), path, name)
        files[name] = path
    return files


def wllama_letter(path: Path) -> str:
    """A letter that joins with none of its kind, for wllama, which takes text: n of it are n tokens."""
    with GGUFFile.open(path) as file:
        tokens = set(file.metadata["tokenizer.ggml.tokens"])
    return next(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter * 2 not in tokens)


def file_facts(path: Path) -> dict[str, Any]:
    """Bytes, actual bits per weight over all tensors, the types inside, whether ruvq computes with them."""
    with GGUFFile.open(path) as file:
        tensors = file.tensors
        types: dict[str, int] = {}
        for tensor in tensors:
            types[tensor.format] = types.get(tensor.format, 0) + tensor.weights
        stored, weights = sum(t.nbytes for t in tensors), sum(t.weights for t in tensors)
        runnable = all(t.runnable for t in tensors)
    return {
        "file_bytes": path.stat().st_size,
        "tensor_bytes": stored,
        "weights": weights,
        "bits_per_weight": 8 * stored / weights,
        "types": {name: count / weights for name, count in sorted(types.items(), key=lambda t: -t[1])},
        "runnable": runnable,
    }
