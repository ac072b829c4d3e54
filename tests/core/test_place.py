"""Buffers placed in the core's memory: what holds them, and for how long."""

from __future__ import annotations

import gc
from typing import Any

from ruvq import core


class Holder:
    """An object in a reference cycle with itself."""

    def __init__(self, **attributes: Any) -> None:
        self.itself = self
        self.__dict__.update(attributes)


def test_a_placed_memoryview_may_be_garbage_in_a_cycle() -> None:
    """CPython 3.11 crashes when it collects a memoryview whose buffer somebody else still exports."""
    for _ in range(3):
        view = memoryview(bytes(1000))
        Holder(keep=(core.get().place(view), view))
        Holder(keep=(view, core.get().place(view)))
        del view
        gc.collect()


def test_a_placed_bytearray_keeps_its_size() -> None:
    data = bytearray(b"abc")
    with core.get().place(memoryview(data)) as place:
        assert core.get().read(place.address, place.nbytes) == b"abc"
