"""How much each matrix would lose in each format, from some of its rows.

The loss is what the weights' squared error costs in this matrix: measured by `ruvq calibrate --sensitivity`,
in nats of the model's predictions, or else the same everywhere. (The error of the products,
weighed by the input's second moments, orders layers worse than either: docs/quantize.md.) All sums are the
core's, so that every machine makes the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import formats
from ..errors import ModelError, UsageError
from ..formats.transform import Transform
from ..sources import TensorInfo
from .assignment import Choice
from .calibration import Cost
from .plan import fits, method_for
from .tensors import compare, dequantize, quantize, turn_rows

if TYPE_CHECKING:
    import numpy as np

SAMPLE_WEIGHTS = 1 << 16  # of a matrix
# what a target chooses from unless told otherwise: of formats with equal bits the better one that is fast
CANDIDATES = ("pi-t2", "pi-t3", "iq4_xs", "iq4_nl", "q4_k", "q5_k", "q6_k", "q8_0", "f16")
# the same for files that llama.cpp runs
STOCK = ("iq2_xxs", "iq2_xs", "q2_k", "iq3_xxs", "q3_k", *CANDIDATES[2:])
# the same at any cost in speed
BEST = ("pi-x2", "pi-x3", *CANDIDATES[2:])
CANDIDATE_SETS = {"stock": STOCK, "best": BEST}  # names for several formats at once
LAST_RESORT = "f16"  # where no candidate holds a width


@dataclass(frozen=True)
class Sample:
    """Evenly spaced rows of a matrix: float32 (rows, width), and which they are."""

    tensor: TensorInfo
    rows: np.ndarray
    picked: Sequence[int]


def candidate_formats(names: Iterable[str]) -> tuple[str, ...]:
    """The formats of these names, those of CANDIDATE_SETS among them; of none at all CANDIDATES. UsageError
    for a format that can't be written."""
    spread = [format for name in names for format in CANDIDATE_SETS.get(name, (name,))]
    return tuple(dict.fromkeys(formats.get_writable(name).name for name in spread or CANDIDATES))


def take(tensor: TensorInfo, weights: int = SAMPLE_WEIGHTS) -> Sample:
    """At most `weights` weights of a matrix (but always a row), from its first row to its last."""
    import numpy as np

    count = max(1, min(tensor.rows, weights // tensor.width))
    if count == tensor.rows:
        return Sample(tensor, tensor.read(0, count), range(count))
    picked = [tensor.rows * i // count for i in range(count)]
    return Sample(tensor, np.concatenate([tensor.read(row, row + 1) for row in picked]), picked)


def round_trip(rows: np.ndarray, format: str, incoherence: str, seed: int) -> np.ndarray:
    """Float32 (rows, width) as they come back out of a format, without calibration."""
    method = method_for(format, incoherence)
    if not method:
        return dequantize(quantize(rows, format), as_numpy=True)
    transform = Transform(seed, method)
    turned = turn_rows(rows, transform, as_numpy=True)
    return turn_rows(dequantize(quantize(turned, format), as_numpy=True), transform, True, as_numpy=True)


def squared_error(sample: Sample, format: str, incoherence: str, seed: int) -> float:
    """Sum over the whole matrix of the squared differences, from the sample's."""
    found = compare(sample.rows, round_trip(sample.rows, format, incoherence, seed))
    return found.mse * sample.tensor.weights


def measure(
    tensors: Iterable[TensorInfo],
    candidates: Sequence[str],
    costs: Mapping[str, Cost] | None = None,
    *,
    incoherence: str = "auto",
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Choice]]:
    """What every matrix may become: name → choices. `costs`: of errors in each matrix; None: the squared
    error itself. `progress(weights done, weights in all)`.

    Where no candidate holds a matrix's width LAST_RESORT does; UsageError instead if `strict`. ModelError for
    costs of another model.
    """
    matrices = [t for t in tensors if len(t.shape) > 1]
    total, done = sum(t.weights for t in matrices), 0
    out: dict[str, list[Choice]] = {}
    for tensor in matrices:
        fitting = [name for name in candidates if fits(formats.get(name), tensor.width)]
        if not fitting and strict:
            raise UsageError(
                "no candidate holds this width",
                subject=tensor.name,
                expected=f"a format that takes rows of {tensor.width}",
                actual=", ".join(candidates),
                hint="add such a format with --candidates, or leave out --strict",
            )
        cost, sample = _cost(costs, tensor.name), take(tensor)
        out[tensor.name] = [
            Choice(
                name,
                tensor.rows * formats.get(name).row_bytes(tensor.width),
                cost.nats(squared_error(sample, name, incoherence, seed)),
            )
            for name in fitting or (LAST_RESORT,)
        ]
        done += tensor.weights
        if progress is not None:
            progress(done, total)
    return out


def _cost(costs: Mapping[str, Cost] | None, name: str) -> Cost:
    if costs is None:
        return Cost(((1.0, 1.0),))
    if name not in costs:
        raise ModelError(
            "the calibration belongs to another model",
            subject=name,
            expected="a sensitivity for every matrix",
            actual="none for this one",
            hint="calibrate this model with --sensitivity",
        )
    return costs[name]
