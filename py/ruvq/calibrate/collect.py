"""Runs a model over windows of tokens while the engine sums the second moments of every matrix's input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import core
from ..quantize.calibration import LAYER_INPUTS, OUTPUT_INPUT

if TYPE_CHECKING:
    import numpy as np

    from ..runtime.engine import Engine, ModelInfo

BATCH = 512  # tokens of a step: every matrix of second moments is read and written once a step


@dataclass(frozen=True)
class Moments:
    """Sums over `tokens` tokens of x x^T, upper halves: input's name → float32 (width, width)."""

    tokens: int
    sums: dict[str, np.ndarray]


def _inputs(info: ModelInfo) -> Iterator[tuple[str, int]]:
    """Names and widths, in the core's order."""
    widths = (info.width, info.heads * info.head_width, info.width, info.ff_width)
    for layer in range(info.layers):
        for name, width in zip(LAYER_INPUTS, widths, strict=True):
            yield f"blk.{layer}.{name}", width
    yield OUTPUT_INPUT, info.width


def collect(
    engine: Engine, windows: Iterable[Sequence[int]], progress: Callable[[int], None] | None = None
) -> Moments:
    """The second moments over all windows, each computed from an empty context.

    `engine`: best opened with `batch=BATCH`. `progress(tokens so far)` is called after each window.
    DataError when an activation isn't finite.
    """
    import numpy as np

    backend = core.get()
    memory = backend.alloc(4 * engine.moments())
    tokens = 0
    try:
        engine.collect(memory.address)
        for window in windows:
            engine.truncate(0)
            engine.feed(window)
            while engine.step():
                pass
            tokens += len(window)
            if progress is not None:
                progress(tokens)
    finally:
        engine.collect(0)
    data = np.frombuffer(backend.view(memory.address, memory.nbytes), np.float32).copy()
    sums, at = {}, 0
    for name, width in _inputs(engine.info):
        sums[name] = data[at : at + width * width].reshape(width, width)
        at += width * width
    return Moments(tokens, sums)
