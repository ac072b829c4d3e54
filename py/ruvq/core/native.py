"""The native back end: libruvq through cffi's ABI mode. Calls release the GIL."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import MemoryLimitError, MissingDependencyError
from . import Allocation, Calls
from .abi import FUNCTIONS

_ALIGNMENT = 64
_MAPPED_FROM = 1 << 20  # larger pieces come from the system, zeroed only when touched


def _has_dot_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether every core of an Arm machine has the dot products of Armv8.2; False where nobody says so."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    features = [line.partition(":")[2].split() for line in lines if line.startswith("Features")]
    return bool(features) and all("asimddp" in names for names in features)


def library_path(folder: Path = Path(__file__).parent / "_native") -> Path:
    """Where the native library is, or should be; on Arm the one that this processor runs fastest."""
    given = os.environ.get("RUVQ_LIBRARY")
    if given:
        return Path(given)
    faster = folder / "libruvq-dotprod.so"
    if faster.is_file() and _has_dot_products():
        return faster
    return folder / {"darwin": "libruvq.dylib", "win32": "ruvq.dll"}.get(sys.platform, "libruvq.so")


def _not_loaded(path: Path, actual: str) -> MissingDependencyError:
    return MissingDependencyError(
        "the native library can't be loaded",
        subject=str(path),
        actual=actual,
        hint="in a checkout run `make native`; otherwise reinstall ruvq for this platform",
    )


class NativeAllocation(Allocation):
    """Holds on to whatever owns the bytes."""

    def __init__(self, core: NativeCore, owner: Any, pointer: Any, address: int, nbytes: int) -> None:
        self._owner = owner
        self._pointer = pointer
        self._ffi = core.ffi
        self.address = address
        self.nbytes = nbytes

    def free(self) -> None:
        pointer, self._pointer = self._pointer, None
        if pointer is not None and isinstance(self._owner, mmap.mmap):
            self._ffi.release(pointer)
        self._owner = None


class NativeCore(Calls):
    """See `ruvq.core.Core`."""

    host = "native"
    shares_memory = True

    def __init__(self) -> None:
        super().__init__()
        path = library_path()
        if not path.is_file():
            raise _not_loaded(path, "no such file")
        try:
            from ._cffi_abi import ffi
        except ImportError as error:
            raise MissingDependencyError(
                "cffi is needed to call the native library", actual=str(error), hint="run `pip install cffi`"
            ) from error
        try:
            self.lib = ffi.dlopen(str(path))
        except OSError as error:
            raise _not_loaded(path, str(error)) from error
        self.ffi = ffi
        self._functions: dict[str, tuple[Any, list[Any]]] = {}

    def _function(self, name: str) -> tuple[Any, list[Any]]:
        if name not in self._functions:
            function = getattr(self.lib, name)
            types = self.ffi.typeof(function).args
            pointers = [t if t.kind == "pointer" else None for t in types]
            self._functions[name] = (function, pointers)
        return self._functions[name]

    def raw(self, name: str, *args: int | float) -> Any:
        function, pointers = self._function(name)
        cast = self.ffi.cast
        result = function(*[a if t is None else cast(t, a) for a, t in zip(args, pointers, strict=True)])
        if FUNCTIONS[name][0] == "p":
            return int(cast("uintptr_t", result))
        return result

    def alloc(self, nbytes: int) -> Allocation:
        try:
            if nbytes >= _MAPPED_FROM:
                owner: Any = mmap.mmap(-1, nbytes)
                pointer = self.ffi.from_buffer(owner)
                start = int(self.ffi.cast("uintptr_t", pointer))
            else:
                owner = pointer = self.ffi.new("uint8_t[]", nbytes + _ALIGNMENT)
                start = int(self.ffi.cast("uintptr_t", pointer))
                start += -start % _ALIGNMENT
        except (OSError, MemoryError, OverflowError) as error:
            raise MemoryLimitError(
                "no memory for the core",
                expected=f"{nbytes} bytes",
                actual=str(error),
                hint="use a smaller model or context",
            ) from error
        return NativeAllocation(self, owner, pointer, start, nbytes)

    def place(self, buffer: Any) -> Allocation:
        pointer = self.ffi.from_buffer(buffer)
        address, nbytes = int(self.ffi.cast("uintptr_t", pointer)), len(pointer)
        if isinstance(buffer, memoryview):
            # the view itself holds the bytes; CPython 3.11 crashes when it collects a cycle with a view
            # that still has a buffer of its own exported
            self.ffi.release(pointer)
            pointer = None
        return NativeAllocation(self, buffer, pointer, address, nbytes)

    def read(self, address: int, nbytes: int) -> bytes:
        return bytes(self.ffi.buffer(self.ffi.cast("char *", address), nbytes))

    def write(self, address: int, buffer: Any) -> None:
        view = memoryview(buffer).cast("B")
        self.ffi.memmove(self.ffi.cast("char *", address), view, view.nbytes)

    def view(self, address: int, nbytes: int) -> memoryview:
        return memoryview(self.ffi.buffer(self.ffi.cast("char *", address), nbytes)).cast("B")
