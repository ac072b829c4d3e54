"""A quantized file against the float model it was made from: figures of every matrix and of attention."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import formats
from ..errors import ModelError
from ..formats.transform import Transform, stored_transform
from ..gguf import GGUFFile
from ..quantize import rotation
from ..quantize.calibration import Calibration, input_of
from ..quantize.sensitivity import take
from ..quantize.tensors import QuantizedTensor, dequantize, turn_rows
from .metrics import Metrics, attention_score_snr_db, mean, measure

if TYPE_CHECKING:
    import numpy as np

    from ..gguf.reader import TensorInfo as StoredTensor
    from ..sources import Source, TensorInfo

MOST_WEIGHTS = 1 << 22  # of a matrix; of larger ones evenly spaced rows are compared
BLOCK = 256  # weights that a histogram is normalised over
BINS, SPAN = 96, 4.0  # of the histogram: from -SPAN to SPAN times a block's rms


@dataclass(frozen=True)
class Pair:
    """Rows of a matrix before and after, float32 (rows, width), in the source's coordinates; `stored`: the
    same two as the format saw them, after a transform if there is one."""

    original: np.ndarray
    decoded: np.ndarray
    stored: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Histogram:
    """Shares of weights in BINS bins from -SPAN to SPAN, each block of 256 divided by its rms."""

    tensor: str
    format: str
    original: tuple[float, ...]
    decoded: tuple[float, ...]


@dataclass(frozen=True)
class TensorFigures:
    """One matrix. `rows_compared`: all of them, or of a large one some."""

    name: str
    format: str
    shape: tuple[int, ...]
    hadamard: bool
    bits: float
    rows_compared: int
    metrics: Metrics

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        out = {**self.__dict__, "shape": list(self.shape), **self.metrics.as_dict()}
        del out["metrics"]
        return out


@dataclass(frozen=True)
class FileFigures:
    """A whole file: `bits` are all bytes of tensors over all weights; `attention`: signal to noise of each
    layer's attention scores in dB, None where a matrix was too large to be compared whole."""

    path: str
    file_bytes: int
    bits: float
    formats: dict[str, int]  # weights in each
    recipe: str
    tensors: list[TensorFigures]
    overall: Metrics
    attention: list[float | None]
    histogram: Histogram | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        out = dict(self.__dict__)
        out["tensors"] = [t.as_dict() for t in self.tensors]
        out["overall"] = self.overall.as_dict()
        out["histogram"] = self.histogram.__dict__ if self.histogram else None
        return out


