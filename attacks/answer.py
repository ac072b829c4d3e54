"""What Python's ruvq makes of the corpus; runs on the desktop and, this very file, in Pyodide.

python -m attacks.answer FOLDER      prints {"results": [...], "memoryBytes": most}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ruvq
from ruvq import core, errors
from ruvq.chat import ChatTemplate
from ruvq.core import structs
from ruvq.gguf import GGUFFile
from ruvq.gguf.inspection import inspect_file

HOST = "Pyodide" if sys.platform == "emscripten" else "native"
MESSAGES = [{"role": "user", "content": "Hello"}]


def _safetensors(paths: Sequence[Path]) -> None:
    from ruvq.sources.safetensors_file import SafetensorsFile

    SafetensorsFile(paths[0]).close()


def _onnx(paths: Sequence[Path]) -> None:
    from ruvq.sources.onnx_source import open_onnx

    open_onnx(paths[0], None)[0].close()


def _open(paths: Sequence[Path]) -> None:
    contents = [path.read_bytes() for path in paths]
    ruvq.Model.open(contents if len(contents) > 1 else contents[0], verify=True).close()


def _named(paths: Sequence[Path]) -> None:
    ruvq.Model.open(paths[0], verify=True).close()


def _template(paths: Sequence[Path]) -> None:
    ChatTemplate(paths[0].read_bytes().decode()).render(MESSAGES)


def _inspected(then: Callable[[GGUFFile], object]) -> Callable[[Sequence[Path]], None]:
    def run(paths: Sequence[Path]) -> None:
        with GGUFFile.open(paths[0].read_bytes()) as file:
            inspect_file(file)
            then(file)

    return run


def _tokenize(file: GGUFFile) -> None:
    tokenizer = ruvq.Tokenizer.from_gguf(file)
    tokenizer.decode(tokenizer.encode("ab, cd é"))


def _measure(file: GGUFFile) -> None:
    """rq_model_measure with default options."""
    backend = core.get()
    options = structs.pack("rq_model_options")
    with backend.alloc(8) as size, backend.alloc(len(options)) as place:
        backend.write(place.address, options)
        backend.call("rq_model_measure", file.index_address, file.data_address, place.address, size.address)


# by stage: does with a case's files what the stage says, and raises what is wrong with them
STAGES: dict[str, Callable[[Sequence[Path]], None]] = {
    "parse": _inspected(lambda file: None),
    "verify": _inspected(lambda file: file.verify().raise_first()),
    "model": _inspected(_measure),
    "tokenizer": _inspected(_tokenize),
    "open": _open,
    "shards": _open,
    "named": _named,
    "template": _template,
    "safetensors": _safetensors,
    "onnx": _onnx,
}


def _refusal(error: Exception) -> dict[str, Any]:
    """What an error says of itself. One that must not happen is reported, not hidden by a stop."""
    told = {"name": type(error).__name__, "message": str(error)}
    if not isinstance(error, errors.RuvqError):
        return {"found": "untyped", "typed": False, **told}
    return {"found": error.code, "typed": bool(error.expected and error.actual), **told}


def result_of(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The index's entry with what was found: "found" (code, or null), "typed", "name", "message",
    "seconds"."""
    begun = time.process_time()
    found: dict[str, Any] = {"found": None, "typed": True, "message": ""}
    try:
        STAGES[entry["stage"]]([folder / file for file in entry["files"]])
    except Exception as error:
        found = _refusal(error)
    return {**entry, **found, "seconds": time.process_time() - begun}


async def result_of_download(origin: str, entry_json: str) -> str:
    """In a page: the same of Model.fetch, as JSON."""
    begun = time.monotonic()
    entry = json.loads(entry_json)
    given = {"nbytes" if name == "bytes" else name: value for name, value in entry["options"].items()}
    found: dict[str, Any] = {"found": None, "typed": True}
    try:
        model = await ruvq.Model.fetch(f"{origin}/{entry['file']}", threads=1, verify=True, **given)
        model.close()
        found["message"] = "\n".join(model.notices)
    except Exception as error:
        found = _refusal(error)
    return json.dumps({**entry, **found, "seconds": time.monotonic() - begun})


def results(folder: Path) -> list[dict[str, Any]]:
    """Of every case of the corpus in `folder` that concerns this host, but for downloads."""
    index = json.loads((folder / "index.json").read_text())
    return [
        result_of(folder, entry) for entry in index if HOST in entry["hosts"] and entry["stage"] in STAGES
    ]


def most_memory() -> int:
    """Bytes taken at most: by this process, or in Pyodide by the engine's module (its memory never
    shrinks)."""
    if sys.platform == "emscripten":
        return core.get()._exports.memory.buffer.byteLength  # type: ignore[attr-defined]
    status = Path("/proc/self/status").read_text()  # getrusage would count what ran here before exec, too
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    before = most_memory()
    found = results(Path(sys.argv[1]))
    print(json.dumps({"results": found, "memoryBytes": most_memory() - before}))
