"""Class 21: safetensors files with headers that lie. (Folders whose parts belong to different models, a
tokenizer.json of another model among them, are in tests/sources/test_sources_refused.py: they are no single
file.)"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from attacks.case import Case

MOST_HEADER_BYTES = 32 << 20  # what ruvq.sources.safetensors_file allows


def packed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "at least 10 bytes"),
    "length only": (struct.pack("<Q", 2), "at least 10 bytes"),
    "header of 100 MB": (struct.pack("<Q", 100_000_000) + b"{}" + bytes(64), f"at most {MOST_HEADER_BYTES}"),
    "header of 2^63": (struct.pack("<Q", 1 << 63) + b"{}" + bytes(64), "at most"),
    "header past the end": (struct.pack("<Q", 1000) + b"{}" + bytes(64), "doesn't fit"),
    "not JSON": (packed(b"{nonsense}"), "not a JSON object"),
    "not UTF-8": (packed(b'{"\xff": 1}'), "not a JSON object"),
    "nested too deep": (packed(b'{"a":' * 200_000), "not a JSON object"),
    "an HTML page": (b"<!doctype html><html><body>not found</body></html>", "an HTML page"),
    "a zip archive": (b"PK\x03\x04" + bytes(60), "zip archive"),
    "key twice": (packed(b'{"a":1,"a":2}'), "appears twice"),
    "entry not an object": (packed({"a": 7}), "incomplete"),
    "entry without offsets": (packed({"a": {"dtype": "F32", "shape": [1]}}), "incomplete"),
    "unknown dtype": (packed({"a": entry(0, 4, dtype="F99")}, bytes(4)), "dtype is unknown"),
    "dtype a list": (
        packed({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        "dtype is unknown",
    ),
    "negative dimension": (packed({"a": entry(0, 4, [-1])}, bytes(4)), "shape is unusable"),
    "dimension a float": (packed({"a": entry(0, 4, [1.0])}, bytes(4)), "shape is unusable"),
    "dimension true": (packed({"a": entry(0, 4, [True])}, bytes(4)), "shape is unusable"),
    "dimension of 2^70": (packed({"a": entry(0, 4, [1 << 70])}, bytes(4)), "shape is unusable"),
    "nine dimensions": (packed({"a": entry(0, 4, [1] * 9)}, bytes(4)), "shape is unusable"),
    "product that wraps": (packed({"a": entry(0, 4, [1 << 33, 1 << 31])}, bytes(4)), "doesn't fit its data"),
    "end before begin": (
        packed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        "outside",
    ),
    "negative begin": (
        packed({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-4, 4]}}, bytes(4)),
        "unusable",
    ),
    "end past the file": (packed({"a": entry(0, 8)}, bytes(4)), "outside the file"),
    "three offsets": (
        packed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(8)),
        "unusable",
    ),
    "overlap": (packed({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "overlaps"),
    "same bytes twice": (packed({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)), "overlaps"),
    "gap": (packed({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "gap"),
    "gap at the start": (packed({"a": entry(4, 8)}, bytes(8)), "gap"),
    "bytes left over": (packed({"a": entry(0, 4)}, bytes(8)), "length is wrong"),
    "metadata a list": (packed({"__metadata__": [], "a": entry(0, 4)}, bytes(4)), "not an object"),
}

ACCEPTED: dict[str, bytes] = {
    "no tensors": packed({}),
    "padded header": packed(b"{}" + b" " * 300),
    "metadata": packed({"__metadata__": {"format": "pt"}, "a": entry(0, 4)}, bytes(4)),
    "out of order": packed({"b": entry(4, 8), "a": entry(0, 4)}, bytes(8)),
    "a scalar and an empty one": packed({"scalar": entry(0, 4, []), "none": entry(4, 4, [0, 3])}, bytes(4)),
    "integers": packed({"i": entry(0, 8, [1], "I64")}, bytes(8)),
}


def safetensors() -> Iterator[Case]:
    for name, (data, says) in HOSTILE.items():
        yield Case(f"safetensors-{name.replace(' ', '-')}", 21, data, "", says, "safetensors")
    for name, data in ACCEPTED.items():
        yield Case(f"ok-safetensors-{name.replace(' ', '-')}", 0, data, None, stage="safetensors")


GENERATORS = (safetensors,)
