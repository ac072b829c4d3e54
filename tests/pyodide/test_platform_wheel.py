"""The platform wheel: chosen by micropip, in Pyodide's own heap, without a copy of what Python holds."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .conftest import PLACES, ROOT, VERSIONS, WHEELS, RunPython
from .test_pyodide import with_values

pytestmark = pytest.mark.slow

WHO = """
import json, sys
from pathlib import Path
import ruvq
from ruvq import core
folder = Path(ruvq.__file__).parent
metadata = next(folder.parent.glob("ruvq-*.dist-info")) / "WHEEL"
tags = [line[5:] for line in metadata.read_text().splitlines() if line.startswith("Tag: ")]
json.dumps({"host": core.get().host, "tags": tags, "variant": core.get().raw("rq_variant", 0),
            "isolated": bool(__import__("js").crossOriginIsolated)})
"""

ZERO_COPY = """
import array, json, ctypes
import ruvq
from ruvq import core
backend = core.get()
numbers = array.array("f", range(64))
matrix = memoryview(numbers).cast("B").cast("f", [8, 8])
fixed = bytes(range(200))
out = {}
with backend.place(matrix) as placed:
    out["matrix"] = [placed.address == numbers.buffer_info()[0], placed.nbytes]
del matrix
with backend.place(numbers) as placed:
    try:
        numbers.append(1.0)
        out["resized"] = True
    except BufferError:
        out["resized"] = False
    backend.view(placed.address, 4)[:] = b"\\0\\0\\x80\\xbf"
    out["written through"] = numbers[0]
numbers.append(1.0)  # given back
with backend.place(memoryview(fixed)[3:9]) as placed:
    out["read-only slice"] = backend.read(placed.address, placed.nbytes) == fixed[3:9]
with backend.place(b"") as placed:
    out["empty"] = placed.nbytes
try:
    backend.place(memoryview(fixed)[::2])
    out["with gaps"] = "taken"
except BufferError:
    out["with gaps"] = "refused"
memory = backend.alloc(1000)
out["alloc"] = [memory.address % 64, backend.read(memory.address, 1000) == bytes(1000)]
memory.free()
memory.free()
try:
    backend.alloc(0xFFFF0000)
    out["too much"] = "taken"
except ruvq.errors.MemoryLimitError as error:
    out["too much"] = "refused" if error.expected else "refused without details"
json.dumps(out)
"""

HEAP = """
import gc, json
import ruvq
from pyodide.http import pyfetch
from pyodide_js import _module
data = await (await pyfetch(f"{base}/models/f32.gguf")).bytes()
def cycle():
    with ruvq.Model.open(data, context=512) as model:
        "".join(model.generate("Once", max_tokens=3, temperature=0))
sizes = []
for _ in range(4):
    for _ in range(25):
        cycle()
        gc.collect()
    sizes.append(_module.HEAPU8.length)
with ruvq.Model.open(data) as model:
    same = model._file.data_address  # the weights are those of the bytes object
    import ctypes
    found = ctypes.string_at(same, 64) in data
json.dumps([sizes, found])
"""


@pytest.mark.parametrize("wheels", WHEELS)
@pytest.mark.parametrize("version", VERSIONS)
def test_micropip_takes_the_wheel_whose_tag_fits(run_python: RunPython, version: str, wheels: str) -> None:
    found = run_python("page", version, WHO, wheels)
    assert found["host"] == WHEELS[wheels]
    assert found["variant"] != 0, "no SIMD"
    expected = {
        "simple": {f"py3-none-pyemscripten_{abi}_wasm32" for abi in ("2025_0", "2026_0")},
        "pure": {"py3-none-any"},
    }
    assert set(found["tags"]) == expected[wheels]
    assert found["isolated"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("version", VERSIONS)
def test_buffers_of_python_are_used_where_they_are(run_python: RunPython, version: str, place: str) -> None:
    assert run_python(place, version, ZERO_COPY) == {
        "matrix": [True, 256],
        "resized": False,
        "written through": -1.0,
        "read-only slice": True,
        "empty": 0,
        "with gaps": "refused",
        "alloc": [0, True],
        "too much": "refused",
    }


def test_models_give_their_memory_back_and_dont_copy_the_file(
    run_python: RunPython, pyodide_site: str
) -> None:
    sizes, in_place = run_python("page", VERSIONS[0], with_values(HEAP, base=pyodide_site))
    assert in_place
    assert len(set(sizes[1:])) == 1, sizes  # after the first have made it as large as one model needs


def test_where_the_side_module_does_not_run_the_stand_alone_one_does(
    pyodide_site: str, stories_models: dict[str, Path], data_dir: Path
) -> None:
    """Node 20 has no relaxed SIMD, so that the platform wheel falls back to what the pure wheel does."""
    program = """
from ruvq import Model, core
import json
with Model.open("/data/f32.gguf", kv="f32") as model:
    text = "".join(model.generate("", max_tokens=256, temperature=0))
json.dumps([core.get().host, text])
"""
    index = f"{pyodide_site}/pyodide/simple/{{package_name}}/index.html"
    folder = stories_models["f32"].parent
    command: list[Any] = [
        "node",
        Path(__file__).parent / "node_run.mjs",
        ROOT / "out" / "pyodide" / VERSIONS[0],
    ]
    run = subprocess.run(
        [*command, index, folder], input=program, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    expected = (data_dir / "stories260K" / "greedy_expected.txt").read_text()
    assert json.loads(run.stdout.strip().splitlines()[-1]) == ["wasm", expected]


def test_the_side_module_asks_pyodide_for_malloc_and_free_only() -> None:
    module = ROOT / "py" / "ruvq" / "core" / "_side" / "ruvq-relaxed.wasm"
    script = (
        "const bytes = require('fs').readFileSync(process.argv[1]);"
        "const all = WebAssembly.Module.imports(new WebAssembly.Module(bytes));"
        "console.log(JSON.stringify(all.filter((i) => i.kind === 'function').map((i) => i.name).sort()))"
    )
    flag = "--experimental-wasm-relaxed-simd"  # known to Node 20; later ones have it without
    command = ["node", flag, "-e", script, str(module)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(run.stdout) == ["free", "malloc"]


def test_both_wheels_hold_the_same_python() -> None:
    def sources(kind: str) -> dict[str, bytes]:
        (path,) = (ROOT / "out" / "wheels").glob(f"ruvq-*{kind}.whl")
        with zipfile.ZipFile(path) as wheel:
            return {n: wheel.read(n) for n in wheel.namelist() if n.endswith((".py", ".js"))}

    assert sources("_wasm32") == sources("-none-any")
