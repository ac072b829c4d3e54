"""Rows of float weights to rows of a format's bytes, on several threads, in order and in bounded memory.

The C core does the work and lets go of Python's lock meanwhile. The result doesn't depend on the number
of threads: rows are independent, and chunks are cut by the tensor's shape alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import core
from ..core import CONSTANTS, structs
from ..errors import RuvqError
from ..formats import Format
from .chunks import CHUNK_WEIGHTS
from .tensors import SCALE_RULES

if TYPE_CHECKING:
    import numpy as np

    from .feedback import Guide


@dataclass(frozen=True)
class EncodeOptions:
    """`k`: divisor of pi, 0 for the format's default; `scale`: a name of SCALE_RULES."""

    k: int = 0
    scale: str = "default"


@dataclass(frozen=True)
class EncodedRows:
    """A chunk: its bytes, and sums over its weights (of the transformed ones: the transform keeps both)."""

    first: int
    rows: int
    data: np.ndarray  # (rows, row_bytes) uint8
    squares: float  # sum of w^2
    squared_error: float  # sum of (w - decoded)^2
    output_squares: float = 0.0  # sum over rows of w H w^T, with H of the calibration
    output_error: float = 0.0  # of e H e^T, e = w - decoded


def chunk_rows(width: int) -> int:
    """Rows of a chunk."""
    return max(1, CHUNK_WEIGHTS // width)


class RowEncoder:
    """Encodes chunks of one tensor's rows; safe to call from several threads."""

    def __init__(
        self,
        format: Format,
        width: int,
        options: EncodeOptions,
        hadamard_seed: int | None,
        guide: Guide | None = None,
    ) -> None:
        """`guide`: what calibration says of the matrix."""
        self._core = core.get()
        self.factor = guide.factor if guide else None
        self.importance = guide.importance if guide else None
        self.format, self.width, self.hadamard_seed = format, width, hadamard_seed
        self.row_bytes = format.row_bytes(width)
        self._options = structs.pack(
            "rq_encode_options", k=options.k, scale_rule=CONSTANTS[SCALE_RULES[options.scale]]
        )
        self._local = threading.local()

    def _memory(self) -> tuple[Any, Any]:
        """Each thread's options and scratch."""
        if not hasattr(self._local, "memory"):
            name = "rq_encode_feedback_scratch" if self.factor else "rq_encode_scratch"
            scratch = self._core.call(name, self.format.id, self.width)
            options = self._core.alloc(len(self._options))
            self._core.write(options.address, self._options)
            self._local.memory = options, self._core.alloc(max(scratch, 16))
        return self._local.memory

    def encode(self, first: int, values: np.ndarray) -> EncodedRows:
        """`values`: float32 (rows, width), which may be overwritten. Raises DataError."""
        import numpy as np

        rows = values.shape[0]
        if not values.flags.writeable:
            values = values.copy()
        weights = self._core.place(values)
        if self.hadamard_seed is not None:
            low, high = self.hadamard_seed & 0xFFFFFFFF, self.hadamard_seed >> 32
            scalar = CONSTANTS["RQ_SCALAR"]
            self._core.call("rq_hadamard", weights.address, rows, self.width, low, high, 0, scalar)
        out = np.empty((rows, self.row_bytes), np.uint8)
        data = self._core.place(out)
        options, scratch = self._memory()
        head = (self.format.id, options.address, weights.address)
        tail = (rows, self.width, data.address, scratch.address, scratch.end)
        if self.factor is None:
            column = self._core.place(self.importance) if self.importance is not None else None
            self._core.call("rq_encode", *head, column.address if column else 0, *tail)
        else:
            factor, pivots = self._core.place(self.factor.factor), self._core.place(self.factor.pivots)
            self._core.call("rq_encode_feedback", *head, factor.address, pivots.address, *tail)
        decoded = np.empty_like(values)
        back = self._core.place(decoded)
        self._core.call(
            "rq_decode", self.format.id, data.address, rows, self.width, back.address, CONSTANTS["RQ_SIMD"]
        )
        difference = np.subtract(decoded, values, dtype=np.float64)
        error = float(np.sum(difference * difference))
        squares = float(np.sum(np.square(values, dtype=np.float64)))
        if self.factor is None:
            return EncodedRows(first, rows, out, squares, error)
        return EncodedRows(
            first,
            rows,
            out,
            squares,
            error,
            self._output(values),
            self._output(difference.astype(np.float32)),
        )

    def _output(self, rows: np.ndarray) -> float:
        """Sum over rows of r H r^T."""
        import numpy as np

        assert self.factor is not None
        return float(np.sum((rows @ self.factor.moment) * rows, dtype=np.float64))


def encode_in_order(
    encoder: RowEncoder,
    chunks: Iterator[tuple[int, np.ndarray]],
    pool: ThreadPoolExecutor,
    ahead: int,
    subject: str,
    done: Callable[[EncodedRows], None],
) -> Iterator[memoryview]:
    """The encoded bytes of all chunks, in order; at most `ahead` chunks are under way. `done` sees each."""
    waiting: deque[Future[EncodedRows]] = deque()
    try:
        for first, values in chunks:
            waiting.append(pool.submit(encoder.encode, first, values))
            while len(waiting) >= ahead:
                yield _finish(waiting.popleft(), subject, done)
        while waiting:
            yield _finish(waiting.popleft(), subject, done)
    finally:
        for future in waiting:
            future.cancel()


def _finish(future: Future[EncodedRows], subject: str, done: Callable[[EncodedRows], None]) -> memoryview:
    try:
        encoded = future.result()
    except RuvqError as error:
        error.subject = f"{subject}: {error.subject}" if error.subject else subject
        raise
    done(encoded)
    return memoryview(encoded.data.reshape(-1))  # type: ignore[arg-type]
