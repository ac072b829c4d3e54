"""What an error in each matrix costs the model: one matrix at a time is rounded as it would be in a quantized
file, the rest stays in floats, and the divergence of the predictions from the float model's is measured."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .. import formats
from ..errors import UsageError
from ..evaluate.divergence import log_softmax
from ..gguf import GGUFFile
from ..quantize.calibration import PROBES, input_of
from ..quantize.feedback import DAMPING, Guides
from ..quantize.plan import PlannedTensor, method_for
from ..quantize.rows import EncodeOptions, RowEncoder, chunk_rows
from ..quantize.sensitivity import round_trip
from ..quantize.tensors import QuantizedTensor, compare, dequantize, quantize, turn_rows
from ..runtime.model import Model

if TYPE_CHECKING:
    import numpy as np

    from ..gguf.reader import TensorInfo

TOKENS = 1024  # of the calibration set
MOST_LOGITS = 1 << 26  # of the float model, kept in memory: fewer tokens with large vocabularies
FLOATS = ("f32", "f16", "bf16")
DIGITS = 6  # that are kept: the last ones of a logarithm differ between machines


@dataclass(frozen=True)
class LayerSums:
    """What was collected of a layer, as `Guides` asks an artifact for it. `sums`: x x^T over all tokens by
    input, upper half filled, or only x^2 (width,)."""

    sums: Mapping[str, np.ndarray]
    tokens: int

    def has_moment(self, name: str) -> bool:
        """Whether there is a whole matrix."""
        return name in self.sums and self.sums[name].ndim == 2

    def moment(self, name: str, width: int) -> np.ndarray:
        """Float32 (width, width), symmetric."""
        import numpy as np

        upper = np.triu(self.sums[name])
        return upper + np.triu(upper, 1).T

    def importance(self, tensor: str, width: int) -> np.ndarray | None:
        """Mean square of each column's input: float32 (width,)."""
        import numpy as np

        sums = self.sums[str(input_of(tensor))]
        return ((sums if sums.ndim == 1 else np.diagonal(sums)) / np.float32(self.tokens)).astype("<f4")


class Prober:
    """Rounds matrices of the float GGUF `path` in a copy of it in `folder`. UsageError for a model that isn't
    in floats. `progress(matrices done, in all)`."""

    def __init__(
        self,
        path: Path,
        windows: Sequence[Sequence[int]],
        folder: Path,
        *,
        seed: int = 0,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._path, self._windows, self._copy = path, windows, folder / "probed.gguf"
        self._seed, self._threads, self._progress = seed, threads, progress
        with GGUFFile.open(path) as file:
            self._matrices = {t.name: t for t in file.tensors if len(t.shape) > 1}
        other = next((t for t in self._matrices.values() if t.format not in FLOATS), None)
        if other is not None:
            raise UsageError(
                "sensitivities are measured on a float model",
                subject=other.name,
                expected=", ".join(FLOATS),
                actual=other.format,
            )
        self.done = 0  # matrices, by an earlier run too

    @cached_property
    def _reference(self) -> list[tuple[Sequence[int], np.ndarray]]:
        """Windows of TOKENS tokens at most, and the float model's predictions; makes the copy."""
        shutil.copyfile(self._path, self._copy)
        with Model.open(self._path, kv="f32", threads=self._threads) as model:
            used = _first(self._windows, min(TOKENS, MOST_LOGITS // model.info.vocab_size))
            return [(window, _predictions(model, window)) for window in used]

    def measure(self, name: str, sums: LayerSums) -> np.ndarray:
        """Float32 (PROBES, 2): the nats a token that rounding the matrix to each probe costs, with error
        feedback where `sums` has second moments, and the squared error of rounding it without."""
        import numpy as np

        reference, tensor = self._reference, self._matrices[name]
        with GGUFFile.open(self._path) as file:
            original = bytes(file.tensor_bytes(name))
        values = dequantize(QuantizedTensor(tensor.format, tensor.shape, original), as_numpy=True)
        found, guides = [], Guides(sums, DAMPING)
        for probe in PROBES:
            rounded = self._rounded(tensor, values, probe, guides)
            _patch(self._copy, tensor, quantize(rounded, tensor.format).data)
            with Model.open(self._copy, kv="f32", threads=self._threads) as model:
                nats = _divergence(model, reference)
            error = compare(values, round_trip(values, probe, "auto", self._seed)).mse * tensor.weights
            found.append((float(f"{nats:.{DIGITS}g}"), error))
        _patch(self._copy, tensor, original)
        self.done += 1
        if self._progress is not None:
            self._progress(self.done, len(self._matrices))
        return np.array(found, "<f4")

    def _rounded(self, tensor: TensorInfo, values: np.ndarray, probe: str, guides: Guides) -> np.ndarray:
        """As a file in this format would have the matrix: float32 (rows, width)."""
        method = method_for(probe, "auto")
        planned = PlannedTensor(tensor.name, tensor.shape, tensor.format, probe, method, 0, 0.0)
        transform = planned.transform(self._seed)
        guide = guides.of(planned, transform)
        width = tensor.shape[-1]
        encoder = RowEncoder(formats.get(probe), width, EncodeOptions(), transform, guide=guide)
        step = chunk_rows(width)
        with ThreadPoolExecutor(self._threads or os.cpu_count()) as pool:
            chunks = pool.map(
                lambda at: encoder.encode(at, values[at : at + step]).data, range(0, len(values), step)
            )
            q = QuantizedTensor(probe, tensor.shape, b"".join(chunks))
        rounded = dequantize(q, as_numpy=True)
        return rounded if transform is None else turn_rows(rounded, transform, True, as_numpy=True)


def _first(windows: Sequence[Sequence[int]], most: int) -> list[Sequence[int]]:
    """Windows of at most `most` tokens together, the last one cut."""
    out: list[Sequence[int]] = []
    left = max(most, 2)
    for window in windows:
        if left < 2:
            break
        out.append(window[:left])
        left -= len(out[-1])
    return out


def _predictions(model: Model, tokens: Sequence[int]) -> np.ndarray:
    """Log-probabilities after every token: float32 (tokens, vocab_size)."""
    import numpy as np

    return log_softmax(np.asarray(model.logits(tokens))).astype(np.float32)


def _divergence(model: Model, reference: Sequence[tuple[Sequence[int], np.ndarray]]) -> float:
    """Mean of D(float || model) in nats a token."""
    import numpy as np

    total = 0.0
    for window, p in reference:
        q = _predictions(model, window)
        total += float(np.sum(np.exp(p, dtype=np.float64) * (p.astype(np.float64) - q)))
    return max(total, 0.0) / sum(len(window) for window, _ in reference)


def _patch(path: Path, tensor: TensorInfo, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(tensor.offset)
        file.write(data)
