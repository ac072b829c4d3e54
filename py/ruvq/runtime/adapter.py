"""LoRA adapters beside a model: small GGUF files that change what it computes, and come off again.

adapter = model.load_adapter("pirate.gguf", scale=0.8)
adapter.scale = 0.4
model.unload_adapter()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import core
from ..errors import RuvqError, UsageError
from ..gguf import GGUFFile

if TYPE_CHECKING:
    from ..core import Allocation
    from ..gguf.reader import GGUFInput
    from .engine import Engine
    from .generation import Generation

__all__ = ["Adapter", "Adapting"]


class Adapter:
    """An adapter that a model computes with. Made by `Model.load_adapter`.

    Attributes: `name` (as the file says), `nbytes` (memory that it takes, beside the model's)."""

    def __init__(self, model: Adapting, name: str, memory: Allocation) -> None:
        self._model: Adapting | None = model
        self._memory = memory
        self._scale = 0.0
        self.name = name
        self.nbytes = memory.nbytes

    @property
    def scale(self) -> float:
        """What its products are multiplied by, beside alpha / rank. Setting it makes the model forget all
        tokens; UsageError for NaN or infinity, and after `unload`."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        if self._model is None:
            raise UsageError("the adapter is unloaded", subject=self.name, hint="load it again")
        self._model._forget()
        core.get().call("rq_adapter_apply", self._memory.address, float(value))
        self._scale = float(value)

    def unload(self) -> None:
        """The model computes without it from now on. May be called twice."""
        if self._model is not None:
            self._model.unload_adapter(self)

    def _release(self) -> None:
        if self._model is not None:
            core.get().call("rq_adapter_remove", self._memory.address)
            self._memory.free()
            self._model = None

    def __repr__(self) -> str:
        return f"<Adapter {self.name}: {'unloaded' if self._model is None else self._scale}>"


class Adapting:
    """What Model has for adapters."""

    if TYPE_CHECKING:
        last: Generation | None

        def _open_engine(self) -> Engine: ...

        def reset(self) -> None: ...

    _adapters: tuple[Adapter, ...] = ()

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Those that the model computes with, in the order in which they were loaded."""
        return self._adapters

    def load_adapter(
        self, source: GGUFInput, scale: float = 1.0, *, sha256: str | None = None, verify: bool = False
    ) -> Adapter:
        """Computes with a LoRA adapter from now on: y = W x + scale alpha / rank B (A x).

        `source`: a GGUF file in llama.cpp's layout (general.type "adapter"), a path, bytes or a binary file,
        as for `open`; it isn't needed afterwards. Adapters loaded before stay, and the products of all are
        added. The model forgets all tokens, and a generation that runs ends. Raises ModelError for an adapter
        of another base (its architecture, names or shapes don't fit) and for a file that is none, DataError
        for NaN, and what `open` raises for damaged files. `sha256`, `verify`: as in `open`."""
        model = self._open_engine().address
        backend = core.get()
        with GGUFFile.open(source) as file:
            if sha256 is not None:
                file.check_sha256(sha256)
            if verify:
                file.verify().raise_first()
            where = (file.index_address, file.data_address, model)
            try:
                with backend.alloc(8) as size:
                    backend.call("rq_adapter_measure", *where, size.address)
                    memory = backend.alloc(int.from_bytes(backend.read(size.address, 8), "little"))
                try:
                    backend.call("rq_adapter_open", *where, memory.address, memory.end)
                except BaseException:
                    memory.free()
                    raise
            except RuvqError as error:
                error.subject = ": ".join(part for part in (file.subject, error.subject) if part)
                raise
            name = file.metadata.get("general.name", "")
        adapter = Adapter(self, name if isinstance(name, str) else "", memory)
        try:
            adapter.scale = scale
        except BaseException:
            memory.free()
            raise
        self._adapters += (adapter,)
        return adapter

    def unload_adapter(self, adapter: Adapter | None = None) -> None:
        """Computes without this adapter, or without any. The model forgets all tokens."""
        self._forget()
        for one in self._adapters if adapter is None else (adapter,):
            one._release()
        self._adapters = tuple(a for a in self._adapters if adapter is not None and a is not adapter)

    def _forget(self) -> None:
        """Ends a generation that runs: what the KV cache holds is of the model as it was."""
        if self.last is not None:
            self.last.close()
        self.reset()
