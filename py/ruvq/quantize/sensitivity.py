"""How much each matrix would lose in each format, measured on some of its rows.

With calibration the loss is that of the products: sum over rows of e H e^T, with e the difference of a row
and what it decodes to, and H the second moments of the input; relative to the products' own energy, so that
the layers compare. Without, it is the weights' squared error relative to their squares. Sums are exact and
products the core's, so that every machine makes the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import formats
from ..errors import UsageError
from ..sources import TensorInfo
from .assignment import Choice
from .calibration import input_of
from .plan import fits, takes_hadamard
from .tensors import QuantizedTensor, dequantize, hadamard, matvec, quantize

if TYPE_CHECKING:
    import numpy as np

    from .calibration import Calibration

SAMPLE_WEIGHTS = 1 << 16  # of a matrix
# what a target chooses from unless told otherwise: of formats with equal bits the better one
CANDIDATES = ("pi-t2", "pi-t3", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0", "f16")
LAST_RESORT = "f16"  # where no candidate holds a width


@dataclass(frozen=True)
class Sample:
    """Evenly spaced rows of a matrix: float32 (rows, width), and which they are."""

    tensor: TensorInfo
    rows: np.ndarray
    picked: Sequence[int]


def default_candidates() -> tuple[str, ...]:
    """CANDIDATES, as far as they can be written."""
    known = set(formats.writable_names())
    return tuple(name for name in CANDIDATES if name in known)


def take(tensor: TensorInfo, weights: int = SAMPLE_WEIGHTS) -> Sample:
    """At most `weights` weights of a matrix (but always a row), from its first row to its last."""
    import numpy as np

    count = max(1, min(tensor.rows, weights // tensor.width))
    if count == tensor.rows:
        return Sample(tensor, tensor.read(0, count), range(count))
    picked = [tensor.rows * i // count for i in range(count)]
    return Sample(tensor, np.concatenate([tensor.read(row, row + 1) for row in picked]), picked)


class Sensitivity:
    """Losses of matrices in formats; with `calibration` of their products."""

    def __init__(self, calibration: Calibration | None, incoherence: str, seed: int) -> None:
        self._calibration, self._incoherence, self._seed = calibration, incoherence, seed
        self._last: tuple[str, QuantizedTensor] | None = None  # the second moments of the last input

    def loss(self, sample: Sample, format: str) -> float:
        """The error's energy over the energy there is, times the weights: 0 for an exact format."""
        rows = sample.rows
        turned = takes_hadamard(format, self._incoherence)
        coded = quantize(hadamard(rows, self._seed, as_numpy=True) if turned else rows, format)
        decoded = dequantize(coded, as_numpy=True)
        if turned:
            decoded = hadamard(decoded, self._seed, inverse=True, as_numpy=True)
        whole = self._energy(sample, rows)
        return sample.tensor.weights * self._energy(sample, rows - decoded) / whole if whole else 0.0

    def _energy(self, sample: Sample, rows: np.ndarray) -> float:
        """Sum over rows of r H r^T, with H = 1 where there is no calibration."""
        import numpy as np

        products = self._times_moments(sample.tensor, rows)
        return math.fsum((products.astype(np.float64) * rows).ravel())

    def _times_moments(self, tensor: TensorInfo, rows: np.ndarray) -> np.ndarray:
        """r H of each row; an importance matrix is H's diagonal."""
        import numpy as np

        name = input_of(tensor.name)
        if self._calibration is None or name is None:
            return rows
        if not self._calibration.has_moment(name):
            importance = self._calibration.importance(tensor.name, tensor.width)
            return rows if importance is None else rows * importance
        if self._last is None or self._last[0] != name:
            moment = self._calibration.moment(name, tensor.width)
            self._last = name, QuantizedTensor("f32", moment.shape, moment.tobytes())
        return np.stack([matvec(self._last[1], row, as_numpy=True) for row in rows])


def measure(
    tensors: Iterable[TensorInfo],
    candidates: Sequence[str],
    sensitivity: Sensitivity,
    *,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Choice]]:
    """What every matrix may become: name → choices. `progress(weights done, weights in all)`.

    Where no candidate holds a matrix's width LAST_RESORT does; UsageError instead if `strict`.
    """
    matrices = [t for t in tensors if len(t.shape) > 1]
    total, done = sum(t.weights for t in matrices), 0
    out: dict[str, list[Choice]] = {}
    for tensor in matrices:
        fitting = [name for name in candidates if fits(formats.get(name), tensor.width)]
        if not fitting:
            if strict:
                raise UsageError(
                    "no candidate holds this width",
                    subject=tensor.name,
                    expected=f"a format that takes rows of {tensor.width}",
                    actual=", ".join(candidates),
                    hint="add such a format with --candidates, or leave out --strict",
                )
            fitting = [LAST_RESORT]
        sample = take(tensor)
        out[tensor.name] = [
            Choice(
                name, tensor.rows * formats.get(name).row_bytes(tensor.width), sensitivity.loss(sample, name)
            )
            for name in fitting
        ]
        done += tensor.weights
        if progress is not None:
            progress(done, total)
    return out
