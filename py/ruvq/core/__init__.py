"""The C core, reached through one of three small back ends; the only place that knows which one.

`get()` gives the back end of this host: the native library through cffi on the desktop; in Pyodide a side
module in Python's own heap (the platform wheel), or the stand-alone WebAssembly module through JavaScript
(the pure wheel, and where the side module doesn't run). Addresses and sizes are plain integers. A function
whose first C argument is `rq_error *` is called without it; a negative result raises the exception
of `ruvq.errors` that belongs to the code, with its details.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from .. import errors
from . import structs
from .abi import CONSTANTS, ERRORS, FUNCTIONS

__all__ = ["CONSTANTS", "Allocation", "Core", "get", "structs"]


class Allocation(ABC):
    """A piece of the core's memory. Freed by `free()`, by leaving a `with`, or with the object."""

    address: int
    nbytes: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.address + self.nbytes

    @abstractmethod
    def free(self) -> None:
        """Gives the memory back; the address must not be used afterwards. May be called twice."""

    def __enter__(self) -> Allocation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.free()


class Core(Protocol):
    """What a back end offers."""

    host: str  # "native", "heap" or "wasm"
    shares_memory: bool  # whether the core sees Python's own memory

    def raw(self, name: str, *args: int | float) -> Any:
        """Calls the C function as it is, rq_error pointer included; nothing is raised."""

    def alloc(self, nbytes: int) -> Allocation:
        """Zeroed memory, 64-byte aligned. MemoryLimitError when there is none."""

    def place(self, buffer: Any) -> Allocation:
        """The bytes of any C-contiguous buffer where the core can read them: in place where it shares
        Python's memory, else copied into the module's."""

    def read(self, address: int, nbytes: int) -> bytes:
        """A copy of memory."""

    def write(self, address: int, buffer: Any) -> None:
        """Copies a C-contiguous buffer into memory."""

    def view(self, address: int, nbytes: int) -> memoryview:
        """The bytes as a memoryview: the memory itself where the core shares Python's, else a copy."""

    def call(self, name: str, *args: int | float) -> Any:
        """Calls a function and raises on a negative result; see the module's docstring."""


class Calls:
    """`call`, for all back ends, on top of `raw`, `alloc` and `read`."""

    def __init__(self) -> None:
        self._local = threading.local()

    def call(self, name: str, *args: int | float) -> Any:
        result, arguments = FUNCTIONS[name]
        takes_error = arguments.startswith("e")
        code = self.raw(name, self._error_address(), *args) if takes_error else self.raw(name, *args)  # type: ignore[attr-defined]
        if result == "i" and code < 0:
            raise self._exception(code, takes_error)
        return code

    def _error_address(self) -> int:
        """One rq_error a thread."""
        if not hasattr(self._local, "error"):
            self._local.error = self.alloc(structs.size("rq_error"))  # type: ignore[attr-defined]
        return self._local.error.address

    def _exception(self, code: int, detailed: bool) -> errors.RuvqError:
        name, meaning = ERRORS.get(code, (f"error {code}", f"the core returned the unknown code {code}"))
        details: dict[str, str] = {}
        if detailed:
            raw = structs.unpack("rq_error", self.read(self._error_address(), structs.size("rq_error")))  # type: ignore[attr-defined]
            if raw["code"] == code:
                details = {f: structs.text(raw[f]) for f in ("subject", "expected", "actual", "hint")}
        return errors.for_code(name)(meaning, code=name, **details)


_core: Core | None = None
_lock = threading.Lock()


def _candidates() -> Iterator[Callable[[], Core]]:
    """What this host may have, best first. The last one's errors are the host's."""
    if sys.platform != "emscripten":
        from .native import NativeCore

        yield NativeCore
        return
    from . import wasm

    side = Path(__file__).parent / "_side" / "ruvq-relaxed.wasm"
    if side.is_file():  # in the platform wheel
        from .heap import HeapCore

        yield partial(HeapCore, side)
    yield from (partial(wasm.WasmCore, path) for path in wasm.module_paths())


def _checked(core: Core) -> Core:
    if core.raw("rq_abi_version") != CONSTANTS["RQ_ABI_VERSION"]:
        raise errors.MissingDependencyError(
            "the core library is of another version than the Python package",
            expected=f"interface version {CONSTANTS['RQ_ABI_VERSION']}",
            actual=str(core.raw("rq_abi_version")),
            hint="run `make native` in a checkout, or reinstall ruvq",
        )
    core.call("rq_self_test")
    return core


def get() -> Core:
    """The back end of this host, made and self-tested on first use.

    Raises MissingDependencyError when the native library or cffi isn't there, SelfTestError when a
    kernel gives wrong results on this machine.
    """
    global _core
    with _lock:
        if _core is None:
            *others, last = _candidates()
            for make in others:  # what this browser can't run, or computes otherwise, is passed over
                with suppress(errors.MissingDependencyError, errors.SelfTestError):
                    _core = _checked(make())
                    return _core
            _core = _checked(last())
    return _core
