"""What an error in each matrix costs the model: one matrix at a time is quantized, the rest stays in floats,
and the divergence of the predictions from the float model's is measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..evaluate.divergence import log_softmax
from ..gguf import GGUFFile
from ..quantize.calibration import SENSITIVITY
from ..quantize.sensitivity import round_trip
from ..quantize.tensors import QuantizedTensor, compare, dequantize, quantize
from ..runtime.model import Model

if TYPE_CHECKING:
    import numpy as np

    from ..gguf.reader import TensorInfo

PROBE = "pi-t2"  # coarse enough to be seen in a few hundred tokens, and what 2-bit plans are made of
TOKENS = 1024  # of the calibration set
MOST_LOGITS = 1 << 26  # of the float model, kept in memory: fewer tokens with large vocabularies
FLOATS = ("f32", "f16", "bf16")
DIGITS = 6  # that are kept: the last ones of a logarithm differ between machines


def measure_sensitivity(
    path: Path,
    windows: Sequence[Sequence[int]],
    folder: Path,
    *,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The artifact's keys: for every matrix of the float GGUF `path` the nats a token that rounding it to
    PROBE costs, and the squared error of that rounding.

    Copies the model into `folder` and changes the copy. `progress(matrices done, in all)`. UsageError for a
    model that isn't in floats.
    """
    with GGUFFile.open(path) as file:
        matrices = [t for t in file.tensors if len(t.shape) > 1]
        other = next((t for t in matrices if t.format not in FLOATS), None)
        if other is not None:
            raise UsageError(
                "sensitivities are measured on a float model",
                subject=other.name,
                expected=", ".join(FLOATS),
                actual=other.format,
            )
        copy = folder / "probed.gguf"
        shutil.copyfile(path, copy)
        with Model.open(path, kv="f32", threads=threads) as model:
            most = min(TOKENS, MOST_LOGITS // model.info.vocab_size)
            used = _first(windows, most)
            reference = [_predictions(model, window) for window in used]
        nats, errors = [], []
        for at, tensor in enumerate(matrices):
            original = bytes(file.tensor_bytes(tensor.name))
            rounded, error = _rounded(tensor, original, seed)
            _patch(copy, tensor, rounded)
            with Model.open(copy, kv="f32", threads=threads) as model:
                nats.append(_divergence(model, used, reference))
            _patch(copy, tensor, original)
            errors.append(error)
            if progress is not None:
                progress(at + 1, len(matrices))
        copy.unlink()
    return {
        f"{SENSITIVITY}.probe": PROBE,
        f"{SENSITIVITY}.tokens": sum(map(len, used)),
        f"{SENSITIVITY}.tensors": [t.name for t in matrices],
        f"{SENSITIVITY}.nats": [float(f"{v:.{DIGITS}g}") for v in nats],
        f"{SENSITIVITY}.squared_errors": errors,
    }


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


def _divergence(model: Model, windows: Sequence[Sequence[int]], reference: Sequence[np.ndarray]) -> float:
    """Mean of D(float || model) in nats a token."""
    import numpy as np

    total = 0.0
    for window, p in zip(windows, reference, strict=True):
        q = _predictions(model, window)
        total += float(np.sum(np.exp(p, dtype=np.float64) * (p.astype(np.float64) - q)))
    return max(total, 0.0) / sum(map(len, windows))


def _rounded(tensor: TensorInfo, data: bytes, seed: int) -> tuple[bytes, float]:
    """The tensor through PROBE and back, in its own float format, and the squared error of that."""
    values = dequantize(QuantizedTensor(tensor.format, tensor.shape, data), as_numpy=True)
    rounded = round_trip(values, PROBE, "auto", seed)
    return quantize(rounded, tensor.format).data, compare(values, rounded).mse * tensor.weights


def _patch(path: Path, tensor: TensorInfo, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(tensor.offset)
        file.write(data)
