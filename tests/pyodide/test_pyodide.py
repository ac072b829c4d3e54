"""ruvq in Pyodide: installed by micropip, in a page and in a worker, without NumPy, with native's results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import ruvq

from .conftest import PLACES, STORIES_FORMATS, VERSIONS, WHEELS, RunPython

pytestmark = pytest.mark.slow
everywhere = [(version, place) for version in VERSIONS for place in PLACES]
with_either_wheel = pytest.mark.parametrize("wheels", WHEELS)

TENSORS = """
import array, json, sys
import ruvq
rows, width = 5, 172
values = array.array("f", (((i * 7919) % 1009 - 504) / 2016 for i in range(rows * width)))
weights = memoryview(values).cast("B").cast("f", [rows, width])
x = array.array("f", (((i * 31) % 17 - 8) / 8 for i in range(width)))
out = {}
for name in ("f16", "bf16", "pi-q3", "pi-q2", "pi-t3", "pi-t2", "ternary", "pi-ternary"):
    q = ruvq.quantize(weights, name)
    y = memoryview(ruvq.matvec(q, x)).cast("B").tobytes().hex()
    w2 = ruvq.dequantize(q)
    c = ruvq.compare(weights, w2)
    out[name] = [bytes(q.data).hex(), y, memoryview(w2).cast("B").tobytes().hex(), c.mse, c.snr_db, c.cosine]
json.dumps({"numpy": "numpy" in sys.modules, "formats": out})
"""

GOLDEN = """
import io, json
import ruvq
from pyodide.http import pyfetch
data = await (await pyfetch(f"{base}/models/f32.gguf")).bytes()
with ruvq.Model.open(data, kv="f32") as model:
    opened = "".join(model.generate("", max_tokens=256, temperature=0))
with ruvq.Model.open(io.BytesIO(data), kv="f32") as model:
    pieces = [piece async for piece in model.stream("", max_tokens=256, temperature=0)]
model = await ruvq.Model.fetch(f"{base}/models/f32.gguf", kv="f32")
fetched = [piece async for piece in model.stream("", max_tokens=256, temperature=0)]
model.close()
json.dumps([opened, "".join(pieces), "".join(fetched)])
"""

HASHES = """
import json
import ruvq
from pyodide.http import pyfetch
out = {}
for name in formats:
    url = f"{base}/models/{name}.gguf"
    data = await (await pyfetch(url)).bytes()
    with ruvq.Model.open(data, hashes=True) as model:
        text = "".join(model.generate(prompt, max_tokens=40, temperature=0))
        out[name] = [text, list(model.hashes())]
    model = await ruvq.Model.fetch(url, hashes=True)
    text = "".join([piece async for piece in model.stream(prompt, max_tokens=40, temperature=0)])
    out[name] += [text, await model.hashes()]
    model.close()
json.dumps(out)
"""

THREADS = """
import json
import ruvq
out = []
for threads in (1, 2, 5):
    model = await ruvq.Model.fetch(f"{base}/models/pi-t3.gguf", hashes=True, threads=threads)
    text = "".join([piece async for piece in model.stream(prompt, max_tokens=40, temperature=0)])
    out.append([model.info["threads"], model.info["threadsNote"], text, await model.hashes()])
    model.close()
json.dumps(out)
"""

ADAPTER = """
import json
import ruvq
from pyodide.http import pyfetch
data, adapter = [await (await pyfetch(f"{base}/models/{name}.gguf")).bytes() for name in ("pi-t2", "adapter")]
options = dict(max_tokens=40, temperature=0)
out, errors = [], []
with ruvq.Model.open(data, hashes=True) as model:
    out.append(["".join(model.generate(prompt, **options)), list(model.hashes())])
    loaded = model.load_adapter(adapter, 0.75)
    out.append(["".join(model.generate(prompt, **options)), list(model.hashes())])
    model.unload_adapter()
    out.append(["".join(model.generate(prompt, **options)), list(model.hashes())])
    try:
        model.load_adapter(data)
    except ruvq.RuvqError as error:
        errors.append(type(error).__name__)
model = await ruvq.Model.fetch(f"{base}/models/pi-t2.gguf", hashes=True)
for change in (None, "load", "unload"):
    if change == "load":
        await model.load_adapter(f"{base}/models/adapter.gguf", 0.75)
    elif change:
        await model.unload_adapter()
    out.append(["".join([piece async for piece in model.stream(prompt, **options)]), await model.hashes()])
try:
    await model.load_adapter(f"{base}/models/pi-t2.gguf")
except ruvq.RuvqError as error:
    errors.append(type(error).__name__)
