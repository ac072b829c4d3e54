"""The WebAssembly module computes the same bits as the native library: hashes of every layer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from engine import qwen, tiny
from ruvq import Model
from ruvq.core import CONSTANTS

MODULES = {"clang": "web/ruvq.wasm", "emcc": "out/wasm-emcc/ruvq.wasm"}
HADAMARD = {
    "ruvq.hadamard.seed": (77, "u64"),
    "ruvq.hadamard.generator": ("splitmix64", "str"),
}
CUTS = {"hadamard": "greedy-256", "orthogonal": "orthogonal-256"}


def module(name: str, repository: Path) -> Path:
    """A built module; the one that ships must be there in CI."""
    path = repository / MODULES[name]
    if path.is_file():
        return path
    message = f"{MODULES[name]} is not built: run `make wasm`" + (" CC=emcc" if name == "emcc" else "")
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def native_hashes(path: Path, kv: str, tokens: list[int]) -> list[int]:
    with Model.open(path, kv=kv, hashes=True) as model:
        model.logits(tokens)
        return model.hashes()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("format", "cut"),
    [
        *((f, "hadamard") for f in ("F32", "pi-q3", "pi-t3", "pi-t2", "pi-x3", "pi-x2", "ternary")),
        ("pi-t2", "orthogonal"),
    ],
)
def test_webassembly_gives_the_native_hashes(
    format: str, cut: str, name: str, repository: Path, data_dir: Path, tmp_path: Path
) -> None:
    """A trained model, both kernels, both kinds of KV cache, with the transform switched on."""
    wasm, node = module(name, repository), shutil.which("node")
    assert node, "Node.js is needed to run the module"
    model = tiny.stories260k(data_dir)
    encoded = None if format == "F32" else tiny.encode_all(model, format)
    changes = HADAMARD | {
        "ruvq.hadamard.cut": (CUTS[cut], "str"),
        "ruvq.hadamard.tensors": (tiny.matrix_names(model), "arr"),
    }
    path = tiny.write(tmp_path / "m.gguf", model, encoded=encoded, changes=changes)
    tokens = np.random.default_rng(1).integers(0, model.vocab, 150).tolist()
    assert_same_hashes(wasm, node, path, tokens)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("format", ["f32", "pi-t2"])
@pytest.mark.parametrize("kind", qwen.KINDS)
def test_webassembly_gives_the_native_hashes_of_qwen(
    kind: str, format: str, name: str, repository: Path, tmp_path: Path
) -> None:
    wasm, node = module(name, repository), shutil.which("node")
    assert node, "Node.js is needed to run the module"
    folder = qwen.folder(repository, kind)
    path = qwen.convert(folder, tmp_path / "m.gguf", format)
    assert_same_hashes(wasm, node, path, qwen.recorded(folder)[0] * 4)


def assert_same_hashes(wasm: Path, node: str, path: Path, tokens: list[int]) -> None:
    """Native against WebAssembly: both kinds of KV cache, both kernels."""
    for kv, kv_flag in (("f16", 0), ("f32", CONSTANTS["RQ_MODEL_KV_F32"])):
        expected = native_hashes(path, kv, tokens)
        for kernels in (0, CONSTANTS["RQ_MODEL_SCALAR"]):
            flags = str(CONSTANTS["RQ_MODEL_HASHES"] | kv_flag | kernels)
            script = Path(__file__).with_name("step.mjs")
            command = [node, str(script), str(wasm), str(path), flags, json.dumps(tokens)]
            assert json.loads(subprocess.check_output(command, timeout=120)) == expected