def measure_file(
    path: str | os.PathLike[str],
    source: Source,
    calibration: Calibration | None = None,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> FileFigures:
    """Compares every matrix of a GGUF file with the source's. `progress(matrices done, in all, name)`.

    ModelError when the file isn't of this model.
    """
    with GGUFFile.open(path) as file:
        turned = set(file.metadata.get("ruvq.hadamard.tensors", ()))
        transform = stored_transform(file.metadata) if turned else None
        matrices = [t for t in file.tensors if len(t.shape) > 1]
        source = _as_stored(source, file)
        figures: list[TensorFigures] = []
        scores = _Scores(source, calibration)
        histogram: Histogram | None = None
        for at, tensor in enumerate(matrices):
            if progress is not None:
                progress(at, len(matrices), tensor.name)
            theirs = _same(source, tensor, file.subject)
            pair = _pair(file, tensor, theirs, transform if tensor.name in turned else None)
            moment = _moment(calibration, theirs)
            figures.append(
                TensorFigures(
                    tensor.name,
                    tensor.format,
                    tensor.shape,
                    tensor.name in turned,
                    tensor.bits_per_weight,
                    len(pair.original),
                    measure(pair.original, pair.decoded, moment),
                )
            )
            scores.see(tensor, pair)
            if histogram is None and tensor.format not in ("f32", "f16", "bf16"):
                histogram = _histogram(tensor, pair)
        if progress is not None:
            progress(len(matrices), len(matrices), "")
        sizes = [math.prod(f.shape) for f in figures]
        kinds: dict[str, int] = {}
        for stored in file.tensors:
            kinds[stored.format] = kinds.get(stored.format, 0) + stored.weights
        return FileFigures(
            path=str(path),
            file_bytes=os.path.getsize(path),
            bits=8 * sum(t.nbytes for t in file.tensors) / sum(t.weights for t in file.tensors),
            formats=dict(sorted(kinds.items(), key=lambda k: -k[1])),
            recipe=str(file.metadata.get("ruvq.recipe", "")),
            tensors=figures,
            overall=mean([f.metrics for f in figures], sizes),
            attention=scores.snr_db,
            histogram=histogram,
        )


def _as_stored(source: Source, file: GGUFFile) -> Source:
    """The source as the file has it: rotated, where its recipe says so."""
    try:
        recipe = json.loads(str(file.metadata.get("ruvq.recipe", "{}")))
        return rotation.apply(source, str(recipe["options"].get("rotate", "none")), int(recipe["seed"]))
    except (ValueError, KeyError, TypeError, AttributeError):  # written by another tool
        return source


def _same(source: Source, tensor: StoredTensor, subject: str) -> TensorInfo:
    found = source.tensors.get(tensor.name)
    if found is None or tuple(found.shape) != tuple(tensor.shape):
        raise ModelError(
            "the file isn't of this float model",
            subject=f"{subject}: {tensor.name}",
            expected=f"a matrix of {tensor.shape} in the source",
            actual="none" if found is None else f"{found.shape}",
            hint="give the model it was quantized from with --against",
        )
    return found


def _moment(calibration: Calibration | None, tensor: TensorInfo) -> np.ndarray | None:
    name = input_of(tensor.name)
    if calibration is None or name is None:
        return None
    if calibration.has_moment(name):
        return calibration.moment(name, tensor.width)
    return calibration.importance(tensor.name, tensor.width)


def _pair(file: GGUFFile, tensor: StoredTensor, theirs: TensorInfo, transform: Transform | None) -> Pair:
    sample = take(theirs, MOST_WEIGHTS)
    row_bytes = formats.get(tensor.format).row_bytes(theirs.width)
    data = file.tensor_bytes(tensor.name)
    coded = b"".join(data[row * row_bytes : (row + 1) * row_bytes] for row in sample.picked)
    q = QuantizedTensor(tensor.format, sample.rows.shape, coded)
    decoded = dequantize(q, as_numpy=True)
    if transform is None:
        return Pair(sample.rows, decoded, (sample.rows, decoded))
    stored = turn_rows(sample.rows, transform, as_numpy=True), decoded
    return Pair(sample.rows, turn_rows(decoded, transform, True, as_numpy=True), stored)


class _Scores:
    """Attention scores of each layer, computed as soon as its query and key matrices have both been seen."""

    def __init__(self, source: Source, calibration: Calibration | None) -> None:
        self._source, self._calibration = source, calibration
        self._waiting: dict[int, dict[str, Pair]] = {}
        self.snr_db: list[float | None] = [None] * source.parameters.layers

    def see(self, tensor: StoredTensor, pair: Pair) -> None:
        """Takes note of a matrix; of those of large models only rows are there, and no scores then."""
        parts = tensor.name.split(".")
        if parts[0] != "blk" or parts[2] not in ("attn_q", "attn_k") or len(pair.original) != tensor.shape[0]:
            return
        layer = int(parts[1])
        found = self._waiting.setdefault(layer, {})
        found[parts[2]] = pair
        if len(found) == 2:
            moment = _moment(self._calibration, self._source.tensors[f"blk.{layer}.attn_q.weight"])
            q, k = ((p.original, p.decoded) for p in (found["attn_q"], found["attn_k"]))
            heads = self._source.parameters.heads
            self.snr_db[layer] = attention_score_snr_db(q, k, heads, moment)
            del self._waiting[layer]


def _histogram(tensor: StoredTensor, pair: Pair) -> Histogram:
    """Both sides over the rms of the original's blocks: where the weights lie, and where the grid is."""
    import numpy as np

    original, decoded = pair.stored
    width = original.shape[1]
    block = min(BLOCK, width)
    whole = width // block * block
    a = original[:, :whole].reshape(-1, block).astype(np.float64)
    b = decoded[:, :whole].reshape(-1, block)
    scale = np.sqrt(np.mean(a**2, axis=1, keepdims=True))
    scale[scale == 0] = 1
    counts = [np.histogram(v / scale, BINS, (-SPAN, SPAN))[0] / a.size for v in (a, b)]
    return Histogram(tensor.name, tensor.format, *(tuple(c.tolist()) for c in counts))
