"""What both back ends of Pyodide share: the core is a WebAssembly module with an allocator of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ..errors import MemoryLimitError
from . import Allocation, Calls


class ModuleAllocation(Allocation):
    """Memory from rq_alloc."""

    def __init__(self, core: ModuleCore, address: int, nbytes: int) -> None:
        self._core: ModuleCore | None = core
        self.address = address
        self.nbytes = nbytes

    def free(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            core.raw("rq_free", self.address)

    def __del__(self) -> None:
        self.free()


class ModuleCore(Calls, ABC):
    """Calls by name, looked up once, and memory by rq_alloc."""

    def __init__(self) -> None:
        super().__init__()
        self._functions: dict[str, Callable[..., Any]] = {}

    @abstractmethod
    def _function(self, name: str) -> Callable[..., Any]:
        """The module's function; addresses that it returns are not negative."""

    @abstractmethod
    def _memory(self) -> tuple[str, str]:
        """Whose memory it is, and how much there is, for the error when there is no more."""

    def raw(self, name: str, *args: int | float) -> Any:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._function(name)
        return function(*args)

    def _take(self, nbytes: int) -> ModuleAllocation:
        """Memory as it is, not zeroed."""
        address = self.raw("rq_alloc", nbytes) if nbytes < 2**32 else 0
        if address == 0:
            owner, there = self._memory()
            raise MemoryLimitError(
                f"{owner} has no more memory",
                expected=f"{nbytes:,} bytes more",
                actual=there,
                hint="use a smaller model or context, or close other tabs",
            )
        return ModuleAllocation(self, address, nbytes)
