"""Writing GGUF files, one tensor at a time: never the whole model in memory, never half a file in place.

serialise.py makes the header's bytes. The same code runs on the desktop and in Pyodide. docs/container.md
says what the keys mean.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import core
from ..core import CONSTANTS, structs
from ..errors import RuvqError, StorageError, UsageError
from . import serialise
from .check import HEADER_KEY, TENSORS_KEY
from .reader import GGUFFile, parse
from .recipe import RECIPE_KEY, Recipe
from .types import I8, RUVLLM_FORMATS, TensorSpec
from .values import Metadata, Typed, typed

if TYPE_CHECKING:
    from .journal import Entry, Journal

_NO_DIGEST = "0" * 64
_OWN_KEYS = (
    "general.architecture",
    "general.alignment",
    "ruvq.layout_version",
    "ruvq.tensor.names",
    "ruvq.tensor.formats",
    "ruvq.tensor.widths",
    "ruvq.type_namespace",
    RECIPE_KEY,
    HEADER_KEY,
    TENSORS_KEY,
)
_UPSTREAM_OF_RUVLLM = ("nvfp4", "q1_0")  # ids 40 and 41 outside the namespace

Data = Any  # a C-contiguous buffer, or an iterable of them


class GGUFWriter:
    """Writes one GGUF file: everything but the data is known at the start, the data streams through `write`.

        with GGUFWriter(path, "llama", metadata, specs, recipe=recipe) as writer:
            for spec in specs:
                writer.write(spec.name, data_of(spec))

    `metadata` values are Python values or `Typed`; the keys of architecture, alignment, layout, recipe
    and digests are the writer's own. Leaving the `with` normally completes the file: digests are filled
    in, the file is read back and verified, and only then takes the target's name. Leaving it by an
    exception removes what was written; an older file of that name stays untouched.

    Raises UsageError or FileFormatError for names, shapes or values that can't be stored and for data of
    another size than announced, DataError for NaN or infinity among the weights, StorageError when the
    disk is full or the folder can't be written.

    With a `journal` the unfinished file lies where that says, and tensors that a killed run completed under
    the same header stay in it: `kept` gives their entries, and they are not written again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        architecture: str,
        metadata: Mapping[str, Any],
        tensors: Sequence[TensorSpec],
        *,
        recipe: Recipe | None = None,
        alignment: int = 32,
        journal: Journal | None = None,
    ) -> None:
        self.path = Path(path)
        self.tensors = list(tensors)
        self._journal = journal
        self._digests: list[str] = []
        self.kept: dict[str, Entry] = {}
        self._file: BinaryIO | None = None
        beside = self.path.with_name(f".{self.path.name[:200]}.{secrets.token_hex(6)}.part")
        self._temporary = journal.part if journal else beside
        self._alignment = alignment
        if alignment < 8 or alignment & (alignment - 1):
            raise UsageError(
                "this alignment can't be used",
                subject="general.alignment",
                expected="a power of two from 8 on",
                actual=str(alignment),
            )
        for key in metadata:
            if key in _OWN_KEYS:
                raise UsageError("this key is written by ruvq itself", subject=key, hint="leave it out")
        header = self._serialise(architecture, metadata, recipe)
        try:
            self._check_space()
            self._start(header)
        except BaseException as error:
            self.abort()
            if isinstance(error, OSError) and not isinstance(error, RuvqError):
                raise self._storage_error(error) from error
            raise

    # ---- header ----

    def _serialise(self, architecture: str, metadata: Mapping[str, Any], recipe: Recipe | None) -> bytes:
        """The header, with zeros where the digests will stand."""
        keys: dict[str, Any] = {"general.architecture": architecture}
        if self._alignment != 32:
            keys["general.alignment"] = Typed(self._alignment, "u32")
        keys |= metadata
        keys |= self._own_metadata()
        if recipe is not None:
            keys[RECIPE_KEY] = recipe.to_json()
        if self.tensors:
            keys[TENSORS_KEY] = [_NO_DIGEST] * len(self.tensors)
        keys[HEADER_KEY] = _NO_DIGEST
        entries, offset = [], 0
        for spec in self.tensors:
            shape = (*spec.shape[:-1], spec.row_bytes) if spec.stored.own else tuple(spec.shape)
            entries.append((spec.name, shape, spec.stored.ggml_type, offset))
            offset += self._padded(spec.nbytes)
        return serialise.header(((key, typed(key, value)) for key, value in keys.items()), entries)

    def _own_metadata(self) -> dict[str, Any]:
        """What says how I8 tensors and type ids 40 and 41 are to be read."""
        out: dict[str, Any] = {}
        own = [spec for spec in self.tensors if spec.stored.own]
        if own:
            assert all(spec.stored.ggml_type == I8 for spec in own)
            out["ruvq.layout_version"] = CONSTANTS["RQ_LAYOUT_VERSION"]
            out["ruvq.tensor.names"] = [spec.name for spec in own]
            out["ruvq.tensor.formats"] = [spec.type for spec in own]
            out["ruvq.tensor.widths"] = Typed([spec.shape[-1] for spec in own], "u32")
        ruvllm = [spec.name for spec in self.tensors if spec.type in RUVLLM_FORMATS]
        upstream = [spec.name for spec in self.tensors if spec.type in _UPSTREAM_OF_RUVLLM]
        if ruvllm and upstream:
            raise UsageError(
                "type ids 40 and 41 can't stand for two formats in one file",
                subject=upstream[0],
                expected="either ruvllm's or upstream's formats",
                actual=f"{ruvllm[0]} is in ruvllm's",
                hint="write ruvq's own formats instead of ruvllm's type ids",
            )
        if ruvllm:
            out["ruvq.type_namespace"] = "ruvllm"
        return out

    def _start(self, header: bytes) -> None:
        """Writes the header and has the core's parser check it before any data follows."""
        header += bytes(self._padded(len(header)) - len(header))
        if self._journal is not None:
            sizes = [(spec.name, spec.nbytes, self._padded(spec.nbytes)) for spec in self.tensors]
            self.kept = {entry.name: entry for entry in self._journal.recover(header, sizes)}
            self._digests = [entry.digest for entry in self.kept.values()]
        self._file = open(self._temporary, "rb+" if self.kept else "xb+")  # noqa: SIM115 - closed by _commit or abort
        self._file.seek(0, os.SEEK_END)
        if not self.kept:
            self._append(header)
            self._file.flush()
        self._header = header
        backend = core.get()
        with backend.place(self._header) as data, parse(data.address, data.nbytes, self.total_bytes) as index:
            raw = backend.read(index.address, index.nbytes)
            metadata = Metadata(raw, structs.unpack("rq_gguf", raw), lambda at, n: self._header[at : at + n])
            self._header_digest_at = metadata.place(HEADER_KEY)
            self._digests_at = metadata.place(TENSORS_KEY) if self.tensors else 0

    def _padded(self, nbytes: int) -> int:
        return -(-nbytes // self._alignment) * self._alignment

    @property
    def total_bytes(self) -> int:
        """Size of the finished file."""
        return len(self._header) + sum(self._padded(spec.nbytes) for spec in self.tensors)

    # ---- data ----

    def write(self, name: str, data: Data, note: Callable[[], dict[str, Any]] | None = None) -> None:
        """Appends the next tensor in the announced order: a buffer, or an iterable of buffers. `note`: what
        the journal keeps beside it, asked for when the data are written."""
        if self._file is None:
            raise UsageError("the file is complete or given up", subject=str(self.path))
        position = len(self._digests)
        expected = self.tensors[position] if position < len(self.tensors) else None
        if expected is None or expected.name != name:
            raise UsageError(
                "tensors must be written in the announced order",
                subject=name,
                expected=expected.name if expected else "no further tensor",
                actual=name,
            )
        sha = hashlib.sha256()
        written = 0
        for piece in _pieces(data):
            sha.update(piece)
            written += piece.nbytes
            if written > expected.nbytes:
                break
            self._append(piece)
        if written != expected.nbytes:
            raise UsageError(
                "the data has another size than announced",
                subject=name,
                expected=f"{expected.nbytes} bytes",
                actual=f"{written} bytes" if written <= expected.nbytes else "more",
            )
        self._pad()
        self._digests.append(sha.hexdigest())
        if self._journal is not None:
            self._file.flush()
            self._journal.add(name, self._digests[-1], note() if note else {})

    def _append(self, data: bytes | memoryview) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as error:
            raise self._storage_error(error) from error

    def _pad(self) -> None:
        assert self._file is not None
        at = self._file.tell()
        self._append(bytes(self._padded(at) - at))

    # ---- end ----

    def _commit(self) -> None:
        """Digests, flush to disk, verification, and only then the name."""
        if len(self._digests) != len(self.tensors):
            missing = self.tensors[len(self._digests)].name
            raise UsageError("a tensor was announced but never written", subject=missing)
        assert self._file is not None
        try:
            self._file.seek(0)
            self._file.write(self._final_header())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise self._storage_error(error) from error
        with GGUFFile.open(self._temporary) as written:
            written.verify().raise_first()
        try:
            os.replace(self._temporary, self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._storage_error(error) from error
        self._file = None

    def _final_header(self) -> bytes:
        header = bytearray(self._header)
        for i, digest in enumerate(self._digests):
            at = self._digests_at + i * (8 + len(digest)) + 8  # each string follows its 8-byte length
            header[at : at + len(digest)] = digest.encode()
        whole = hashlib.sha256(header).hexdigest()  # its own place still holds zeros
        header[self._header_digest_at : self._header_digest_at + len(whole)] = whole.encode()
        return bytes(header)

    def abort(self) -> None:
        """Removes what was written so far. May be called twice, and after completion does nothing."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a full disk can make even closing fail
                file.close()
            self._temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Completes the file; on any failure removes it and raises."""
        try:
            self._commit()
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> GGUFWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _check_space(self) -> None:
        needed = sum(self._padded(spec.nbytes) for spec in self.tensors)
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise StorageError(
                "not enough space on the disk",
                subject=str(self.path),
                expected=f"{needed:,} bytes free",
                actual=f"{free:,} bytes",
                hint="free some space or write elsewhere",
            )

    def _storage_error(self, error: OSError) -> StorageError:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        return StorageError(
            "the file can't be written",
            subject=str(self.path),
            actual=error.strerror or str(error),
            hint="free some space or write elsewhere" if full else "check the folder and its permissions",
        )


def _pieces(data: Data) -> Iterable[memoryview]:
    """The buffers of `data` as flat bytes."""
    try:
        view = memoryview(data)
    except TypeError:
        for piece in data:
            yield from _pieces(piece)
        return
    if not view.c_contiguous:
        raise UsageError("tensor data must be C-contiguous")
    yield view.cast("B")


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable, where the system lets folders be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_gguf(
    path: str | os.PathLike[str],
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Iterable[tuple[TensorSpec, Callable[[], Data]]],
    *,
    recipe: Recipe | None = None,
    alignment: int = 32,
    progress: Callable[[TensorSpec], None] | None = None,
) -> None:
    """Writes a whole file; each tensor's data is asked for when its turn comes. Raises as GGUFWriter does."""
    listed = list(tensors)
    specs = [spec for spec, _ in listed]
    with GGUFWriter(path, architecture, metadata, specs, recipe=recipe, alignment=alignment) as writer:
        for spec, data in listed:
            writer.write(spec.name, data())
            if progress is not None:
                progress(spec)
