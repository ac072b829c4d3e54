"""Float32 matrices from whatever a caller has (arrays, memoryviews, lists), and back. NumPy is used when the
caller has imported it, never needed."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..errors import MissingDependencyError, UsageError

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Floats:
    """Float32 numbers in C order: `data` is a flat memoryview of format 'f', `shape` what it stands for."""

    data: memoryview
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers in a row: the last dimension."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Product of the other dimensions; 1 for a vector."""
        return prod(self.shape[:-1])

    def row_range(self, first: int, last: int) -> memoryview:
        """Rows [first, last) as bytes, without a copy."""
        return self.data[first * self.width : last * self.width].cast("B")


def _wrong_dtype(subject: str, found: str, hint: str) -> UsageError:
    return UsageError(
        "the numbers are of another type", subject=subject, expected="float32", actual=found, hint=hint
    )


def _from_list(values: Sequence[Any], subject: str) -> tuple[memoryview, tuple[int, ...]]:
    shape: list[int] = []
    level: Any = values
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        level = level[0] if level else None
    flat: list[Any] = list(values)
    for size in shape[1:]:
        if any(not isinstance(row, (list, tuple)) or len(row) != size for row in flat):
            raise UsageError(
                "the rows have different lengths",
                subject=subject,
                expected=f"rows of {size}",
                actual="others too",
            )
        flat = [x for row in flat for x in row]
    try:
        return memoryview(array("f", flat)), tuple(shape)
    except (TypeError, OverflowError) as error:
        raise _wrong_dtype(subject, str(error), "give numbers that fit float32") from error


def _from_buffer(value: Any, subject: str) -> tuple[memoryview, tuple[int, ...]]:
    try:
        view: Any = memoryview(value)
    except (TypeError, BufferError, ValueError) as error:
        raise UsageError(
            "not a buffer of numbers",
            subject=subject,
            expected="a float32 array, memoryview, array.array('f') or nested lists",
            actual=type(value).__name__,
            hint="a torch tensor becomes one with `.detach().float().cpu().numpy()`",
        ) from error
    if view.format.lstrip("@=<") != "f" or (view.format[0] == "<" and sys.byteorder != "little"):
        dtype = getattr(value, "dtype", None)
        found = f"{dtype}" if dtype is not None else f"a buffer of format {view.format!r}"
        hint = "convert with `.astype(numpy.float32)`" if dtype is not None else "use array.array('f', ...)"
        if view.format in "Bbc":
            hint = "raw bytes of float32 become a buffer with `memoryview(b).cast('f')`"
        raise _wrong_dtype(subject, found, hint)
    shape = tuple(view.shape or ())
    if not view.c_contiguous:
        view = memoryview(view.tobytes())  # in C order
    elif view.nbytes:
        view = view.cast("B")
    else:
        view = memoryview(b"")
    return view.cast("B").cast("f"), shape


def as_floats(value: Any, subject: str, shape: Sequence[int] | None = None) -> Floats:
    """A caller's matrix or vector, copied only when it isn't contiguous.

    `shape` overrides the buffer's own (for flat buffers). UsageError for other types than float32, ragged
    lists, empty matrices and shapes that don't fit.
    """
    taken = _from_list(value, subject) if isinstance(value, (list, tuple)) else _from_buffer(value, subject)
    data, own_shape = taken
    wanted = tuple(int(n) for n in shape) if shape is not None else own_shape
    if len(wanted) == 0 or any(n < 1 for n in wanted) or prod(wanted) != len(data):
        raise UsageError(
            "the shape doesn't fit",
            subject=subject,
            expected=f"sizes of at least 1 with {len(data):,} numbers in all",
            actual=str(wanted),
            hint="give `shape=(rows, columns)`",
        )
    return Floats(data, wanted)


def from_bytes(data: bytearray, shape: tuple[int, ...], as_numpy: bool | None) -> Any:
    """Float32 bytes as a NumPy array (when `as_numpy`, or None and NumPy is imported), else a memoryview."""
    if as_numpy or (as_numpy is None and sys.modules.get("numpy") is not None):
        try:
            import numpy
        except ImportError as error:
            raise MissingDependencyError(
                "NumPy isn't installed", hint="leave out `as_numpy`, or run `pip install numpy`"
            ) from error
        return numpy.frombuffer(data, numpy.dtype("<f4")).reshape(shape)
    return memoryview(data).cast("B").cast("f", list(shape))