model.close()
json.dumps([out, errors])
"""

KEPT = """
import json
import ruvq
url = f"{base}/models/pi-t3.gguf"
phases, notices, out = [], [], []
options = dict(max_tokens=20, temperature=1.1, seed=7)
steering = dict(repeat_penalty=1.2, typical_p=0.9, logit_bias={403: float("-inf")})
for cache in ("reload", "only-if-cached"):
    told = []
    model = await ruvq.Model.fetch(
        url, kv="f32", cache=cache, sha256=sha256, progress=lambda *event: told.append(event),
        notice=notices.append,
    )
    run = model.stream(prompt, **options, **steering)
    text = "".join([piece async for piece in run])
    out.append([text, model.source["fromStore"], sorted({event[0] for event in told})])
    embedding = await model.embed(prompt)
    model.close()
errors = []
large = f"{base}/models/f32.gguf"
for wrong in (dict(sha256="0" * 64), dict(nbytes=5), dict(memory_budget=2**21), dict(cache="often")):
    try:
        await ruvq.Model.fetch(large, kv="f32", threads=1, **wrong)
    except ruvq.RuvqError as error:
        errors.append(type(error).__name__)
try:
    model = await ruvq.Model.fetch(url)
    model.stream(prompt, no_such_option=1)
except ruvq.errors.UsageError as error:
    errors.append(error.subject)
model.close()
json.dumps({"runs": out, "embedding": embedding, "errors": errors, "notices": notices})
"""

FAILURES = """
import array, asyncio, json
import ruvq
seen = {}
async def kind(name, work):
    try:
        await work
        seen[name] = "no error"
    except ruvq.RuvqError as error:
        seen[name] = [type(error).__name__, bool(error.expected or error.actual), str(error)]
await kind("page", ruvq.Model.fetch(f"{base}/models/page.gguf"))
await kind("missing", ruvq.Model.fetch(f"{base}/models/missing.gguf"))
async def now(work):
    return work()
await kind("nan", now(lambda: ruvq.quantize(array.array("f", [1.0, float("nan")]), "pi-t3", shape=(1, 2))))
await kind("format", now(lambda: ruvq.quantize(array.array("f", [1.0]), "pi-t9", shape=(1, 1))))
await kind("bytes", now(lambda: ruvq.Model.open(b"GGUF")))
json.dumps(seen)
"""

CANCEL = """
import asyncio, json
import ruvq
model = await ruvq.Model.fetch(f"{base}/models/f32.gguf")
got = []
async def read():
    async for piece in model.stream("Once", max_tokens=400, temperature=0):
        got.append(piece)
task = asyncio.ensure_future(read())
while len(got) < 5:
    await asyncio.sleep(0)
task.cancel()
try:
    await task
    ended = "not cancelled"
except asyncio.CancelledError:
    ended = "cancelled"
stopped_at = len(got)
again = "".join([piece async for piece in model.stream("Once", max_tokens=5, temperature=0)])
download = asyncio.ensure_future(ruvq.Model.fetch(f"{base}/models/f32.gguf"))
await asyncio.sleep(0)
download.cancel()
try:
    await download
    fetched = "not cancelled"
except asyncio.CancelledError:
    fetched = "cancelled"
