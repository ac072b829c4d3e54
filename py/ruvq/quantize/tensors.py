"""Single matrices: quantize, dequantize, multiply, transform, compare. Works without NumPy."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from .. import core, formats
from ..core import CONSTANTS, structs
from ..errors import DataError, UsageError
from ..formats.transform import Transform
from .buffers import as_floats, from_bytes
from .chunks import over_chunks

# what `scale` may be besides a number
SCALE_RULES = {
    "search": "RQ_SCALE_DEFAULT",
    "default": "RQ_SCALE_DEFAULT",
    "mse": "RQ_SCALE_MSE",
    "mse-unsigned": "RQ_SCALE_MSE_UNSIGNED",
    "absmax": "RQ_SCALE_ABSMAX",
    "rms": "RQ_SCALE_RMS",
    "absmean": "RQ_SCALE_ABSMEAN",
}


@dataclass(frozen=True)
class QuantizedTensor:
    """Weights in one of ruvq's formats.

    `format` is the format's name, `shape` the weights' shape (a row is the last dimension), `data` the
    rows one after the other (docs/formats.md), `k` the divisor of pi where it is the whole tensor's.
    """

    format: str
    shape: tuple[int, ...]
    data: bytes
    k: int | None = None

    def __post_init__(self) -> None:
        entry = formats.get(self.format)
        object.__setattr__(self, "format", entry.name)
        object.__setattr__(self, "shape", tuple(self.shape))
        if not self.shape or any(n < 1 for n in self.shape):
            raise UsageError("the shape holds no weights", subject=self.format, actual=str(self.shape))
        expected = entry.row_bytes(self.width) * self.rows
        if len(self.data) != expected:
            raise UsageError(
                "the data doesn't fit the shape",
                subject=f"{self.format} {self.shape}",
                expected=f"{expected:,} bytes",
                actual=f"{len(self.data):,}",
            )

    @property
    def width(self) -> int:
        """Weights in a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Rows: the product of all dimensions but the last."""
        return prod(self.shape[:-1])

    @property
    def bits_per_weight(self) -> float:
        """All bytes over all weights, exactly."""
        return 8 * len(self.data) / prod(self.shape)

    def __repr__(self) -> str:
        return f"QuantizedTensor({self.format}, {self.shape}, {self.bits_per_weight:.4g} bits per weight)"


@dataclass(frozen=True)
class Comparison:
    """How far a matrix is from the one it stands for.

    `mse`: mean squared difference. `snr_db`: 10 log10(sum a^2 / sum (a - b)^2), infinity when equal.
    `spectral_distortion_db`: energy of the difference's 2-D spectrum over the original's, over all bins in
    dB; by Parseval's theorem that is always -`snr_db`. `cosine`: of the two as vectors.
    `outlier_retention`: mean of |b| / |a|, cut at 1, over the 1 % largest |a|.
    """

    mse: float
    snr_db: float
    spectral_distortion_db: float
    cosine: float
    outlier_retention: float


def _options(
    entry: formats.Format, k: int | None, scale: str | float, effort: int | None
) -> tuple[int, bytes]:
    """The k that is used (0: none) and the packed rq_encode_options."""
    given: Any = 0.0
    if isinstance(scale, str):
        if scale not in SCALE_RULES:
            raise UsageError(
                "unknown scale rule",
                subject="scale",
                expected="a number, or one of " + ", ".join(SCALE_RULES),
                actual=repr(scale),
            )
        rule = SCALE_RULES[scale]
    else:
        rule, given = "RQ_SCALE_GIVEN", scale
    try:
        packed = structs.pack(
            "rq_encode_options", k=k or 0, scale_rule=CONSTANTS[rule], scale=given, effort=effort or 0
        )
    except (struct.error, OverflowError, TypeError) as error:
        raise UsageError(
            "an option isn't a number in range",
            subject="k, scale, effort",
            expected="whole numbers for k and effort, a number or a rule's name for scale",
            actual=str(error),
        ) from error
    return k or 0, packed


def quantize(
    weights: Any,
    format: str,
    *,
    k: int | None = None,
    scale: str | float = "search",
    importance: Any = None,
    effort: int | None = None,
    shape: Sequence[int] | None = None,
    threads: int | None = None,
) -> QuantizedTensor:
    """Quantizes weights, shape (..., width) of float32; the same floats give the same bytes everywhere.

    weights: a float32 array, memoryview or array.array('f') (with `shape=`), or nested lists.
    k: divisor of pi, 2 to 5: fixed for pi-q3, pi-q2 and pi-ternary (default 4, 3 and 4); for pi-t3 and pi-t2
        it is searched for every group of weights unless given.
    scale: "search" (the format's best search; ggml's rule for q8_0), "mse", "mse-unsigned" (positive
        steps only), "absmax", "rms" (pi-q: alpha is the block's rms), "absmean" (ternary); or a number, the
        alpha of every block (d for q8_0, gamma for ternary).
    importance: float32 (width,), weights of the squared error that the search makes small.
    effort: for pi-t3 and pi-t2, how far around the best alpha the search goes.
    threads: at most so many; the bytes don't depend on it.
    UsageError for arguments that can't be used; DataError, naming row and column, for NaN and infinity and
    for weights beyond what the format holds.
    """
    entry = formats.get_writable(format)
    floats = as_floats(weights, "weights", shape)
    width, row_bytes = floats.width, entry.row_bytes(floats.width)
    used_k, options = _options(entry, k, scale, effort)
    backend = core.get()
    column = None  # the importance, where the core can read it
    if importance is not None:
        column_weights = as_floats(importance, "importance")
        if len(column_weights.data) != width:
            raise UsageError(
                "importance is one number a column",
                subject="importance",
                expected=f"{width} numbers",
                actual=f"{len(column_weights.data)}",
            )
        column = backend.place(column_weights.data)
    scratch_bytes = backend.call("rq_encode_scratch", entry.id, width)

    def encode(first: int, last: int) -> bytes:
        rows = last - first
        with (
            backend.place(floats.row_range(first, last)) as source,
            backend.place(options) as settings,
            backend.alloc(rows * row_bytes) as out,
            backend.alloc(scratch_bytes) as scratch,
        ):
            try:
                backend.call(
                    "rq_encode",
                    entry.id,
                    settings.address,
                    source.address,
                    column.address if column else 0,
                    rows,
                    width,
                    out.address,
                    scratch.address,
                    scratch.end,
                )
            except DataError as error:  # rows are counted from the tensor's first, not the chunk's
                error.subject = re.sub(r"^row (\d+)", lambda m: f"row {int(m[1]) + first}", error.subject)
                raise
            return backend.read(out.address, out.nbytes)

    try:
        data = b"".join(over_chunks(floats.rows, width, threads, encode))
    finally:
        if column:
            column.free()
    return QuantizedTensor(entry.name, floats.shape, data, used_k or DEFAULT_K.get(entry.name))


# what stands in the metadata where the caller gives no k
DEFAULT_K = {"pi-q3": 4, "pi-q2": 3, "pi-ternary": 4, "pi-q3-ruvllm": 4, "pi-q2-ruvllm": 3}


def _check(q: Any) -> formats.Format:
    if not isinstance(q, QuantizedTensor):
        raise UsageError(
            "not a quantized tensor", expected="what ruvq.quantize returns", actual=type(q).__name__
        )
    return formats.get(q.format)


def dequantize(q: QuantizedTensor, *, as_numpy: bool | None = None, threads: int | None = None) -> Any:
    """The weights of a quantized tensor: float32 of its shape.

    A NumPy array when NumPy is imported already or `as_numpy` is true, otherwise a memoryview of format 'f'
    with that shape. DataError for data that the format forbids (a damaged header, NaN).
    """
    entry = _check(q)
    backend, row_bytes, view = core.get(), entry.row_bytes(q.width), memoryview(q.data)
    out = bytearray(4 * prod(q.shape))

    def decode(first: int, last: int) -> None:
        rows = last - first
        with (
            backend.place(view[first * row_bytes : last * row_bytes]) as source,
            backend.alloc(rows * q.width * 4) as target,
        ):
            backend.call("rq_check_rows", entry.id, source.address, rows, q.width)
            backend.call(
                "rq_decode", entry.id, source.address, rows, q.width, target.address, CONSTANTS["RQ_SIMD"]
            )
            out[first * q.width * 4 : last * q.width * 4] = backend.view(target.address, target.nbytes)

    over_chunks(q.rows, q.width, threads, decode)
    return from_bytes(out, q.shape, as_numpy)


def matvec(q: QuantizedTensor, x: Any, *, as_numpy: bool | None = None, threads: int | None = None) -> Any:
    """W x as the engine computes it: x (width,) float32, quantized to int8 per block where W is quantized.

    Returns float32 of the tensor's shape without its last dimension. DataError for NaN and infinity in x.
    """
    entry = _check(q)
    vector = as_floats(x, "x")
    if len(vector.data) != q.width:
        raise UsageError(
            "x doesn't fit the matrix",
            subject="x",
            expected=f"{q.width} numbers",
            actual=f"{len(vector.data)}",
        )
    backend, row_bytes, view = core.get(), entry.row_bytes(q.width), memoryview(q.data)
    scratch_bytes = backend.call("rq_matvec_scratch", entry.id, q.width)
    out = bytearray(4 * q.rows)

    def multiply(first: int, last: int) -> None:
        rows = last - first
        with (
            backend.place(view[first * row_bytes : last * row_bytes]) as source,
            backend.place(vector.data) as right,
            backend.alloc(rows * 4) as target,
            backend.alloc(scratch_bytes) as scratch,
        ):
            backend.call(
                "rq_matvec",
                entry.id,
                source.address,
                rows,
                q.width,
                right.address,
                target.address,
                scratch.address,
                scratch.end,
                CONSTANTS["RQ_SIMD"],
            )
            out[first * 4 : last * 4] = backend.view(target.address, target.nbytes)

    over_chunks(q.rows, q.width, threads, multiply)
    return from_bytes(out, q.shape[:-1] or (1,), as_numpy)


def hadamard(x: Any, seed: int, inverse: bool = False, *, as_numpy: bool | None = None) -> Any:
    """The randomised blocked Hadamard transform of each row of x (docs/formats.md), as a new float32 array.

    seed: 64 bits. inverse: the transpose, which undoes it. UsageError for widths it can't cut.
    """
    if not 0 <= seed < 1 << 64:
        raise UsageError("a seed has 64 bits", subject="seed", expected="0 to 2^64 - 1", actual=str(seed))
    return turn_rows(x, Transform(seed), inverse, as_numpy=as_numpy)


def turn_rows(x: Any, transform: Transform, inverse: bool = False, *, as_numpy: bool | None = None) -> Any:
    """Each row of x through a transform, or back, as a new float32 array. UsageError for bad widths."""
    floats = as_floats(x, "x")
    backend = core.get()
    out = bytearray()
    with backend.alloc(floats.data.nbytes) as memory:
        backend.write(memory.address, floats.data)
        transform.apply(memory.address, floats.rows, floats.width, inverse)
        out += backend.view(memory.address, memory.nbytes)
    return from_bytes(out, floats.shape, as_numpy)


def compare(original: Any, other: Any) -> Comparison:
    """Compares two float32 matrices of the same shape; see Comparison. DataError for NaN and infinity."""
    a, b = as_floats(original, "the original"), as_floats(other, "the other")
    if a.shape != b.shape:
        raise UsageError("the shapes differ", expected=str(a.shape), actual=str(b.shape))
    backend = core.get()
    scratch_bytes = backend.call("rq_compare_scratch", a.rows, a.width)
    with (
        backend.place(a.data) as left,
        backend.place(b.data) as right,
        backend.alloc(structs.size("rq_comparison")) as out,
        backend.alloc(scratch_bytes) as scratch,
    ):
        backend.call(
            "rq_compare",
            left.address,
            right.address,
            a.rows,
            a.width,
            out.address,
            scratch.address,
            scratch.end,
        )
        return Comparison(**structs.unpack("rq_comparison", backend.read(out.address, out.nbytes)))
