"""A tensor of an ONNX file: its type and shape, and where its bytes lie, in the file or in another of the
folder.

Facts: onnx.proto, TensorProto, and onnx/docs/ExternalData.md.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileFormatError, StorageError
from .files import PieceFile
from .protobuf import Field, WireReader

MAX_DIMS = 8
_FLOATS = {1: ("f32", 4), 10: ("f16", 2), 11: ("f64", 8), 16: ("bf16", 2)}  # TensorProto.DataType
_OTHERS = {  # of the types that are no floats: bytes of a number, 0 for strings
    2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 8: 0, 9: 1, 12: 4, 13: 8, 14: 8, 15: 16, 17: 1, 18: 1, 19: 1, 20: 1,
    21: 0.5, 22: 0.5, 23: 0.5, 24: 1, 25: 0.25, 26: 0.25,
}  # fmt: skip
_TYPED_DATA = {4: 1, 10: 11}  # float_data and double_data are the same bytes as raw ones, when packed
_RAW, _EXTERNAL = 9, 1


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """A tensor: `kind` as TensorProto.DataType; its bytes in `path`, without `start` not as raw ones."""

    name: str
    kind: int
    shape: tuple[int, ...]
    path: Path
    start: int | None
    nbytes: int

    @property
    def item(self) -> int:
        """Bytes of a number, of a float type."""
        return _FLOATS[self.kind][1]

    @property
    def dtype(self) -> str | None:
        """The float type as ruvq names it; None when it isn't one."""
        return _FLOATS[self.kind][0] if self.kind in _FLOATS else None


def damaged(path: Path, message: str, expected: str, actual: str, subject: str = "") -> FileFormatError:
    """What is wrong with a file, or with one of its tensors."""
    return FileFormatError(
        message,
        subject=f"{path}: {subject}" if subject else str(path),
        expected=expected,
        actual=actual,
        hint="the file is damaged or of another kind; download or export it again",
    )


class TensorReader:
    """Reads the tensors of one file; opens those with external data and adds them to `files`."""

    def __init__(self, path: Path, wire: WireReader, files: dict[Path, PieceFile]) -> None:
        self._path, self._wire, self._files = path, wire, files

    def read(self, place: tuple[int, int], name: str) -> OnnxTensor:
        """A TensorProto; `name`: what it is called where it doesn't say."""
        dims: list[int] = []
        kind = location = 0
        data: Field | None = None
        external: dict[str, str] = {}
        for part in self._wire.fields(*place):
            if part.number == 1:
                dims += self._wire.numbers(part, MAX_DIMS)
                if len(dims) > MAX_DIMS:
                    raise self._error("a tensor has too many dimensions", f"at most {MAX_DIMS}", "more", name)
            elif part.number == 2:
                kind = self._wire.number(part)
            elif part.number == 8:
                name = name or self._wire.text(part)
            elif part.number == 14:
                location = self._wire.number(part)
            elif part.number == 13:
                key, value = self._wire.pair(part)
                external[key] = self._wire.text(value) if value else ""
            elif part.number == _RAW or _TYPED_DATA.get(part.number) == kind:
                if data is not None:
                    raise self._error("a tensor's data is given twice", "one field of data", "two", name)
                data = part
        if kind not in _FLOATS and kind not in _OTHERS:
            raise self._error("a tensor's type is unknown", "a TensorProto.DataType", str(kind), name)
        if any(not 0 <= n < 1 << 62 for n in dims) or math.prod(dims) >= 1 << 60:
            raise self._error("a tensor's shape is unusable", "whole numbers", str(dims)[:80], name)
        item = _FLOATS[kind][1] if kind in _FLOATS else _OTHERS[kind]
        nbytes = math.ceil(math.prod(dims) * item)
        if location == _EXTERNAL:
            if data is not None:
                raise self._error("a tensor's data is given twice", "external data alone", "both", name)
            path, start = self._external(external, nbytes, name)
            return OnnxTensor(name, kind, tuple(dims), path, start, nbytes)
        if location:
            raise self._error("a tensor's data lies nowhere known", "location 0 or 1", str(location), name)
        if data is None:  # numbers one by one, or none at all: never weights of a decoder
            return OnnxTensor(name, kind, tuple(dims), self._path, None, nbytes)
        begin, end = self._wire.message(data)
        if end - begin != nbytes and kind != 8:
            raise self._error(
                "a tensor's shape doesn't fit its data", f"{nbytes} bytes", f"{end - begin}", name
            )
        return OnnxTensor(name, kind, tuple(dims), self._path, begin, nbytes)

    def _external(self, entries: dict[str, str], nbytes: int, name: str) -> tuple[Path, int]:
        """The file and the place of external data, inside the model's folder."""
        path = self._inside(entries.get("location", ""), name)
        if path not in self._files:
            self._files[path] = PieceFile(path)
        offset = self._whole(entries.get("offset", "0"), "offset", name)
        length = self._whole(entries.get("length", str(nbytes)), "length", name)
        if length != nbytes:
            raise self._error("a tensor's shape doesn't fit its data", f"{nbytes} bytes", f"{length}", name)
        size = self._files[path].size
        if offset > size or length > size - offset:
            raise self._error(
                "a tensor's data lies outside its file",
                f"at most {size} bytes of {path.name}",
                f"{length} bytes at {offset}",
                name,
            )
        return path, offset

    def _whole(self, text: str, key: str, name: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 19:
            raise self._error(
                f"the {key} of external data is unusable", "a whole number", repr(text)[:40], name
            )
        return int(text)

    def _inside(self, location: str, name: str) -> Path:
        """A regular file in or below the folder of the model, links followed on both sides: where a model is
        a link, as in Hugging Face's cache, its data lies beside what the link names."""
        parts = location.split("/")
        if not location or set(location) & set("\\\0:") or {"", ".."} & set(parts):
            raise self._error(
                "external data points outside the model's folder",
                "a relative path inside it",
                repr(location)[:80],
                name,
            )
        path = self._path.parent.joinpath(*parts)
        try:
            folder = os.path.realpath(self._path.parent), os.path.dirname(os.path.realpath(self._path))
            real = os.path.realpath(path, strict=True)
            mode = os.stat(real).st_mode
        except OSError as error:
            raise StorageError(
                "a tensor's external data can't be opened",
                subject=f"{self._path}: {name}",
                expected=f"the file {location!r:.80} beside the model",
                actual=error.strerror or str(error),
                hint="download the rest of the model",
            ) from error
        if not any(os.path.commonpath([real, f]) == f for f in folder):
            raise self._error(
                "external data points outside the model's folder",
                "a file inside it, links followed",
                repr(location)[:80],
                name,
            )
        if not stat.S_ISREG(mode):
            raise self._error("external data is no file", "a regular file", repr(location)[:80], name)
        return path

    def _error(self, message: str, expected: str, actual: str, name: str) -> FileFormatError:
        return damaged(self._path, message, expected, actual, name)
