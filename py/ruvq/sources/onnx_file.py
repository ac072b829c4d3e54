"""An ONNX file: its nodes and where its tensors lie, validated as a hostile one would need.

Facts of the layout: onnx/onnx.proto and docs/ExternalData.md. Weights stay where they are, in the file itself
or in others of its folder, and are read by rows. The `onnx` package isn't needed for that: it would load
embedded weights as a whole. What the graph means is onnx_graph.py's matter.
"""

from __future__ import annotations

import itertools
import math
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, StorageError
from .files import PieceFile
from .floats import to_float32
from .protobuf import BYTES, FIXED32, Field, WireReader

MAX_DIMS = 8
MAX_DEPTH = 8  # of graphs inside nodes of graphs
MAX_NODES = 200_000
MAX_TENSORS = 100_000
MAX_NODE_EDGES = 4096  # inputs, and outputs, of a node
MAX_LIST = 4096  # numbers of an attribute
MAX_METADATA_BYTES = 64 << 20
_FLOATS = {1: ("f32", 4), 10: ("f16", 2), 11: ("f64", 8), 16: ("bf16", 2)}  # TensorProto.DataType
_OTHERS = {  # of the types that are no floats: bytes of a number, 0 for strings
    2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 8: 0, 9: 1, 12: 4, 13: 8, 14: 8, 15: 16, 17: 1, 18: 1, 19: 1, 20: 1,
    21: 0.5, 22: 0.5, 23: 0.5, 24: 1, 25: 0.25, 26: 0.25,
}  # fmt: skip
_TYPED_DATA = {4: 1, 10: 11}  # float_data and double_data are the same bytes as raw ones, when packed
_RAW, _EXTERNAL = 9, 1


@dataclass(frozen=True)
class OnnxTensor:
    """A tensor: `kind` as TensorProto.DataType; its bytes in `path`, without `start` not as raw ones."""

    name: str
    kind: int
    shape: tuple[int, ...]
    path: Path
    start: int | None
    nbytes: int

    @property
    def dtype(self) -> str | None:
        """The float type as ruvq names it; None when it isn't one."""
        return _FLOATS[self.kind][0] if self.kind in _FLOATS else None


