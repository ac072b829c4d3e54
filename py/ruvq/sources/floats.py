"""Bytes of a float type as float32, through the core, whose decoders every host has."""

from __future__ import annotations

from array import array
from typing import Any

from .. import core, formats
from ..core import CONSTANTS


def to_float32(raw: bytearray, dtype: str, width: int) -> Any:
    """`raw`: rows of `width` numbers of "f64", "f32", "f16" or "bf16", little-endian. Gives a flat memoryview
    of format 'f'. What float32 can't hold becomes infinity, which the caller reports."""
    if dtype == "f32":
        return memoryview(raw).cast("f")
    if dtype == "f64":
        return memoryview(array("f", memoryview(raw).cast("d")))
    backend, entry = core.get(), formats.get(dtype)
    rows = len(raw) // entry.row_bytes(width)
    with backend.place(raw) as source, backend.alloc(4 * rows * width) as out:
        variant = CONSTANTS["RQ_SIMD"]
        backend.call("rq_decode", entry.id, source.address, rows, width, out.address, variant)
        return memoryview(backend.read(out.address, out.nbytes)).cast("f")
