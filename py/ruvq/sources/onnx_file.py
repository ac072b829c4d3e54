"""An ONNX file: its nodes and where its tensors lie, validated as a hostile one would need.

Facts of the layout: onnx/onnx.proto and docs/ExternalData.md. Weights stay where they are, in the file itself
or in others of its folder, and are read by rows. The `onnx` package isn't needed for that: it would load
embedded weights as a whole. What the graph means is onnx_graph.py's matter.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import PieceFile
from .floats import to_float32
from .onnx_tensor import OnnxTensor, TensorReader, damaged
from .protobuf import FIXED32, Field, WireReader

MAX_DEPTH = 8  # of graphs inside nodes of graphs
MAX_NODES = 100_000
MAX_TENSORS = 100_000
MAX_NODE_EDGES = 4096  # inputs, and outputs, of a node
MAX_LIST = 4096  # numbers of an attribute
MAX_METADATA_BYTES = 64 << 20
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Node:
    """A node: `op` with its domain before it unless that is ONNX's own; `numbers`, `lists`: attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, float]
    lists: Mapping[str, list[int]]
    scopes: str  # where torch's newer exporter keeps the module's name


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
        self._tensors = TensorReader(path, self._wire, self._files)
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
        width, item = tensor.shape[-1], tensor.item
        raw = self._read(tensor, first * width * item, (last - first) * width * item)
        return to_float32(raw, tensor.dtype or "", width)

    def columns(self, tensor: OnnxTensor, first: int, last: int) -> bytes:
        """Columns [first, last) of a matrix as float32, one after the other: rows of its transpose."""
        (height, width), count = tensor.shape, last - first
        raw = bytearray()
        for row in range(height):
            raw += self._read(tensor, (row * width + first) * tensor.item, count * tensor.item)
        values = memoryview(to_float32(raw, tensor.dtype or "", count)).cast("B").cast("f")
        return b"".join([values[column::count].tobytes() for column in range(count)])

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _read(self, tensor: OnnxTensor, offset: int, nbytes: int) -> bytearray:
        assert tensor.start is not None
        return self._files[tensor.path].read(tensor.start + offset, nbytes)

    # ---- the model and its graphs ----

    def _read_model(self) -> None:
        size, graph = self._wire.file.size, None
        for part in self._wire.fields(0, size):
            if part.number == 7:
                if graph is not None:
                    raise damaged(self.path, "the model has two graphs", "one", "two")
                graph = self._wire.message(part)
            elif part.number == 14:
                key, value = self._wire.pair(part)
                if value is not None:
                    self._metadata[key] = value
            elif part.number == 25:
                self.functions += 1
        if graph is None:
            raise damaged(self.path, "not an ONNX model", "a graph", "an empty file" if size == 0 else "none")
        self._read_graph(graph, 0)

    def _read_graph(self, place: tuple[int, int], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise damaged(self.path, "graphs are nested too deep", f"at most {MAX_DEPTH}", "more")
        here: set[str] = set()
        for part in self._wire.fields(*place):
            if part.number == 1:
                self._read_node(self._wire.message(part), depth)
            elif part.number == 5:
                tensor = self._tensors.read(self._wire.message(part), "")
                if tensor.name in here:
                    raise damaged(self.path, "a tensor appears twice", "each once", tensor.name[:80])
                here.add(tensor.name)
                self._keep(tensor)
            elif part.number == 15:
                raise damaged(self.path, "sparse tensors aren't read", "dense initializers", "a sparse one")

    def _keep(self, tensor: OnnxTensor) -> None:
        """Branches of an If may each have a tensor of the same name: then it is the same."""
        other = self.tensors.setdefault(tensor.name, tensor)
        if (other.shape, other.kind) != (tensor.shape, tensor.kind):
            raise damaged(
                self.path, "two tensors have one name", f"shape {other.shape}", f"{tensor.shape}", tensor.name
            )
        if len(self.tensors) > MAX_TENSORS:
            raise damaged(self.path, "too many tensors", f"at most {MAX_TENSORS}", "more")

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
                    raise damaged(
                        self.path, "a node has too many edges", f"at most {MAX_NODE_EDGES}", "more", texts[3]
                    )
            elif part.number == 5:
                values += self._attribute(self._wire.message(part), numbers, lists, depth)
            elif part.number == 9 and not scopes:
                key, value = self._wire.pair(part)
                if key == "pkg.torch.onnx.name_scopes" and value is not None:
                    scopes = self._wire.text(value)
        if not texts[4]:
            raise damaged(self.path, "a node has no operator", "op_type", "none", texts[3][:80])
        op = texts[4] if texts[7] in ("", "ai.onnx") else f"{texts[7]}.{texts[4]}"
        self.nodes.append(
            Node(op, texts[3], tuple(edges[1]), tuple(edges[2]), numbers or _NONE, lists or _NONE, scopes)
        )
        if len(self.nodes) > MAX_NODES:
            raise damaged(self.path, "too many nodes", f"at most {MAX_NODES}", "more")
        if op == "Constant" and values and edges[2]:
            self._keep(self._tensors.read(values[0], edges[2][0]))

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
                tensors.append(self._wire.message(part))
            elif part.number in (6, 11):
                self._read_graph(self._wire.message(part), depth + 1)
            elif part.number == 8 and len(many) < MAX_LIST:
                many += self._wire.numbers(part, MAX_LIST)
        if number is not None:
            numbers[name] = number
        if many:
            lists[name] = many
        return tensors

    # ---- tensors ----

    def _check_overlaps(self) -> None:
        """Tensors may share all of their bytes (tied weights), never a part."""
        for first, second in self._neighbours():
            same = (first.start, first.nbytes) == (second.start, second.nbytes)
            if not same and second.start < first.start + first.nbytes:  # type: ignore[operator]
                raise damaged(
                    self.path,
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
