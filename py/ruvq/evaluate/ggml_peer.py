"""ggml's own C quantizers, through llama-cpp-python: what ruvq's formats are compared with.

The package is optional. Where this Python doesn't have it, RUVQ_LLAMA_PYTHON names one that does. Floats go
to that process and bytes come back through pipes; ruvq decodes them, so that only the quantizer is foreign.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ..quantize.tensors import QuantizedTensor

# ggml.h's ggml_type, for formats whose bytes ruvq reads
TYPES = {
    "q4_0": 2,
    "q8_0": 8,
    "q2_k": 10,
    "q3_k": 11,
    "q4_k": 12,
    "q5_k": 13,
    "q6_k": 14,
    "iq2_xxs": 16,
    "iq2_xs": 17,
    "iq3_xxs": 18,
    "iq4_nl": 20,
    "iq3_s": 21,
    "iq2_s": 22,
    "iq4_xs": 23,
}
NEED_IMPORTANCE = ("iq2_xxs", "iq2_xs")  # ggml refuses without: all ones then
HINT = (
    "install it with `pip install llama-cpp-python` (it compiles), or name a Python that has it in "
    "RUVQ_LLAMA_PYTHON"
)
TIMEOUT_S = 600


def quantize(rows: np.ndarray, format: str, importance: np.ndarray | None = None) -> np.ndarray:
    """What ggml makes of float32 (rows, width), decoded by ruvq: float32 of the same shape. See `encode`."""
    from ..quantize.tensors import dequantize

    return dequantize(encode(rows, format, importance), as_numpy=True)


def encode(rows: np.ndarray, format: str, importance: np.ndarray | None = None) -> QuantizedTensor:
    """Float32 (rows, width) in ggml's bytes.

    `importance`: float32, (width,) for all rows or (rows, width) for each. MissingDependencyError without
    llama-cpp-python, UsageError for widths and formats that it doesn't take.
    """
    import numpy as np

    from ..errors import MissingDependencyError, UsageError
    from ..formats import get
    from ..quantize.tensors import QuantizedTensor

    name = get(format).name
    if name not in TYPES:
        raise UsageError("not a format of ggml's", subject="format", expected=", ".join(TYPES), actual=format)
    nbytes = get(name).row_bytes(rows.shape[1]) * len(rows)
    weights = importance
    if weights is None and name in NEED_IMPORTANCE:
        weights = np.ones(rows.shape[1])
    head = {
        "type": TYPES[name],
        "rows": len(rows),
        "width": rows.shape[1],
        "bytes": nbytes,
        "importance": 0 if weights is None else int(weights.size),
    }
    request = [json.dumps(head).encode(), b"\n", rows.astype("<f4").tobytes()]
    if weights is not None:
        request.append(weights.astype("<f4").tobytes())
    answer = _call(b"".join(request))
    if len(answer) != nbytes:
        raise MissingDependencyError(
            "ggml's quantizer gave something else",
            subject=name,
            expected=f"{nbytes} bytes",
            actual=f"{len(answer)} bytes",
            hint=HINT,
        )
    return QuantizedTensor(name, rows.shape, answer)


def python() -> str:
    """The Python that has llama-cpp-python."""
    return os.environ.get("RUVQ_LLAMA_PYTHON") or sys.executable


@cache
def version(of: str) -> str | None:
    """llama-cpp-python's version in the Python `of`; None where it isn't installed."""
    ask = "import importlib.metadata as m; print(m.version('llama-cpp-python'))"
    try:
        run = subprocess.run([of, "-c", ask], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None


def available() -> bool:
    """Whether `quantize` can work."""
    return version(python()) is not None


def _call(request: bytes) -> bytes:
    from ..errors import MissingDependencyError

    command = [python(), __file__]
    try:
        run = subprocess.run(command, input=request, capture_output=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingDependencyError(
            "ggml's quantizers can't be used", actual=str(error), hint=HINT
        ) from error
    if run.returncode:
        lines = run.stderr.decode("utf-8", "replace").strip().splitlines()
        raise MissingDependencyError(
            "ggml's quantizers can't be used", actual=lines[-1] if lines else "no answer", hint=HINT
        )
    return run.stdout


def _library() -> Any:
    """ggml's base library, out of the package's folder."""
    import ctypes
    from importlib.util import find_spec
    from pathlib import Path

    found = find_spec("llama_cpp")
    if found is None or not found.origin:
        raise SystemExit("llama-cpp-python isn't installed")
    names = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")
    paths = [Path(found.origin).parent / "lib" / name for name in names]
    path = next((p for p in paths if p.exists()), None)
    if path is None:
        raise SystemExit(f"no ggml-base library in {paths[0].parent}")
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    whole, pointer = ctypes.c_int64, ctypes.c_void_p
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, whole, whole, whole, pointer]
    return library


def main() -> None:
    """Reads a request from standard input and writes the bytes: needs nothing of ruvq."""
    import ctypes

    request = sys.stdin.buffer
    head = json.loads(request.readline())
    rows, width, count = head["rows"], head["width"], head["importance"]
    floats = (ctypes.c_float * (rows * width)).from_buffer_copy(request.read(4 * rows * width))
    weights = (ctypes.c_float * count).from_buffer_copy(request.read(4 * count)) if count else None
    out = ctypes.create_string_buffer(head["bytes"])
    library = _library()

    row_bytes = head["bytes"] // rows

    def encode(first: int, last: int, at: int) -> None:
        """Rows [first, last); their importance begins at float `at`."""
        where = None if weights is None else ctypes.addressof(weights) + 4 * at
        ends = ctypes.addressof(floats), ctypes.addressof(out)
        done = library.ggml_quantize_chunk(head["type"], *ends, first * width, last - first, width, where)
        if done != (last - first) * row_bytes:
            raise SystemExit(f"ggml_quantize_chunk gave {done} bytes")

    if count > width:  # rows with an importance each
        for row in range(rows):
            encode(row, row + 1, row * width)
    else:
        encode(0, rows, 0)
    sys.stdout.buffer.write(out.raw[: head["bytes"]])


if __name__ == "__main__":
    main()