@dataclass(frozen=True)
class Node:
    """A node: `op` with its domain before it unless that is ONNX's own; `numbers`, `lists`: attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    lists: dict[str, list[int]] = field(default_factory=dict)
    scopes: str = ""  # where torch's newer exporter keeps the module's name


class OnnxFile:
    """An opened file. FileFormatError says what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: list[Node] = []
        self.tensors: dict[str, OnnxTensor] = {}
        self.functions = 0
        self._metadata: dict[str, Field] = {}
        self._files = {path: PieceFile(path)}
        self._wire = WireReader(self._files[path])
        try:
            self._read_model()
            self._check_overlaps()
        except BaseException:
            self.close()
            raise

    @property
    def files(self) -> list[Path]:
        """The file itself, and those with external data."""
        return list(self._files)

    def metadata(self, key: str) -> bytes | None:
        """A value of the model's metadata_props."""
        place = self._metadata.get(key)
        return None if place is None else self._wire.bytes_of(place, MAX_METADATA_BYTES)

    def rows(self, tensor: OnnxTensor, first: int, last: int) -> Any:
        """Rows [first, last) as float32, one after the other; a vector has one row."""
        width, item = tensor.shape[-1], _FLOATS[tensor.kind][1]
        raw = self._read(tensor, first * width * item, (last - first) * width * item)
        return to_float32(raw, _FLOATS[tensor.kind][0], width)

    def columns(self, tensor: OnnxTensor, first: int, last: int) -> bytes:
        """Columns [first, last) of a matrix as float32, one after the other: rows of its transpose."""
        (height, width), count = tensor.shape, last - first
        dtype, item = _FLOATS[tensor.kind]
        raw = bytearray()
        for row in range(height):
            raw += self._read(tensor, (row * width + first) * item, count * item)
        values = memoryview(to_float32(raw, dtype, count)).cast("B").cast("f")
        return b"".join([values[column::count].tobytes() for column in range(count)])

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def error(self, message: str, expected: str, actual: str, subject: str = "") -> FileFormatError:
        """What is wrong with the file, or with one of its tensors."""
        return FileFormatError(
            message,
            subject=f"{self.path}: {subject}" if subject else str(self.path),
            expected=expected,
            actual=actual,
            hint="the file is damaged or of another kind; download or export it again",
        )

    def _read(self, tensor: OnnxTensor, offset: int, nbytes: int) -> bytearray:
        assert tensor.start is not None
        return self._files[tensor.path].read(tensor.start + offset, nbytes)

    # ---- the model and its graphs ----

    def _read_model(self) -> None:
        size, graph = self._wire.file.size, None
        for part in self._wire.fields(0, size):
            if part.number == 7:
                if graph is not None:
                    raise self.error("the model has two graphs", "one", "two")
                graph = self._message(part)
            elif part.number == 14:
                key, value = self._pair(part)
                if value is not None:
                    self._metadata[key] = value
            elif part.number == 25:
                self.functions += 1
        if graph is None:
            raise self.error("not an ONNX model", "a graph", "an empty file" if size == 0 else "none")
        self._read_graph(graph, 0)

    def _read_graph(self, place: tuple[int, int], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.error("graphs are nested too deep", f"at most {MAX_DEPTH}", "more")
        here: set[str] = set()
        for part in self._wire.fields(*place):
            if part.number == 1:
                self._read_node(self._message(part), depth)
            elif part.number == 5:
                tensor = self._tensor(self._message(part), "")
                if tensor.name in here:
                    raise self.error("a tensor appears twice", "each once", tensor.name[:80])
                here.add(tensor.name)
                self._keep(tensor)
            elif part.number == 15:
                raise self.error("sparse tensors aren't read", "dense initializers", "a sparse one")

    def _keep(self, tensor: OnnxTensor) -> None:
        """Branches of an If may each have a tensor of the same name: then it is the same."""
        other = self.tensors.setdefault(tensor.name, tensor)
        if (other.shape, other.kind) != (tensor.shape, tensor.kind):
            raise self.error(
                "two tensors have one name", f"shape {other.shape}", f"{tensor.shape}", tensor.name
            )
        if len(self.tensors) > MAX_TENSORS:
            raise self.error("too many tensors", f"at most {MAX_TENSORS}", "more")

    def _read_node(self, place: tuple[int, int], depth: int) -> None:
        texts: dict[int, str] = {3: "", 4: "", 7: ""}
        edges: dict[int, list[str]] = {1: [], 2: []}
        numbers: dict[str, float] = {}
        lists: dict[str, list[int]] = {}
        scopes, values = "", []
        for part in self._wire.fields(*place):
            if part.number in texts:
                texts[part.number] = self._wire.text(part)
            elif part.number in edges:
                edges[part.number].append(self._wire.text(part))
                if len(edges[part.number]) > MAX_NODE_EDGES:
                    raise self.error(
                        "a node has too many edges", f"at most {MAX_NODE_EDGES}", "more", texts[3]
                    )
            elif part.number == 5:
                values += self._attribute(self._message(part), numbers, lists, depth)
            elif part.number == 9 and not scopes:
                key, value = self._pair(part)
                if key == "pkg.torch.onnx.name_scopes" and value is not None:
                    scopes = self._wire.text(value)
        op = texts[4] if texts[7] in ("", "ai.onnx") else f"{texts[7]}.{texts[4]}"
        self.nodes.append(Node(op, texts[3], tuple(edges[1]), tuple(edges[2]), numbers, lists, scopes))
        if len(self.nodes) > MAX_NODES:
            raise self.error("too many nodes", f"at most {MAX_NODES}", "more")
        if op == "Constant" and values and edges[2]:
            self._keep(self._tensor(values[0], edges[2][0]))

    def _attribute(
        self, place: tuple[int, int], numbers: dict[str, float], lists: dict[str, list[int]], depth: int
    ) -> list[tuple[int, int]]:
        """Adds what an attribute holds; gives the places of its tensors."""
        name, tensors = "", []
        number: float | None = None
        many: list[int] = []
        for part in self._wire.fields(*place):
            if part.number == 1:
                name = self._wire.text(part)
            elif part.number == 2 and part.wire == FIXED32:
                number = struct.unpack("<f", part.value.to_bytes(4, "little"))[0]
            elif part.number == 3:
                number = self._wire.number(part)
            elif part.number == 5:
                tensors.append(self._message(part))
            elif part.number in (6, 11):
                self._read_graph(self._message(part), depth + 1)
            elif part.number == 8 and len(many) < MAX_LIST:
                many += self._wire.numbers(part, MAX_LIST)
        if number is not None:
            numbers[name] = number
        if many:
            lists[name] = many
        return tensors

    def _message(self, part: Field) -> tuple[int, int]:
        if part.wire != BYTES:
            raise self.error("a field has another type", "a message", f"wire type {part.wire}")
        return part.value, part.value + part.nbytes

    def _pair(self, part: Field) -> tuple[str, Field | None]:
        """Key and value of a StringStringEntryProto."""
        key, value = "", None
        for inner in self._wire.fields(*self._message(part)):
            if inner.number == 1:
                key = self._wire.text(inner)
            elif inner.number == 2:
                value = inner
        return key, value

    # ---- tensors ----

    def _tensor(self, place: tuple[int, int], name: str) -> OnnxTensor:
        dims: list[int] = []
        kind = location = 0
        data: Field | None = None
        external: dict[str, str] = {}
        for part in self._wire.fields(*place):
            if part.number == 1:
                dims += self._wire.numbers(part, MAX_DIMS)
                if len(dims) > MAX_DIMS:
                    raise self.error("a tensor has too many dimensions", f"at most {MAX_DIMS}", "more", name)
            elif part.number == 2:
                kind = self._wire.number(part)
            elif part.number == 8:
                name = name or self._wire.text(part)
            elif part.number == 14:
                location = self._wire.number(part)
            elif part.number == 13:
                key, value = self._pair(part)
                external[key] = self._wire.text(value) if value else ""
            elif part.number == _RAW or _TYPED_DATA.get(part.number) == kind:
                if data is not None:
                    raise self.error("a tensor's data is given twice", "one field of data", "two", name)
                data = part
        if kind not in _FLOATS and kind not in _OTHERS:
            raise self.error("a tensor's type is unknown", "a TensorProto.DataType", str(kind), name)
        if any(not 0 <= n < 1 << 62 for n in dims) or math.prod(dims) >= 1 << 60:
            raise self.error("a tensor's shape is unusable", "whole numbers", str(dims)[:80], name)
        item = _FLOATS[kind][1] if kind in _FLOATS else _OTHERS[kind]
        nbytes = math.ceil(math.prod(dims) * item)
        if location == _EXTERNAL:
            if data is not None:
                raise self.error("a tensor's data is given twice", "external data alone", "both", name)
            path, start = self._external(external, nbytes, name)
            return OnnxTensor(name, kind, tuple(dims), path, start, nbytes)
        if location:
            raise self.error("a tensor's data lies nowhere known", "location 0 or 1", str(location), name)
        if data is None:  # numbers one by one, or none at all: never weights of a decoder
            return OnnxTensor(name, kind, tuple(dims), self.path, None, nbytes)
        begin, end = self._message(data)
        if end - begin != nbytes and kind != 8:
            raise self.error(
                "a tensor's shape doesn't fit its data", f"{nbytes} bytes", f"{end - begin}", name
            )
        return OnnxTensor(name, kind, tuple(dims), self.path, begin, nbytes)

    def _external(self, entries: dict[str, str], nbytes: int, name: str) -> tuple[Path, int]:
        """The file and the place of external data, inside the model's folder."""
        path = self._inside(entries.get("location", ""), name)
        if path not in self._files:
            self._files[path] = PieceFile(path)
        offset = self._whole(entries.get("offset", "0"), "offset", name)
        length = self._whole(entries.get("length", str(nbytes)), "length", name)
        if length != nbytes:
            raise self.error("a tensor's shape doesn't fit its data", f"{nbytes} bytes", f"{length}", name)
        size = self._files[path].size
        if offset > size or length > size - offset:
            raise self.error(
                "a tensor's data lies outside its file",
                f"at most {size} bytes of {path.name}",
                f"{length} bytes at {offset}",
                name,
            )
        return path, offset

    def _whole(self, text: str, key: str, name: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 19:
            raise self.error(
                f"the {key} of external data is unusable", "a whole number", repr(text)[:40], name
            )
        return int(text)

    def _inside(self, location: str, name: str) -> Path:
        """A regular file in or below the folder of the model, links followed on both sides: where a model is
        a link, as in Hugging Face's cache, its data lies beside what the link names."""
        parts = location.split("/")
        if not location or set(location) & set("\\\0:") or {"", ".."} & set(parts):
            raise self.error(
                "external data points outside the model's folder",
                "a relative path inside it",
                repr(location)[:80],
                name,
            )
        path = self.path.parent.joinpath(*parts)
        try:
            folder = os.path.realpath(self.path.parent), os.path.dirname(os.path.realpath(self.path))
            real = os.path.realpath(path, strict=True)
            mode = os.stat(real).st_mode
        except OSError as error:
            raise StorageError(
                "a tensor's external data can't be opened",
                subject=f"{self.path}: {name}",
                expected=f"the file {location!r:.80} beside the model",
                actual=error.strerror or str(error),
                hint="download the rest of the model",
            ) from error
        if not any(os.path.commonpath([real, f]) == f for f in folder):
            raise self.error(
                "external data points outside the model's folder",
                "a file inside it, links followed",
                repr(location)[:80],
                name,
            )
        if not stat.S_ISREG(mode):
            raise self.error("external data is no file", "a regular file", repr(location)[:80], name)
        return path

    def _check_overlaps(self) -> None:
        """Tensors may share all of their bytes (tied weights), never a part."""
        for first, second in self._neighbours():
            same = (first.start, first.nbytes) == (second.start, second.nbytes)
            if not same and second.start < first.start + first.nbytes:  # type: ignore[operator]
                raise self.error(
                    "a tensor's data overlaps another's",
                    f"a start from {first.start + first.nbytes} on",  # type: ignore[operator]
                    f"{second.start}",
                    second.name,
                )

    def _neighbours(self) -> Iterator[tuple[OnnxTensor, OnnxTensor]]:
        placed = [t for t in self.tensors.values() if t.start is not None and t.nbytes]
        placed.sort(key=lambda t: (str(t.path), t.start, t.nbytes))
        for first, second in itertools.pairwise(placed):
            if first.path == second.path:
                yield first, second
