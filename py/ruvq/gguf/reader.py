"""Opening a GGUF file: the bytes stay where they are, the core's parser validates and indexes them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from .. import core
from ..core import CONSTANTS, Allocation, structs
from ..errors import RuvqError, StorageError, UsageError
from . import check, shards
from .types import TensorType, of_format, of_ggml
from .values import Metadata

GGUFInput = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
_CHUNK = 8 << 20  # bytes read at a time where files can't be mapped


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: what it holds and where it lies."""

    name: str
    type: TensorType
    shape: tuple[int, ...]  # in weights, outermost first: (rows, width)
    offset: int  # of the data, from the start of the file
    nbytes: int
    position: int  # in the file's list
    ggml_type: int  # as stored
    runnable: bool  # whether ruvq computes with it

    @property
    def format(self) -> str:
        """The type's name: "pi-t3", "q8_0", "f32", or a ggml type that ruvq lists but doesn't run."""
        return self.type.name

    @property
    def weights(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def bits_per_weight(self) -> float:
        """Actual: stored bits over weights; above the nominal figure where rows end in short blocks."""
        return 8 * self.nbytes / self.weights


class _Source:
    """The bytes of a file where the core can read them, and whatever must be closed afterwards.

    `view` is the same bytes as Python sees them, where Python can (not in a module with memory of its own).
    """

    def __init__(self, data: Allocation, nbytes: int, view: memoryview | None, mapping: Any = None) -> None:
        self.data = data
        self.nbytes = nbytes
        self.view = view
        self._mapping = mapping

    def bytes_at(self, offset: int, nbytes: int) -> memoryview | None:
        """The bytes themselves, None where Python can't see them."""
        return None if self.view is None else self.view[offset : offset + nbytes].toreadonly()

    def close(self) -> None:
        self.data.free()
        if self.view is not None:
            self.view.release()
        if self._mapping is not None:
            # views of weights may still be in use: then the mapping goes with the last of them
            with contextlib.suppress(BufferError):
                self._mapping.close()


class _Place(Allocation):
    """Where several files lie, which own their memory."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.address = address
        self.nbytes = nbytes

    def free(self) -> None:
        """Nothing is owned."""


class _Shards(_Source):
    """Several open files; offsets count from the lowest address of all."""

    def __init__(self, files: Sequence[GGUFFile], lowest: int) -> None:
        super().__init__(_Place(lowest, 0), sum(file.nbytes for file in files), None)
        self._files = files

    def bytes_at(self, offset: int, nbytes: int) -> memoryview | None:
        address = self.data.address + offset
        for file in self._files:
            start = address - file.data_address
            if 0 <= start <= file.nbytes - nbytes:
                return file._open_source().bytes_at(start, nbytes)
        return None

    def close(self) -> None:
        for file in self._files:
            file.close()


def _empty() -> _Source:
    """A file without bytes: it can't be mapped, but has an error message of its own."""
    return _Source(core.get().alloc(1), 0, None)


def _of_path(path: Path) -> _Source:
    backend = core.get()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                return _empty()
            if backend.host != "native":
                return _copied(file, size)
            import mmap  # not on every host

            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StorageError(
            "the file can't be read",
            subject=str(path),
            actual=error.strerror or str(error),
            hint="check the path and its permissions",
        ) from error
    return _Source(backend.place(mapping), size, memoryview(mapping), mapping)


def _copied(file: BinaryIO, size: int) -> _Source:
    """Copies a file into the core's memory, a chunk at a time: in Pyodide no bytes object holds 2 GiB."""
    backend = core.get()
    data = backend.alloc(size)
    at = 0
    while at < size and (chunk := file.read(min(_CHUNK, size - at))):
        backend.write(data.address + at, chunk)
        at += len(chunk)
    return _Source(data, at, None)


def _of_file(file: BinaryIO) -> _Source:
    if core.get().host == "native" or not file.seekable():
        return _of_buffer(file.read())
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return _copied(file, size) if size else _empty()


def _of_buffer(buffer: Any) -> _Source:
    view = memoryview(buffer).cast("B")
    if not view.nbytes:
        return _empty()
    backend = core.get()
    return _Source(backend.place(view), view.nbytes, view if backend.shares_memory else None)


class GGUFFile:
    """An open GGUF file. Use it in a `with`, or `close()` it.

    Attributes: `nbytes`, `version`, `alignment`, `layout_version` (0: none of ruvq's own formats inside),
    `metadata` (a lazy mapping), `tensors` (a list of TensorInfo), `shards` (in how many files it lies), and
    for the rest of ruvq `data_address`, `index_address` and `metadata_extent`.
    """

    def __init__(self, source: _Source, subject: str = "", index: Allocation | None = None) -> None:
        self._source: _Source | None = source
        self._index: Allocation | None = None
        self._tensors: list[TensorInfo] | None = None
        self._positions: dict[str, int] = {}
        self._metadata: Metadata | None = None
        self.subject = subject
        self.nbytes = source.nbytes
        try:
            self._index = index or parse(source.data.address, source.nbytes, source.nbytes)
            index_bytes = core.get().read(self._index.address, self._index.nbytes)
        except RuvqError as error:
            self.close()
            if subject:
                error.subject = f"{subject}: {error.subject}" if error.subject else subject
            raise
        self._index_bytes = index_bytes
        self.header: dict[str, Any] = structs.unpack("rq_gguf", index_bytes)
        self.version: int = self.header["version"]
        self.alignment: int = self.header["alignment"]
        self.layout_version: int = self.header["layout_version"]
        self.shards = 1
        # address and size of the file that holds the metadata
        self.metadata_extent: tuple[int, int] = (source.data.address, source.nbytes)

    @classmethod
    def open(cls, source: GGUFInput | Sequence[GGUFInput]) -> GGUFFile:
        """Opens a path (mapped, not read, on the desktop), bytes, or a binary file (from its position on).

        A model in several files is opened by the path of its first shard, `NAME-00001-of-00003.gguf`, beside
        which the others lie, or by a list of all shards in order.
        Raises StorageError when the file can't be read, and FileFormatError, VersionError or IntegrityError
        with the place in the file, what was expected and what was found when it isn't a valid GGUF file.
        """
        if isinstance(source, (list, tuple)):
            return cls._of_shards(source)
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            file = cls(_of_path(path), str(source))
            count = file.header["split_count"]
            if count == 1 or file.header["split_no"] != 0:
                return file  # a shard by itself can be listed; a model refuses it
            file.close()
            return cls._of_shards(shards.paths(path, count))
        if hasattr(source, "read"):
            return cls(_of_file(cast(BinaryIO, source)), str(getattr(source, "name", "")))
        return cls(_of_buffer(source))

    @classmethod
    def _of_shards(cls, sources: Sequence[Any]) -> GGUFFile:
        if not sources:
            raise UsageError("there is no file", expected="all shards of a model", actual="an empty list")
        with contextlib.ExitStack() as opened:
            files = []
            for source in sources:
                path = isinstance(source, (str, os.PathLike))
                file = cls(_of_path(Path(source)), str(source)) if path else cls.open(source)
                opened.callback(file.close)
                files.append(file)
            if len(files) == 1 and files[0].header["split_count"] == 1:
                opened.pop_all()
                return files[0]
            index, lowest = shards.join(files)
            joined = cls(_Shards(files, lowest), files[0].subject, index)
            joined.shards = len(files)
            joined.metadata_extent = files[0].metadata_extent
            opened.pop_all()
            return joined

    @classmethod
    def from_memory(cls, data: Allocation, nbytes: int | None = None, subject: str = "") -> GGUFFile:
        """Takes over a file that already lies in the core's memory: its first `nbytes` bytes, or all."""
        return cls(_Source(data, data.nbytes if nbytes is None else nbytes, None), subject)

    # ---- for the model, the tokenizer and whatever else calls the core ----

    def _open_source(self) -> _Source:
        if self._source is None:
            raise UsageError("the file is closed", subject=self.subject)
        return self._source

    @property
    def data_address(self) -> int:
        """Where the file's first byte lies in the core's memory."""
        return self._open_source().data.address

    @property
    def memory_bytes(self) -> int:
        """Bytes of the file (resident once they are used, where it is mapped) and of its index."""
        return self.nbytes + len(self._index_bytes)

    @property
    def index_address(self) -> int:
        """Where the core's index of the file lies."""
        self._open_source()
        assert self._index is not None
        return self._index.address

    def _read(self, offset: int, nbytes: int) -> bytes:
        return core.get().read(self.data_address + offset, nbytes)

    # ---- contents ----

    @property
    def metadata(self) -> Metadata:
        """Keys and values, decoded when they are asked for."""
        if self._metadata is None:
            self._metadata = Metadata(self._index_bytes, self.header, self._read)
        return self._metadata

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty string."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""

    @property
    def tensors(self) -> list[TensorInfo]:
        """All tensors in the order of the file."""
        if self._tensors is None:
            raw = structs.unpack_array(
                "rq_gguf_tensor", self._index_bytes, self.header["tensor_count"], self.header["tensor_start"]
            )
            self._tensors = [self._describe(i, tensor) for i, tensor in enumerate(raw)]
            self._positions = {t.name: t.position for t in self._tensors}
        return self._tensors

    def _describe(self, position: int, raw: dict[str, Any]) -> TensorInfo:
        of_id = of_ggml(raw["ggml_type"])
        own = raw["format"] != CONSTANTS["RQ_FORMAT_NONE"] and raw["format"] != of_id.format
        dims = [raw["width"], *raw["dims"][1 : max(raw["n_dims"], 1)]]
        return TensorInfo(
            name=str(self._read(raw["name_offset"], raw["name_bytes"]), "utf-8"),
            type=of_format(raw["format"]) if own else of_id,
            shape=tuple(reversed(dims)),
            offset=raw["data_offset"],
            nbytes=raw["data_bytes"],
            position=position,
            ggml_type=raw["ggml_type"],
            runnable=raw["format"] != CONSTANTS["RQ_FORMAT_NONE"],
        )

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of this name. KeyError when there is none."""
        tensors = self.tensors
        return tensors[self._positions[name]]

    def tensor_bytes(self, name: str) -> memoryview:
        """A tensor's data: on the desktop the file itself (read-only, usable after `close`), else a copy."""
        tensor = self.tensor(name)
        view = self._open_source().bytes_at(tensor.offset, tensor.nbytes)
        return memoryview(self._read(tensor.offset, tensor.nbytes)) if view is None else view

    # ---- checks ----

    def verify_steps(self) -> Generator[check.VerifyProgress, None, check.VerifyReport]:
        """Checks all data a piece at a time; the generator's return value is the report."""
        return check.verify_steps(self)

    def verify(self, progress: Callable[[check.VerifyProgress], None] | None = None) -> check.VerifyReport:
        """Checks every tensor's data and every recorded digest. Damage is in the report, not raised."""
        return check.verify(self, progress)

    def sha256(self) -> str:
        """SHA-256 of the whole file, in lower-case hexadecimal digits."""
        return check.file_sha256(self)

    def check_sha256(self, expected: str) -> None:
        """IntegrityError unless the whole file's SHA-256 is `expected` (64 hexadecimal digits)."""
        check.check_sha256(self, expected)

    # ---- closing ----

    def close(self) -> None:
        """Gives file and memory back. May be called twice."""
        source, self._source = self._source, None
        if self._index is not None:
            self._index.free()
        if source is not None:
            source.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._source is None else f"{self.header['tensor_count']} tensors"
        return f"<GGUFFile {self.subject or 'in memory'}: {state}>"


def parse(address: int, present: int, nbytes: int) -> Allocation:
    """Indexes a file of `nbytes` bytes whose first `present` bytes lie at `address`; the rest may come later.

    Returns the memory that holds the index. EOFError when the header isn't all there yet.
    """
    backend = core.get()
    ends = (address + present, address + nbytes)
    with backend.alloc(8) as out:
        if backend.call("rq_gguf_index_bytes", address, *ends, out.address) == CONSTANTS["RQ_MORE"]:
            raise EOFError("the header of the file is not complete yet")
        index = backend.alloc(int.from_bytes(backend.read(out.address, 8), "little"))
    try:
        code = backend.call("rq_gguf_parse", address, *ends, index.address, index.end)
    except BaseException:
        index.free()
        raise
    if code == CONSTANTS["RQ_MORE"]:
        index.free()
        raise EOFError("the header of the file is not complete yet")
    return index
