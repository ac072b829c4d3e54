"""Runs a model over windows of tokens while the engine sums the second moments of every matrix's input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import core
from ..errors import DataError
from ..quantize.calibration import LAYER_INPUTS, OUTPUT_INPUT

if TYPE_CHECKING:
    import numpy as np

    from ..runtime.engine import Engine, ModelInfo

BATCH = 512  # tokens of a step: every matrix of second moments is read and written once a step
OUTLIER = 20.0  # times the median window's energy a token


@dataclass(frozen=True)
class Moments:
    """Sums over `tokens` tokens: input's name → float32 (width, width) of x x^T, upper half filled, or with
    `is_diagonal` (width,) of x^2. `outliers`: windows of far more energy than the others, and where."""

    tokens: int
    sums: dict[str, np.ndarray]
    is_diagonal: bool
    outliers: list[tuple[int, str, float]]

    def diagonal(self, name: str) -> np.ndarray:
        """Sums of squares of an input: float32 (width,)."""
        import numpy as np

        sums = self.sums[name]
        return sums if self.is_diagonal else np.ascontiguousarray(np.diagonal(sums))


def inputs_of(info: ModelInfo) -> Iterator[tuple[str, int]]:
    """Names and widths of a model's inputs, in the core's order."""
    widths = (info.width, info.heads * info.head_width, info.width, info.ff_width)
    for layer in range(info.layers):
        for name, width in zip(LAYER_INPUTS, widths, strict=True):
            yield f"blk.{layer}.{name}", width
    yield OUTPUT_INPUT, info.width


def collect(
    engine: Engine,
    windows: Iterable[Sequence[int]],
    *,
    diagonal: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Moments:
    """The second moments over all windows, each computed from an empty context.

    `engine`: best opened with `batch=BATCH`. `diagonal`: only of each input with itself, which needs little
    memory. `progress(tokens so far)` is called after each window.
    DataError when an activation isn't finite, or an input stays zero throughout.
    """
    import numpy as np

    backend = core.get()
    memory = backend.alloc(4 * engine.moments(diagonal))
    data = np.frombuffer(backend.view(memory.address, memory.nbytes), np.float32)
    sums, at = {}, 0
    for name, width in inputs_of(engine.info):
        size = width if diagonal else width * width
        piece = data[at : at + size]
        sums[name] = piece if diagonal else piece.reshape(width, width)
        at += size
    tokens, energies, before = 0, [], np.zeros(len(sums))
    try:
        engine.collect(memory.address, diagonal)
        for window in windows:
            engine.truncate(0)
            engine.feed(window)
            while engine.step():
                pass
            tokens += len(window)
            energy = np.array(
                [float(np.sum(s if diagonal else np.diagonal(s), dtype=float)) for s in sums.values()]
            )
            energies.append((energy - before) / len(window))
            before = energy
            if progress is not None:
                progress(tokens)
    finally:
        engine.collect(0)
    result = {name: np.array(values) for name, values in sums.items()}
    memory.free()
    _check_reached(result, diagonal)
    return Moments(tokens, result, diagonal, _outliers(list(result), energies))


def _check_reached(sums: dict[str, np.ndarray], diagonal: bool) -> None:
    import numpy as np

    dead = [n for n, s in sums.items() if not np.any(s if diagonal else np.diagonal(s))]
    if dead:
        raise DataError(
            "calibration never reached some inputs",
            subject=", ".join(dead[:4]) + (f" and {len(dead) - 4} more" if len(dead) > 4 else ""),
            expected="activations that are not all zero",
            actual="zeros",
            hint="calibrate on more text; if it stays so, the model itself is damaged",
        )


def _outliers(names: list[str], energies: Sequence[np.ndarray]) -> list[tuple[int, str, float]]:
    """Windows with more than OUTLIER times the median energy at some input, each with its worst input."""
    import numpy as np

    ratios = np.array(energies) / np.maximum(np.median(np.array(energies), axis=0), 1e-30)
    worst = ratios.argmax(axis=1)
    return [
        (window, names[at], float(ratios[window, at]))
        for window, at in enumerate(worst)
        if ratios[window, at] > OUTLIER
    ]
