"""Rounding with error feedback: an input's second moments, turned as its matrix is, and factorised in C."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from .. import core
from ..errors import DataError, UsageError
from .calibration import input_of
from .plan import FLOATS

if TYPE_CHECKING:
    import numpy as np

    from ..formats.transform import Transform
    from .calibration import Calibration
    from .plan import PlannedTensor

DAMPING = 0.01  # of the mean of the diagonal


def check_fisher(calibrated: Calibration | None, sequential: bool) -> None:
    """UsageError where errors can't be weighed by Fisher information."""
    if calibrated is not None and calibrated.has_fisher() and not sequential:
        return
    without = "no --calibration" if calibrated is None else "an artifact without it"
    raise UsageError(
        "there is no Fisher information to round by",
        subject="--fisher",
        expected="--calibration with what `ruvq calibrate --fisher` wrote, and no --sequential",
        actual="--sequential, which finds moments of its own" if sequential else without,
    )


@dataclass(frozen=True)
class Factor:
    """H + damping = (U + I) diag(pivots) (U + I)^T; `moment` is H itself, times `scale`: one over its mean
    diagonal."""

    factor: np.ndarray  # (width, width) float32, U above the diagonal
    pivots: np.ndarray  # (width,) float32
    moment: np.ndarray  # (width, width) float32
    scale: np.float32


def turn(moment: np.ndarray, transform: Transform) -> np.ndarray:
    """The second moments of T x from those of x: T H T^T."""
    import numpy as np

    backend, width = core.get(), moment.shape[0]
    for _ in range(2):  # the rows of H, then those of (H T^T)^T
        moment = np.ascontiguousarray(moment.T)
        with backend.place(moment) as rows:
            transform.apply(rows.address, width, width)
    upper = np.triu(moment)  # the two halves differ in their last bits
    return upper + np.triu(upper, 1).T


def factorise(moment: np.ndarray, transform: Transform | None, damping: float, subject: str) -> Factor:
    """Factorises second moments for a matrix whose input goes through the transform (None: no).

    DataError when nothing reached this input, or the damping is too small.
    """
    import numpy as np

    mean = float(np.mean(np.diagonal(moment), dtype=np.float64))
    if not mean > 0:
        raise DataError(
            "calibration never reached this input",
            subject=subject,
            expected="activations that are not all zero",
            actual="zeros",
            hint="calibrate on more text, or quantize without calibration",
        )
    scaled = (moment / np.float32(mean)).astype(np.float32)
    if transform is not None:
        scaled = turn(scaled, transform)
    width, backend = scaled.shape[0], core.get()
    factor, pivots = scaled.copy(), np.empty(width, np.float32)
    with (
        backend.place(factor) as matrix,
        backend.place(pivots) as diagonal,
        backend.alloc(backend.call("rq_moment_factor_scratch", width)) as scratch,
    ):
        where = (matrix.address, diagonal.address, width, float(damping), scratch.address, scratch.end)
        try:
            backend.call("rq_moment_factor", *where)
        except DataError as error:
            error.subject = f"{subject}: {error.subject}"
            raise
    return Factor(factor, pivots, scaled, np.float32(1) / np.float32(mean))


@dataclass(frozen=True)
class Guide:
    """A matrix's factor for error feedback, or only how much each of its columns counts.

    `cross` or `product`: what the weights to round are found from (ruvq.quantize.sequential), times the
    factor's scale; without them they are the weights themselves. `damping` keeps them near these.
    """

    factor: Factor | None = None
    importance: np.ndarray | None = None  # (width,) float32
    cross: np.ndarray | None = None  # (width, width) float32
    product: np.ndarray | None = None  # (rows, width) float32
    damping: float = 0.0

    def aim(self, first: int, weights: np.ndarray, transform: Transform | None) -> np.ndarray | None:
        """Rows from `first` on as they should be rounded, turned by the transform: float32 of the
        shape of `weights` (rows, width); None for these themselves."""
        import numpy as np

        if self.factor is None or (self.cross is None and self.product is None):
            return None
        rows, width = weights.shape
        backend = core.get()
        if self.product is not None:
            aim = self.product[first : first + rows]
        else:
            assert self.cross is not None
            aim = np.zeros((rows, width), np.float32)
            columns = np.ascontiguousarray(weights.T)
            with (
                backend.place(aim) as out,
                backend.place(columns) as left,
                backend.place(self.cross) as right,
            ):
                where = (out.address, left.address, rows, right.address, width)
                backend.call("rq_moment_cross", *where, width, 0, rows, 0)
        aim = np.ascontiguousarray(aim + np.float32(self.damping) * weights)
        with (
            backend.place(aim) as out,
            backend.place(self.factor.factor) as matrix,
            backend.place(self.factor.pivots) as pivots,
            backend.alloc(backend.call("rq_moment_solve_scratch", width)) as scratch,
        ):
            if transform is not None:
                transform.apply(out.address, rows, width)
            where = (matrix.address, pivots.address, out.address, rows, width)
            backend.call("rq_moment_solve", *where, scratch.address, scratch.end)
        return aim


