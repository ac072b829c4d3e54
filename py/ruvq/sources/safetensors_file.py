"""A safetensors file: its header validated as a hostile one would need, its tensors read by rows.

Layout (huggingface/safetensors): u64 header length, a JSON header name -> {dtype, shape, data_offsets},
then the data, without gaps or overlaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from .files import PieceFile, parse_json_object
from .floats import to_float32

MAX_HEADER_BYTES = 32 << 20  # 126 layers of the largest llama need 0.2 MB
MAX_DIMS = 8
_DTYPES = {"F64": ("f64", 8), "F32": ("f32", 4), "F16": ("f16", 2), "BF16": ("bf16", 2)}
_OTHER_DTYPES = {  # known to the format, but not floats that can be quantized
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "I32": 4,
    "U32": 4, "I64": 8, "U64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor: `dtype` as in the file, `start` from the file's first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


class SafetensorsFile:
    """An opened file. FileFormatError says what is wrong with its header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = PieceFile(path)
        try:
            self.entries, self.metadata = self._validate()
        except BaseException:
            self.file.close()
            raise

    def _error(self, message: str, expected: str, actual: str, subject: str = "") -> FileFormatError:
        where = f"{self.path}: {subject}" if subject else str(self.path)
        return FileFormatError(
            message,
            subject=where,
            expected=expected,
            actual=actual,
            hint="the file is damaged or of another kind; download or export it again",
        )

    def _validate(self) -> tuple[dict[str, Entry], dict[str, Any]]:
        size = self.file.size
        head = bytes(self.file.read(0, min(size, 9)))
        if size < 10:
            raise self._error("not a safetensors file", "at least 10 bytes", f"{size} bytes")
        length = int.from_bytes(head[:8], "little")
        if head[8:9] != b"{":
            raise self._error("not a safetensors file", "a JSON header", describe_start(head))
        if length > MAX_HEADER_BYTES:
            raise self._error(
                "the header is too long", f"at most {MAX_HEADER_BYTES} bytes", f"{length} bytes"
            )
        if length > size - 8:
            raise self._error(
                "the header doesn't fit into the file", f"at most {size - 8} bytes", f"{length}"
            )
        header = parse_json_object(self.file.read(8, length), f"{self.path}: header")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise self._error("__metadata__ is not an object", "an object", type(metadata).__name__)
        entries = {name: self._entry(name, value, 8 + length, size) for name, value in header.items()}
        position = 8 + length
        for entry in sorted(entries.values(), key=lambda e: (e.start, e.start + e.nbytes)):
            if entry.start != position:
                kind = "overlaps the one before it" if entry.start < position else "leaves a gap before it"
                raise self._error(
                    f"a tensor's data {kind}", f"offset {position}", f"offset {entry.start}", entry.name
                )
            position += entry.nbytes
        if position != size:
            raise self._error("the data's length is wrong", f"{position} bytes in all", f"{size} bytes")
        return entries, metadata

    def _entry(self, name: str, value: Any, data: int, size: int) -> Entry:
        if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
            raise self._error(
                "a tensor's entry is incomplete", "dtype, shape, data_offsets", repr(value)[:80], name
            )
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or (dtype not in _DTYPES and dtype not in _OTHER_DTYPES):
            raise self._error("a tensor's dtype is unknown", ", ".join(_DTYPES), repr(dtype)[:40], name)
        if not _whole_numbers(shape) or len(shape) > MAX_DIMS:
            raise self._error(
                "a tensor's shape is unusable", "a list of whole numbers", repr(shape)[:80], name
            )
        if not _whole_numbers(offsets) or len(offsets) != 2:
            raise self._error("a tensor's offsets are unusable", "[begin, end]", repr(offsets)[:80], name)
        begin, end = offsets
        if not begin <= end <= size - data:
            raise self._error(
                "a tensor's data lies outside the file", f"offsets up to {size - data}", str(offsets), name
            )
        item = _DTYPES[dtype][1] if dtype in _DTYPES else _OTHER_DTYPES[dtype]
        if math.prod(shape) * item != end - begin:
            raise self._error(
                "a tensor's shape doesn't fit its data",
                f"{math.prod(shape) * item} bytes",
                f"{end - begin}",
                name,
            )
        return Entry(name, dtype, tuple(shape), data + begin, end - begin)

    def dtype(self, name: str) -> str:
        """The float type's name as ruvq writes it; FileFormatError when it isn't a float type."""
        entry = self.entries[name]
        if entry.dtype not in _DTYPES:
            raise FileFormatError(
                "a tensor isn't stored in floats",
                subject=f"{self.path}: {name}",
                expected=", ".join(_DTYPES),
                actual=entry.dtype,
                hint="this checkpoint is already quantized; start from the float one",
            )
        return _DTYPES[entry.dtype][0]

    def rows(self, name: str, first: int, last: int) -> Any:
        """Rows [first, last) as float32, one after the other; a vector has one row."""
        entry, dtype = self.entries[name], self.dtype(name)
        width, item = entry.shape[-1], _DTYPES[entry.dtype][1]
        raw = self.file.read(entry.start + first * width * item, (last - first) * width * item)
        return to_float32(raw, dtype, width)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def describe_start(head: bytes) -> str:
    """What a file seems to be, from its first bytes."""
    kinds = {
        b"GGUF": "a GGUF file",
        b"PK\x03\x04": "a zip archive (PyTorch's pickle format, perhaps)",
        b"\x80\x02": "a Python pickle",
        b"\x1f\x8b": "a gzip file",
        b"version ": "a Git LFS pointer, not the file itself",
    }
    for magic, kind in kinds.items():
        if head.startswith(magic):
            return kind
    if head.lstrip()[:1] == b"<":
        return "an HTML page"
    return f"a file that starts with {head[:8].hex(' ')}"


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 62 for v in values
    )
