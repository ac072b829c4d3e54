"""What Python's ruvq makes of the corpus; runs on the desktop and, this very file, in Pyodide.

python -m attacks.answer FOLDER      prints {"results": [...], "memoryBytes": most}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ruvq
from ruvq import core, errors
from ruvq.core import structs
from ruvq.gguf import GGUFFile
from ruvq.gguf.inspection import inspect_file


def answer(path: Path, stage: str) -> None:
    """Opens the file and does what its stage says; raises what is wrong with it."""
    if stage == "safetensors":
        from ruvq.sources.safetensors_file import SafetensorsFile

        SafetensorsFile(path).close()
        return
    if stage == "onnx" and sys.platform != "emscripten":  # in Pyodide no reader: no model whatever it holds
        from ruvq.sources.onnx_source import open_onnx

        open_onnx(path, None)[0].close()
        return
    if stage == "open":
        ruvq.Model.open(path.read_bytes(), verify=True).close()
        return
    with GGUFFile.open(path.read_bytes()) as file:
        inspect_file(file)
        if stage == "verify":
            file.verify().raise_first()
        elif stage == "model":
            measure(file)
        elif stage == "tokenizer":
            tokenizer = ruvq.Tokenizer.from_gguf(file)
            tokenizer.decode(tokenizer.encode("ab, cd é"))


def measure(file: GGUFFile) -> None:
    """rq_model_measure with default options."""
    backend = core.get()
    options = structs.pack("rq_model_options")
    with backend.alloc(8) as size, backend.alloc(len(options)) as place:
        backend.write(place.address, options)
        backend.call("rq_model_measure", file.index_address, file.data_address, place.address, size.address)


def result_of(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The index's entry with what was found: "found" (code, or null), "typed", "name", "message",
    "seconds"."""
    begun = time.process_time()
    found: dict[str, Any] = {"found": None, "typed": True}
    try:
        answer(folder / entry["file"], entry["stage"])
    except errors.RuvqError as error:
        complete = bool(error.expected and error.actual)
        found = {"found": error.code, "typed": complete, "name": type(error).__name__, "message": str(error)}
    except Exception as error:  # what must not happen is reported, not hidden by a stop
        found = {"found": "untyped", "typed": False, "name": type(error).__name__, "message": str(error)}
    return {**entry, **found, "seconds": time.process_time() - begun}


def results(folder: Path) -> list[dict[str, Any]]:
    """Of every file of the corpus in `folder`."""
    return [result_of(folder, entry) for entry in json.loads((folder / "index.json").read_text())]


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