class Moments(Protocol):
    """What is known of a model's inputs: an artifact (ruvq.quantize.calibration), or what it is made from."""

    def has_moment(self, name: str) -> bool:
        """Whether the whole matrix of an input's second moments is there."""

    def moment(self, name: str, width: int) -> np.ndarray:
        """Second moments of an input: float32 (width, width), symmetric."""

    def importance(self, tensor: str, width: int) -> np.ndarray | None:
        """Mean square of each column's input: float32 (width,)."""


Key = tuple[str, "Transform | None", int]  # an input, what it goes through, its width


class Guides:
    """The guide of each matrix of a model; query, key and value share one, so the last is kept."""

    def __init__(self, calibration: Moments, damping: float, weights: Calibration | None = None) -> None:
        """`weights`: whose Fisher information weighs errors, in place of the moments."""
        self._calibration, self._damping, self._weights = calibration, damping, weights
        self._last: tuple[Key, Factor] | None = None
        self._pool: Executor | None = None
        self._order: list[Key] = []
        self._next: tuple[Key, Future[Factor]] | None = None

    def expect(self, tensors: Iterable[tuple[PlannedTensor, Transform | None]], pool: Executor) -> None:
        """What `of` will be asked for, in order: `pool` makes the next factor while one is used."""
        keys = (self._key(tensor, transform) for tensor, transform in tensors)
        self._order = [key for key, _ in groupby(keys) if key is not None]
        self._pool = pool

    def _key(self, tensor: PlannedTensor, transform: Transform | None) -> Key | None:
        """None where no factor of moments is needed."""
        name = input_of(tensor.name)
        if name is None or not tensor.is_matrix or tensor.format in FLOATS or self._weights is not None:
            return None
        return (name, transform, tensor.shape[-1]) if self._calibration.has_moment(name) else None

    def _make(self, key: Key) -> Factor:
        name, transform, width = key
        return factorise(self._calibration.moment(name, width), transform, self._damping, name)

    def _factor(self, key: Key) -> Factor:
        """The last one, or the one that was begun, or a new one; begins the one after it."""
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        begun = self._next[1] if self._next is not None and self._next[0] == key else None
        self._last = self._next = None  # their memory first
        factor = begun.result() if begun is not None else self._make(key)
        self._last = key, factor
        if key in self._order:
            del self._order[: self._order.index(key) + 1]
        if self._pool is not None and self._order:
            self._next = self._order[0], self._pool.submit(self._make, self._order[0])
        return factor

    def of(self, tensor: PlannedTensor, transform: Transform | None) -> Guide:
        """Empty for vectors, floats, and what calibration doesn't cover. An importance matrix says nothing
        of columns that went through the transform: there all count nearly the same."""
        name, width = input_of(tensor.name), tensor.shape[-1]
        if name is None or not tensor.is_matrix or tensor.format in FLOATS:
            return Guide()
        if self._weights is not None:
            return self._by_gradients(self._weights, tensor, transform)
        key = self._key(tensor, transform)
        if key is None:
            usable = transform is None
            return Guide(importance=self._calibration.importance(tensor.name, width) if usable else None)
        return Guide(factor=self._factor(key))

    def _by_gradients(
        self, weights: Calibration, tensor: PlannedTensor, transform: Transform | None
    ) -> Guide:
        found = weights.fisher(tensor.name, tensor.shape[-1])
        if found.ndim == 2:
            return Guide(factor=factorise(found, transform, self._damping, tensor.name))
        return Guide(importance=found if transform is None else None)
