"""The back end of Pyodide's platform wheel: the core as a side module in Pyodide's own heap.

A side module shares Python's memory, so that the address of a buffer (a NumPy array, a memoryview, bytes) is
an address in the core's memory: nothing is copied in or out. It has one thread. ctypes, which every Pyodide
has built in, loads it and calls it; cffi would be one more package to be served and installed.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError
from . import Allocation
from .abi import FUNCTIONS
from .module import ModuleCore

# addresses are 32-bit numbers here, and stay plain integers
_TYPES: dict[str, Any] = {
    "p": ctypes.c_uint32,
    "e": ctypes.c_uint32,
    "u": ctypes.c_uint32,
    "i": ctypes.c_int32,
    "f": ctypes.c_float,
    "v": None,
}
_SIMPLE = 0  # PyBUF_SIMPLE: contiguous bytes, read-only or not


class _Buffer(ctypes.Structure):
    """CPython's Py_buffer."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)
_release_buffer.restype = None


class BufferAllocation(Allocation):
    """The bytes of a Python object where they are. The object can't be resized until this is freed."""

    def __init__(self, buffer: Any) -> None:
        self._buffer: _Buffer | None = None
        taken = _Buffer()
        _get_buffer(buffer, ctypes.byref(taken), _SIMPLE)  # raises BufferError where it isn't contiguous
        self._buffer = taken
        self.address = taken.buf or 0
        self.nbytes = taken.len

    def free(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            _release_buffer(ctypes.byref(buffer))

    def __del__(self) -> None:
        self.free()


class HeapCore(ModuleCore):
    """See `ruvq.core.Core`."""

    host = "heap"
    shares_memory = True

    def __init__(self, path: Path) -> None:
        """MissingDependencyError where the side module can't be loaded, as without relaxed SIMD."""
        super().__init__()
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise MissingDependencyError(
                "the side module can't be loaded",
                subject=str(path),
                expected="WebAssembly with relaxed SIMD",
                actual=str(error).splitlines()[0],
                hint="use a current Chromium or Firefox",
            ) from error

    def _function(self, name: str) -> Any:
        result, arguments = FUNCTIONS[name]
        function = self._library[name]
        function.restype = _TYPES[result]
        function.argtypes = [_TYPES[letter] for letter in arguments]
        return function

    def _memory(self) -> tuple[str, str]:
        return "Pyodide", "its heap, at most 4 GiB, can't grow by that"

    def alloc(self, nbytes: int) -> Allocation:
        allocation = self._take(nbytes)
        ctypes.memset(allocation.address, 0, nbytes)
        return allocation

    def place(self, buffer: Any) -> Allocation:
        return BufferAllocation(buffer)

    def read(self, address: int, nbytes: int) -> bytes:
        return ctypes.string_at(address, nbytes)

    def write(self, address: int, buffer: Any) -> None:
        with BufferAllocation(buffer) as source:
            ctypes.memmove(address, source.address, source.nbytes)

    def view(self, address: int, nbytes: int) -> memoryview:
        return memoryview((ctypes.c_uint8 * nbytes).from_address(address)).cast("B")
