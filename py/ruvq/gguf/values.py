"""Metadata values: from the bytes of a file to Python, and which type a Python value is stored as.

Not the place for keys or their meaning; a value is decoded only when somebody asks for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core import CONSTANTS, structs
from ..errors import UsageError

# type id in the file: name
TYPE_NAMES = {
    value: name.removeprefix("RQ_KV_").lower()
    for name, value in CONSTANTS.items()
    if name.startswith("RQ_KV_")
}
TYPE_IDS = {name: value for value, name in TYPE_NAMES.items()}
STRING, ARRAY = TYPE_IDS["string"], TYPE_IDS["array"]
# struct codes of the scalar types
CODES = {
    TYPE_IDS[name]: code
    for name, code in {
        "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i",
        "f32": "f", "bool": "?", "u64": "Q", "i64": "q", "f64": "d",
    }.items()
}  # fmt: skip
_RANGES = {"u32": (0, 2**32), "i32": (-(2**31), 2**31), "i64": (-(2**63), 2**63), "u64": (0, 2**64)}


@dataclass(frozen=True)
class Typed:
    """A value with the type it has, or shall have, in the file: `Typed(7, "u64")`, `Typed([1, 2], "i32")`.

    `type` names a scalar type or "string"; for a list it is the type of the elements.
    """

    value: Any
    type: str

    def __post_init__(self) -> None:
        if TYPE_IDS.get(self.type, ARRAY) == ARRAY:
            scalars = ", ".join(t for t in TYPE_IDS if t != "array")
            raise UsageError("unknown metadata type", subject=self.type, expected=f"one of {scalars}")

    @property
    def is_array(self) -> bool:
        """Whether the value is a list of elements."""
        return isinstance(self.value, (list, tuple))


def _integer_type(values: list[int], choices: tuple[str, ...]) -> str:
    low, high = min(values), max(values)
    for name in choices:
        if _RANGES[name][0] <= low and high < _RANGES[name][1]:
            return name
    raise UsageError("a metadata integer is too large", expected="64 bits", actual=f"{low} to {high}")


def typed(key: str, value: Any) -> Typed:
    """The type that other GGUF tools expect for a Python value: u32 for counts, i32 for arrays of integers,
    f32 for floats. UsageError for anything that GGUF can't hold, such as mixed or nested lists."""
    if isinstance(value, Typed):
        return value
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    integers = (
        ("i32", "u32", "i64", "u64") if isinstance(value, (list, tuple)) else ("u32", "i32", "i64", "u64")
    )
    if items and all(isinstance(v, bool) for v in items):
        return Typed(value, "bool")
    if items and all(isinstance(v, int) and not isinstance(v, bool) for v in items):
        return Typed(value, _integer_type(items, integers))
    if items and all(isinstance(v, float) for v in items):
        return Typed(value, "f32")
    if items and all(isinstance(v, str) for v in items):
        return Typed(value, "string")
    raise UsageError(
        "a metadata value of this kind can't be stored",
        subject=key,
        expected="a bool, int, float, string, or a non-empty list of one of them",
        actual=type(value).__name__,
    )


def _strings(data: bytes | memoryview, count: int) -> Iterator[str]:
    at = 0
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", data, at)
        yield str(data[at + 8 : at + 8 + length], "utf-8")
        at += 8 + length


def decode(kv: dict[str, Any], data: bytes | memoryview) -> Any:
    """One value: `data` holds the `value_bytes` that the parser has validated. Arrays become lists."""
    if kv["type"] == STRING:
        return str(data, "utf-8")
    if kv["type"] != ARRAY:
        return struct.unpack(f"<{CODES[kv['type']]}", data)[0]
    if kv["element_type"] == STRING:
        return list(_strings(data, kv["count"]))
    return list(struct.unpack(f"<{kv['count']}{CODES[kv['element_type']]}", data))


class Metadata(Mapping[str, Any]):
    """A file's metadata, in its order: `metadata["llama.block_count"]`. Values are decoded on access."""

    def __init__(
        self, index: bytes, header: dict[str, Any], read: Callable[[int, int], bytes | memoryview]
    ) -> None:
        self._read = read
        self._kvs: dict[str, dict[str, Any]] = {}
        for kv in structs.unpack_array("rq_gguf_kv", index, header["kv_count"], header["kv_start"]):
            self._kvs[str(read(kv["key_offset"], kv["key_bytes"]), "utf-8")] = kv

    def __getitem__(self, key: str) -> Any:
        kv = self._kvs[key]
        return decode(kv, self._read(kv["value_offset"], kv["value_bytes"]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._kvs)

    def __len__(self) -> int:
        return len(self._kvs)

    def __contains__(self, key: object) -> bool:
        return key in self._kvs

    def raw(self, key: str) -> tuple[int, bytes]:
        """A value's type (of an array: 256 and its elements') and its bytes as they are in the file."""
        kv = self._kvs[key]
        kind = 256 + kv["element_type"] if kv["type"] == ARRAY else kv["type"]
        return kind, bytes(self._read(kv["value_offset"], kv["value_bytes"]))

    def place(self, key: str) -> int:
        """Where the value's bytes begin in the file: a string's text, an array's first element."""
        return self._kvs[key]["value_offset"]

    def typed(self, key: str) -> Typed:
        """The value with its type, as the writer takes it."""
        return Typed(self[key], TYPE_NAMES[self._kvs[key]["element_type"]])

    def describe(self, key: str, longest: int = 100, most: int = 5) -> dict[str, Any]:
        """Type and value for display: texts cut to `longest` characters, arrays to `most` elements."""
        kv = self._kvs[key]
        if kv["type"] != ARRAY:
            value = self[key]
            cut = isinstance(value, str) and len(value) > longest
            return {"type": TYPE_NAMES[kv["type"]], "value": value[:longest] + "…" if cut else value}
        first = dict(kv, count=min(kv["count"], most))
        if kv["element_type"] != STRING:
            first["value_bytes"] = first["count"] * struct.calcsize(f"<{CODES[kv['element_type']]}")
        values = decode(first, self._read(kv["value_offset"], first["value_bytes"]))
        texts = [v[:longest] + "…" if isinstance(v, str) and len(v) > longest else v for v in values]
        return {"type": f"array of {TYPE_NAMES[kv['element_type']]}", "count": kv["count"], "first": texts}