json.dumps([ended, stopped_at, "".join(got), again, fetched])
"""


def with_values(program: str, **values: Any) -> str:
    """A program with names set before it."""
    return "\n".join(f"{name} = {value!r}" for name, value in values.items()) + "\n" + program


@with_either_wheel
def test_tensor_functions_give_natives_bytes_without_numpy(run_python: RunPython, wheels: str) -> None:
    namespace: dict[str, Any] = {}
    lines = TENSORS.strip().splitlines()
    exec("\n".join([*lines[:-1], f"result = {lines[-1]}"]), namespace)
    native = json.loads(namespace["result"])["formats"]
    for version in VERSIONS:
        found = run_python("page", version, TENSORS, wheels)
        assert found["numpy"] is False
        assert found["formats"] == native


@pytest.mark.parametrize(("version", "place"), everywhere)
def test_golden_text_in_pyodide(
    run_python: RunPython, pyodide_site: str, data_dir: Path, version: str, place: str
) -> None:
    expected = (data_dir / "stories260K" / "greedy_expected.txt").read_text()
    texts = run_python(place, version, with_values(GOLDEN, base=pyodide_site))
    assert texts == [expected] * 3


@pytest.mark.parametrize(
    ("version", "wheels"), [(VERSIONS[0], "simple"), (VERSIONS[1], "simple"), (VERSIONS[0], "pure")]
)
def test_every_format_gives_natives_tokens_and_hashes(
    run_python: RunPython, pyodide_site: str, stories_models: dict[str, Path], version: str, wheels: str
) -> None:
    prompt = "Once upon a time, Lily"
    program = with_values(HASHES, base=pyodide_site, formats=STORIES_FORMATS, prompt=prompt)
    found = run_python("page", version, program, wheels)
    for name in STORIES_FORMATS:
        with ruvq.Model.open(stories_models[name], hashes=True) as model:
            text = "".join(model.generate(prompt, max_tokens=40, temperature=0))
            hashes = list(model.hashes())
        assert found[name] == [text, hashes, text, hashes], name


@with_either_wheel
def test_adapters_give_natives_tokens_and_hashes(
    run_python: RunPython,
    pyodide_site: str,
    stories_models: dict[str, Path],
    stories_adapter: Path,
    wheels: str,
) -> None:
    prompt = "Once upon a time, Lily"
    found, errors = run_python(
        "page", VERSIONS[0], with_values(ADAPTER, base=pyodide_site, prompt=prompt), wheels
    )
    with ruvq.Model.open(stories_models["pi-t2"], hashes=True) as model:
        plain = ["".join(model.generate(prompt, 40, temperature=0)), model.hashes()]
        model.load_adapter(stories_adapter, 0.75)
        adapted = ["".join(model.generate(prompt, 40, temperature=0)), model.hashes()]
    assert plain != adapted
    assert found == [plain, adapted, plain] * 2
    assert errors == ["ModelError"] * 2


@pytest.mark.parametrize("place", PLACES)
def test_fetch_has_threads_that_change_nothing(
    run_python: RunPython, pyodide_site: str, stories_models: dict[str, Path], place: str
) -> None:
    prompt = "Once upon a time, Lily and Tom went to the park. They saw a big dog and a small cat."
    found = run_python(place, VERSIONS[0], with_values(THREADS, base=pyodide_site, prompt=prompt))
    assert [(threads, note) for threads, note, _, _ in found] == [(1, ""), (2, ""), (5, "")]
    with ruvq.Model.open(stories_models["pi-t3"], hashes=True) as model:
        text = "".join(model.generate(prompt, max_tokens=40, temperature=0))
        expected = [text, list(model.hashes())]
    assert [rest for _, _, *rest in found] == [expected] * 3


@pytest.mark.parametrize("place", PLACES)
def test_fetch_keeps_models_and_steers_as_natively(
    run_python: RunPython, pyodide_site: str, stories_models: dict[str, Path], place: str
) -> None:
    sha256 = hashlib.sha256(stories_models["pi-t3"].read_bytes()).hexdigest()
    program = with_values(KEPT, base=pyodide_site, prompt="Once upon a time", sha256=sha256)
    found = run_python(place, VERSIONS[0], program)
    with ruvq.Model.open(stories_models["pi-t3"], kv="f32") as model:
        steering = {"repeat_penalty": 1.2, "typical_p": 0.9, "logit_bias": {403: float("-inf")}}
        text = "".join(model.generate("Once upon a time", 20, temperature=1.1, seed=7, **steering))  # type: ignore[arg-type]
        assert found["embedding"] == model.embed("Once upon a time")
    first, second = found["runs"]
    assert first == [text, False, ["download", "engine", "ready"]]
    assert second == [text, True, ["cache", "engine", "ready"]]
    kinds = ["IntegrityError", "IntegrityError", "MemoryLimitError", "UsageError", "no_such_option"]
    assert found["errors"] == kinds
    assert found["notices"] == []


def test_failures_are_typed_errors_with_details(run_python: RunPython, pyodide_site: str) -> None:
    seen = run_python("page", VERSIONS[0], with_values(FAILURES, base=pyodide_site))
    kinds = {name: value[0] for name, value in seen.items()}
    assert kinds == {
        "page": "DownloadError",
        "missing": "DownloadError",
        "nan": "DataError",
        "format": "UsageError",
        "bytes": "FileFormatError",
    }
    assert all(value[1] for value in seen.values()), seen
    assert "page.gguf" in seen["page"][2]


@pytest.mark.parametrize("place", PLACES)
def test_stream_and_fetch_can_be_cancelled(run_python: RunPython, pyodide_site: str, place: str) -> None:
    program = with_values(CANCEL, base=pyodide_site)
    ended, stopped_at, text, again, fetched = run_python(place, VERSIONS[0], program)
    assert ended == "cancelled"
    assert 5 <= stopped_at < 100
    assert text.startswith(again[:4])
    assert fetched == "cancelled"
