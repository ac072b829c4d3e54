"""The back end of Pyodide: the stand-alone WebAssembly module in its own memory, driven through JavaScript.

The module's memory is apart from Python's, so buffers are copied in and out; weights, caches and
activations stay inside. Nothing here needs NumPy or cffi, and no rebuild for a new Pyodide.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError
from . import Allocation
from .abi import FUNCTIONS
from .module import ModuleCore

# A fresh view each time: growing the memory detaches the old ones.
_FACTORY = """
(bytes) => {
  const exports = new WebAssembly.Instance(new WebAssembly.Module(bytes), {}).exports;
  return {
    exports,
    view: (address, length) => new Uint8Array(exports.memory.buffer, address, length),
    clear: (address, length) => { new Uint8Array(exports.memory.buffer, address, length).fill(0); },
  };
}
"""


def module_paths() -> list[Path]:
    """The WebAssembly modules that the wheel carries, best first; the last one runs everywhere."""
    folder = Path(__file__).parent.parent / "browser" / "_web"
    relaxed = folder / "ruvq-relaxed.wasm"
    return [*([relaxed] if relaxed.is_file() else []), folder / "ruvq.wasm"]


class WasmCore(ModuleCore):
    """See `ruvq.core.Core`."""

    host = "wasm"
    shares_memory = False

    def __init__(self, path: Path) -> None:
        """MissingDependencyError where there is no such module or the browser can't run it."""
        super().__init__()
        from pyodide.code import run_js
        from pyodide.ffi import JsException, to_js

        try:
            self._module = run_js(_FACTORY)(to_js(path.read_bytes()))
        except FileNotFoundError as error:
            raise MissingDependencyError(
                "the wheel lacks the WebAssembly module",
                subject=str(path),
                hint='install the pure wheel: await micropip.install("ruvq")',
            ) from error
        except JsException as error:
            raise MissingDependencyError(
                "this browser can't run the WebAssembly module",
                expected="WebAssembly with 128-bit SIMD",
                actual=str(error),
                hint="use a current Chromium, Firefox or Safari",
            ) from error
        self._exports = self._module.exports

    def _function(self, name: str) -> Callable[..., Any]:
        function = getattr(self._exports, name)
        if FUNCTIONS[name][0] != "p":
            return function  # type: ignore[no-any-return]
        return lambda *args: function(*args) & 0xFFFFFFFF  # JavaScript gives those from 2^31 on as negative

    def _memory(self) -> tuple[str, str]:
        used = self._exports.memory.buffer.byteLength
        return "the WebAssembly module", f"{used:,} bytes in use, at most 4 GiB possible"

    def alloc(self, nbytes: int) -> Allocation:
        allocation = self._take(nbytes)
        self._module.clear(allocation.address, nbytes)
        return allocation

    def place(self, buffer: Any) -> Allocation:
        view = memoryview(buffer).cast("B")
        allocation = self._take(view.nbytes)
        self.write(allocation.address, view)
        return allocation

    def read(self, address: int, nbytes: int) -> bytes:
        return self._module.view(address, nbytes).to_bytes() if nbytes else b""

    def write(self, address: int, buffer: Any) -> None:
        view = memoryview(buffer).cast("B")
        if view.nbytes:
            self._module.view(address, view.nbytes).assign(view)

    def view(self, address: int, nbytes: int) -> memoryview:
        return memoryview(self.read(address, nbytes))
