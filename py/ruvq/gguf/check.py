"""`verify`: every tensor's data and every recorded digest, a piece at a time, with one report at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import core
from ..core import CONSTANTS, structs
from ..errors import DataError, FileFormatError, IntegrityError, RuvqError, UsageError

if TYPE_CHECKING:
    from .reader import GGUFFile

HEADER_KEY = "ruvq.sha256.header"
TENSORS_KEY = "ruvq.sha256.tensors"


@dataclass(frozen=True)
class VerifyProgress:
    """How far a check is."""

    tensor: str
    bytes_done: int
    bytes_total: int


@dataclass
class VerifyReport:
    """What a check found. `problems` holds one error for each damaged place, in the order of the file."""

    tensors: int = 0
    bytes: int = 0
    header_digest: bool = False  # recorded, and compared
    tensor_digests: int = 0  # recorded, and compared
    values_checked: int = 0  # tensors whose headers, scales and floats were looked at
    problems: list[RuvqError] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def raise_first(self) -> None:
        """Raises the first problem, if there is one."""
        if self.problems:
            raise self.problems[0]

    def as_dict(self) -> dict[str, Any]:
        """For `--json` output."""
        return {
            "ok": self.ok,
            "tensors": self.tensors,
            "bytes": self.bytes,
            "header_digest": self.header_digest,
            "tensor_digests": self.tensor_digests,
            "values_checked": self.values_checked,
            "problems": [problem.as_dict() for problem in self.problems],
        }


def _steps_of_tensor(file: GGUFFile, position: int) -> Iterator[int]:
    """Rows done so far, until the tensor's data is checked; raises what is wrong with it."""
    backend = core.get()
    size = structs.size("rq_gguf_check")
    with backend.alloc(size) as cursor:
        more = CONSTANTS["RQ_MORE"]
        while more == CONSTANTS["RQ_MORE"]:
            more = backend.call(
                "rq_gguf_check_step", file.index_address, file.data_address, position, cursor.address
            )
            yield structs.unpack("rq_gguf_check", backend.read(cursor.address, size))["row"]


def verify_steps(file: GGUFFile) -> Generator[VerifyProgress, None, VerifyReport]:
    """See GGUFFile.verify_steps."""
    report = VerifyReport(
        tensors=len(file.tensors),
        bytes=file.nbytes,
        header_digest=HEADER_KEY in file.metadata,
        tensor_digests=len(file.tensors) if TENSORS_KEY in file.metadata else 0,
    )
    try:
        core.get().call("rq_gguf_check_header", file.index_address, file.data_address)
    except IntegrityError as error:
        report.problems.append(error)
    total = sum(tensor.nbytes for tensor in file.tensors)
    before = 0
    for tensor in file.tensors:
        rows = tensor.weights // tensor.shape[-1]
        try:
            for row in _steps_of_tensor(file, tensor.position):
                yield VerifyProgress(tensor.name, before + tensor.nbytes * row // rows, total)
        except (DataError, FileFormatError, IntegrityError) as error:
            report.problems.append(error)
        report.values_checked += tensor.runnable
        before += tensor.nbytes
        yield VerifyProgress(tensor.name, before, total)
    return report


def verify(file: GGUFFile, progress: Callable[[VerifyProgress], None] | None = None) -> VerifyReport:
    """Runs verify_steps to its end."""
    steps = verify_steps(file)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if progress is not None:
            progress(step)


# ---- the whole file against a digest that the caller brings ----

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_PIECE = 1 << 24  # bytes hashed between two chances to interrupt


def file_sha256(file: GGUFFile) -> str:
    """SHA-256 of all of the file's bytes, in lower-case hexadecimal digits."""
    backend = core.get()
    address, end = file.data_address, file.data_address + file.nbytes
    with backend.alloc(structs.size("rq_sha256")) as state, backend.alloc(32) as digest:
        backend.raw("rq_sha256_init", state.address)
        for at in range(address, end, _PIECE):
            backend.raw("rq_sha256_update", state.address, at, min(at + _PIECE, end))
        backend.raw("rq_sha256_final", state.address, digest.address)
        return backend.read(digest.address, 32).hex()


def check_sha256(file: GGUFFile, expected: str) -> None:
    """IntegrityError unless the file's SHA-256 is `expected`; UsageError when that is no digest."""
    if not isinstance(expected, str) or not _DIGEST.fullmatch(expected):
        raise UsageError(
            "not a SHA-256", subject="sha256", expected="64 hexadecimal digits", actual=repr(expected)[:80]
        )
    found = file_sha256(file)
    if found != expected.lower():
        raise IntegrityError(
            "this is another file than the one asked for",
            subject=file.subject or "the file",
            expected=f"SHA-256 {expected.lower()}",
            actual=found,
            hint="fetch it again from where the digest comes from; don't use this one",
        )
