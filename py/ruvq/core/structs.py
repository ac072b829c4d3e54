"""Reads and writes the C interface's structs as bytes, by the generated layouts: no cffi needed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from .abi import STRUCTS

_CODES = {
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
    "f4": "f",
    "f8": "d",
}


def size(name: str) -> int:
    """Bytes of a struct."""
    return STRUCTS[name]["size"]


def unpack(name: str, data: bytes | memoryview, offset: int = 0) -> dict[str, Any]:
    """A struct's fields; arrays as tuples, byte arrays and inner structs as bytes."""
    out: dict[str, Any] = {}
    for field, (at, kind, count) in STRUCTS[name]["fields"].items():
        start = offset + at
        if kind == "u1" and count > 1:
            out[field] = bytes(data[start : start + count])
        elif kind in _CODES:
            values = struct.unpack_from(f"<{count}{_CODES[kind]}", data, start)
            out[field] = values[0] if count == 1 else values
        else:
            out[field] = bytes(data[start : start + count * size(kind)])
    return out


def unpack_array(
    name: str, data: bytes | memoryview, count: int, offset: int = 0
) -> Iterator[dict[str, Any]]:
    """`count` structs in a row."""
    return (unpack(name, data, offset + i * size(name)) for i in range(count))


def pack(name: str, **values: Any) -> bytes:
    """A struct's bytes; fields left out are zero."""
    out = bytearray(size(name))
    fields = STRUCTS[name]["fields"]
    for field, value in values.items():
        at, kind, count = fields[field]
        if isinstance(value, (bytes, bytearray)):
            out[at : at + len(value)] = value
        else:
            items = (value,) if count == 1 else tuple(value)
            struct.pack_into(f"<{len(items)}{_CODES[kind]}", out, at, *items)
    return bytes(out)


def text(field: bytes) -> str:
    """A NUL-terminated UTF-8 field."""
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
