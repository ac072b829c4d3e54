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
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import core
from ..core import CONSTANTS, structs
from ..errors import RuvqError
from ..formats import Format
from ..formats.transform import Transform
from .chunks import CHUNK_WEIGHTS
from .tensors import SCALE_RULES

# (rows, width, address of the weights that were encoded, address of what they decode to): float32 in the
# core's memory, valid during the call
Observer = Callable[[int, int, int, int], None]

if TYPE_CHECKING:
    import numpy as np

    from .feedback import Guide


@dataclass(frozen=True)
class EncodeOptions:
    """`k`: divisor of pi, 0 for the format's default; `scale`: a name of SCALE_RULES; `effort`: of the
    trellis encoders, 0 for the default."""

    k: int = 0
    scale: str = "default"
    effort: int = 0


@dataclass(frozen=True)
class EncodedRows:
    """A chunk: its bytes, and sums over its weights (of the transformed ones: the transform keeps both)."""

    first: int
    rows: int
    data: bytes  # (rows, row_bytes)
    squares: float  # sum of w^2
    squared_error: float  # sum of (w - decoded)^2
    output_squares: float = 0.0  # sum over rows of w H w^T, with H of the calibration
    output_error: float = 0.0  # of e H e^T, e = w - decoded
    peak: float = 0.0  # largest magnitude of the weights
    turned_peak: float = 0.0  # after the transform


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
        transform: Transform | None,
        observe: Observer | None = None,
        guide: Guide | None = None,
    ) -> None:
        """`guide`: what calibration says of the matrix."""
        self._core = core.get()
        self._observe = observe
        self._guide = guide
        self.factor = guide.factor if guide else None
        self.importance = guide.importance if guide else None
        self.format, self.width, self.transform = format, width, transform
        self.row_bytes = format.row_bytes(width)
        self._options = structs.pack(
            "rq_encode_options",
            k=options.k,
            scale_rule=CONSTANTS[SCALE_RULES[options.scale]],
            effort=options.effort,
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

    def encode(self, first: int, values: Any) -> EncodedRows:
        """`values`: a float32 buffer (rows, width), which stays as it is. Raises DataError."""
        backend, width, number = self._core, self.width, self.format.id
        rows = values.shape[0]
        options, scratch = self._memory()
        with (
            backend.alloc(rows * width * 4) as weights,
            backend.alloc(rows * self.row_bytes) as out,
            backend.alloc(rows * width * 4) as decoded,
        ):
            backend.write(weights.address, memoryview(values))
            peak = self._peak(weights.address, rows)
            if self.transform is not None:
                self.transform.apply(weights.address, rows, width)
            aim = self._guide.aim(first, values, self.transform) if self._guide else None
            rounded = weights if aim is None else backend.place(aim)
            head = (number, options.address, rounded.address)
            tail = (rows, width, out.address, scratch.address, scratch.end)
            if self.factor is None:
                column = backend.place(self.importance) if self.importance is not None else None
                backend.call("rq_encode", *head, column.address if column else 0, *tail)
            else:
                factor, pivots = backend.place(self.factor.factor), backend.place(self.factor.pivots)
                backend.call("rq_encode_feedback", *head, factor.address, pivots.address, *tail)
            simd = CONSTANTS["RQ_SIMD"]
            backend.call("rq_decode", number, out.address, rows, width, decoded.address, simd)
            squares, error = self._sums(weights.address, decoded.address, rows)
            if self._observe is not None:
                self._observe(rows, width, weights.address, decoded.address)
            output = self._output_sums(weights.address, decoded.address, rows)
            peaks = peak, self._peak(weights.address, rows)
            data = backend.read(out.address, out.nbytes)
            return EncodedRows(first, rows, data, squares, error, *output, *peaks)

    def _peak(self, weights: int, rows: int) -> float:
        """The largest magnitude of what lies there; 0 in a browser, which may have no NumPy."""
        if self._core.host != "native":
            return 0.0
        import numpy as np

        values = np.frombuffer(self._core.view(weights, rows * self.width * 4), np.float32)
        return float(max(values.max(), -values.min()))

    def _output_sums(self, weights: int, decoded: int, rows: int) -> tuple[float, float]:
        """Sums over rows of w H w^T and of e H e^T, e = w - decoded; zeros without a factor."""
        if self.factor is None:
            return 0.0, 0.0
        import numpy as np

        backend, nbytes = self._core, rows * self.width * 4
        w, d = (np.frombuffer(backend.read(at, nbytes), np.float32) for at in (weights, decoded))
        with backend.place(self.factor.moment) as moment, backend.alloc(8) as out:

            def output(r: np.ndarray) -> float:
                with backend.place(r) as errors:
                    where = (moment.address, errors.address, rows, self.width, out.address)
                    backend.call("rq_moment_energy", *where)
                return float(np.frombuffer(backend.read(out.address, 8), np.float64)[0])

            return output(w), output(w - d)

    def _sums(self, weights: int, decoded: int, rows: int) -> tuple[float, float]:
        """sum w^2 and sum (w - decoded)^2, from the core's comparison."""
        error, snr_db = self._compared(weights, decoded, rows)
        if error > 0:
            return error * 10 ** (snr_db / 10), error
        with self._core.alloc(rows * self.width * 4) as zeros:
            return self._compared(weights, zeros.address, rows)[0], 0.0

    def _compared(self, a: int, b: int, rows: int) -> tuple[float, float]:
        """Sum of the squared differences, and its ratio to a's squares in dB."""
        backend = self._core
        with (
            backend.alloc(structs.size("rq_comparison")) as out,
            backend.alloc(backend.call("rq_compare_scratch", rows, self.width)) as scratch,
        ):
            backend.call("rq_compare", a, b, rows, self.width, out.address, scratch.address, scratch.end)
            found = structs.unpack("rq_comparison", backend.read(out.address, out.nbytes))
        return found["mse"] * rows * self.width, found["snr_db"]


def encode_in_order(
    encoder: RowEncoder,
    chunks: Iterator[tuple[int, Any]],
    pool: ThreadPoolExecutor | None,
    ahead: int,
    subject: str,
    done: Callable[[EncodedRows], None],
) -> Iterator[memoryview]:
    """The encoded bytes of all chunks, in order; at most `ahead` chunks are under way. `done` sees each.
    Without a pool this thread does the work: in Pyodide there are no others."""
    if pool is None:
        for first, values in chunks:
            yield _finish(partial(encoder.encode, first, values), subject, done)
        return
    waiting: deque[Future[EncodedRows]] = deque()
    try:
        for first, values in chunks:
            waiting.append(pool.submit(encoder.encode, first, values))
            while len(waiting) >= ahead:
                yield _finish(waiting.popleft().result, subject, done)
        while waiting:
            yield _finish(waiting.popleft().result, subject, done)
    finally:
        for future in waiting:
            future.cancel()


def _finish(
    result: Callable[[], EncodedRows], subject: str, done: Callable[[EncodedRows], None]
) -> memoryview:
    try:
        encoded = result()
    except RuvqError as error:
        error.subject = f"{subject}: {error.subject}" if error.subject else subject
        raise
    done(encoded)
    return memoryview(encoded.data)
