"""Runs a model over windows of tokens, layer by layer, while the engine sums the second moments of every
matrix's input. Between layers the residual stream of all tokens lies in a file, so that memory holds the
moments of one layer only, and a run that was killed goes on with the layer it was in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import core
from ..errors import DataError
from ..gguf.journal import replace_text
from ..quantize.calibration import LAYER_INPUTS, OUTPUT_INPUT
from ..quantize.metadata import file_digest

if TYPE_CHECKING:
    import numpy as np

    from ..runtime.engine import Engine, ModelInfo

BATCH = 512  # tokens of a step: every matrix of second moments is read and written once a step
OUTLIER = 20.0  # times the median window's energy a token


def inputs_of(info: ModelInfo, layer: int) -> list[tuple[str, int]]:
    """Names and widths of a layer's inputs, in the core's order; behind the last layer the output's."""
    if layer == info.layers:
        return [(OUTPUT_INPUT, info.width)]
    widths = (info.width, info.heads * info.head_width, info.width, info.ff_width)
    return [(f"blk.{layer}.{name}", width) for name, width in zip(LAYER_INPUTS, widths, strict=True)]


class Collector:
    """Second moments of one layer after the other, over all windows, each from an empty context.

    `engine`: best opened with `batch=BATCH`. `folder`: for the residual stream. `diagonal`: only of each
    input with itself. `progress(tokens done, tokens in all, whether an earlier run did it)` counts a
    token once a layer. `layer`: the next one; above 0 when `folder` holds what an earlier run left.
    """

    def __init__(
        self,
        engine: Engine,
        windows: Sequence[Sequence[int]],
        folder: Path,
        *,
        diagonal: bool = False,
        progress: Callable[[int, int, bool], None] | None = None,
    ) -> None:
        self._engine, self._windows, self._folder = engine, windows, folder
        self._diagonal, self._progress = diagonal, progress
        self.tokens = sum(map(len, windows))
        self.layer = 0
        self._worst: list[tuple[float, str]] = [(0.0, "")] * len(windows)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            if file_digest(self._stream(state["layer"])) == state["residual"]:
                self.layer, self._worst = state["layer"], [(ratio, name) for ratio, name in state["worst"]]
        self._tell(0, resumed=self.layer > 0)

    def restart(self) -> None:
        """From the first layer again."""
        self.layer = 0
        self._worst = [(0.0, "")] * len(self._windows)

    def _stream(self, layer: int) -> Path:
        """The residual stream before a layer: float32 (tokens, width)."""
        return self._folder / f"residual-{layer}"

    def _tell(self, tokens: int, *, resumed: bool = False) -> None:
        if self._progress is not None:
            layers = self._engine.info.layers + 1
            self._progress(self.layer * self.tokens + tokens, layers * self.tokens, resumed)

    def collect(self) -> dict[str, np.ndarray]:
        """The sums of the present layer's inputs over all tokens: name → float32 (width, width) of x x^T,
        upper half filled, or with `diagonal` (width,) of x^2. DataError when an activation isn't finite, or
        an input stays zero throughout."""
        import numpy as np

        backend, info, layer = core.get(), self._engine.info, self.layer
        inputs = inputs_of(info, layer)
        memory = backend.alloc(4 * self._engine.moments(layer, self._diagonal))
        data = np.frombuffer(backend.view(memory.address, memory.nbytes), np.float32)
        sums, at = {}, 0
        for name, width in inputs:
            size = width if self._diagonal else width * width
            piece = data[at : at + size]
            sums[name] = piece if self._diagonal else piece.reshape(width, width)
            at += size
        energies, before = [], np.zeros(len(inputs))
        for tokens in self._steps(memory.address):
            energy = np.array([float(np.sum(self.diagonal(s), dtype=float)) for s in sums.values()])
            energies.append((energy - before) / tokens)
            before = energy
        result = {name: values.copy() for name, values in sums.items()}
        memory.free()
        self._check_reached(result)
        self._note_outliers(list(result), np.array(energies))
        return result

    def diagonal(self, sums: np.ndarray) -> np.ndarray:
        """Sums of squares of an input: float32 (width,)."""
        import numpy as np

        return sums if self._diagonal else np.ascontiguousarray(np.diagonal(sums))

    def _steps(self, moments: int) -> Iterator[int]:
        """Computes the layer for each window; the window's tokens."""
        engine, width, layer = self._engine, self._engine.info.width, self.layer
        backend, done = core.get(), 0
        last = layer == engine.info.layers
        with contextlib.ExitStack() as stack:
            rows = stack.enter_context(backend.alloc(4 * width * engine.info.context_tokens))
            stack.callback(engine.stage, 0)
            source = stack.enter_context(open(self._stream(layer), "rb")) if layer else None
            target = None if last else stack.enter_context(open(self._stream(layer + 1), "wb"))
            engine.stage(rows.address, layer, moments=moments, diagonal=self._diagonal)
            for window in self._windows:
                if source is not None:
                    backend.write(rows.address, source.read(4 * width * len(window)))
                engine.truncate(0)
                engine.feed(window)
                while engine.step():
                    pass
                if target is not None:
                    target.write(backend.view(rows.address, 4 * width * len(window)))
                done += len(window)
                self._tell(done)
                yield len(window)

    def finish(self) -> None:
        """Goes on to the next layer: the present one's moments are in the artifact."""
        old = self._stream(self.layer)
        self.layer += 1
        if self.layer > self._engine.info.layers:
            return
        state = {"layer": self.layer, "residual": file_digest(self._stream(self.layer)), "worst": self._worst}
        replace_text(self._folder / "state.json", json.dumps(state))
        old.unlink(missing_ok=True)

    def _check_reached(self, sums: dict[str, np.ndarray]) -> None:
        import numpy as np

        dead = [name for name, values in sums.items() if not np.any(self.diagonal(values))]
        if dead:
            raise DataError(
                "calibration never reached some inputs",
                subject=", ".join(dead),
                expected="activations that are not all zero",
                actual="zeros",
                hint="calibrate on more text; if it stays so, the model itself is damaged",
            )

    def _note_outliers(self, names: list[str], energies: np.ndarray) -> None:
        """Keeps each window's highest ratio to the median window, `energies` (windows, inputs) a token."""
        import numpy as np

        ratios = energies / np.maximum(np.median(energies, axis=0), 1e-30)
        for window, at in enumerate(ratios.argmax(axis=1)):
            self._worst[window] = max(self._worst[window], (float(ratios[window, at]), names[at]))

    def outliers(self) -> list[tuple[int, str, float]]:
        """Windows so far with more than OUTLIER times the median energy, each with its worst input."""
        return [(at, name, ratio) for at, (ratio, name) in enumerate(self._worst) if ratio > OUTLIER]
