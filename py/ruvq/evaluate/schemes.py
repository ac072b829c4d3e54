"""Ways to quantize a matrix that are compared: format, scale rule, preparation, whose encoder.

The comparison is fair where both sides have the same preparation: the same transform, the same error feedback
from the same calibration, and the same rows where a format only takes rows of 256.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import formats
from ..errors import UsageError
from ..formats.transform import Transform
from ..quantize.calibration import Calibration, input_of
from ..quantize.feedback import DAMPING, Factor, Guide, factorise
from ..quantize.rows import EncodeOptions, RowEncoder
from ..quantize.tensors import QuantizedTensor, dequantize, hadamard
from ..sources import TensorInfo, open_source
from ..sources.safetensors_file import SafetensorsFile
from . import ggml_peer
from .peer_feedback import round_with_feedback

if TYPE_CHECKING:
    import numpy as np

SUPERBLOCK = 256  # weights that a row of ggml's K and IQ formats is made of


@dataclass(frozen=True)
class Scheme:
    """`peer`: encoded by ggml's C code, with `importance` of ones where that is set (it then minimises the
    plain squared error). `flat`: the matrix cut into rows of 256, whatever its width."""

    label: str
    format: str
    scale: str = "default"
    hadamard: bool = False
    feedback: bool = False
    peer: bool = False
    importance: bool = False
    flat: bool = False

    @property
    def preparation(self) -> str:
        """Name of what is done before and while rounding."""
        return {
            (False, False): "none",
            (True, False): "hadamard",
            (False, True): "feedback",
            (True, True): "hadamard + feedback",
        }[self.hadamard, self.feedback]


@dataclass(frozen=True)
class Matrix:
    """Float32 `values` (rows, width); second moments (width, width) of its input to round with, and of other
    text to measure with, or None."""

    name: str
    values: np.ndarray
    moment: np.ndarray | None = None
    held_out: np.ndarray | None = None

    @property
    def width(self) -> int:
        """Weights in a row."""
        return self.values.shape[1]


@dataclass(frozen=True)
class Outcome:
    """What a matrix became, in its own coordinates, and the bits per weight of all bytes."""

    decoded: np.ndarray
    bits: float


def needs_flat(format: str, width: int) -> bool:
    """Whether a matrix has to be cut into rows of 256 for this format."""
    entry = formats.get(format)
    return not entry.any_width and width % entry.block_weights != 0


def apply(scheme: Scheme, matrix: Matrix, seed: int = 0) -> Outcome:
    """Quantizes and decodes. UsageError for a scheme that this matrix can't have."""
    import numpy as np

    rows = matrix.values
    if scheme.hadamard:
        rows = hadamard(rows, seed, as_numpy=True)
    shaped = _flat(rows) if scheme.flat else rows
    if scheme.peer and scheme.feedback:
        decoded = _peer_with_feedback(scheme, matrix, rows, shaped.shape, seed)
    elif scheme.peer:
        ones = np.ones(shaped.shape[1], np.float32) if scheme.importance else None
        decoded = ggml_peer.quantize(shaped, scheme.format, ones)
    else:
        decoded = _encode(scheme, matrix, shaped, seed)
    bits = formats.get(scheme.format).bits_per_weight(shaped.shape[1])
    decoded = decoded.reshape(rows.shape)
    if scheme.hadamard:
        decoded = hadamard(np.ascontiguousarray(decoded), seed, inverse=True, as_numpy=True)
    return Outcome(decoded, bits)


def _flat(rows: np.ndarray) -> np.ndarray:
    if rows.size % SUPERBLOCK:
        raise UsageError(
            "the matrix can't be cut into rows of 256",
            subject=f"{rows.shape}",
            expected=f"a multiple of {SUPERBLOCK} weights",
            actual=f"{rows.size}",
        )
    return rows.reshape(-1, SUPERBLOCK)


def _peer_with_feedback(
    scheme: Scheme, matrix: Matrix, rows: np.ndarray, shape: tuple[int, ...], seed: int
) -> np.ndarray:
    """ggml's scales, found with the importance that error feedback leaves to each column (the pivots of H's
    factor), and codes with feedback. Rows of 256 only say which weights share a scale."""
    import numpy as np

    factor = _factor(scheme, matrix, seed)
    importance = np.broadcast_to(factor.pivots, rows.shape).reshape(shape)
    coded = ggml_peer.encode(rows.reshape(shape), scheme.format, np.ascontiguousarray(importance))
    return round_with_feedback(rows, coded, factor)


def _factor(scheme: Scheme, matrix: Matrix, seed: int) -> Factor:
    if matrix.moment is None:
        raise UsageError("error feedback needs second moments", subject=matrix.name)
    return factorise(matrix.moment, Transform(seed) if scheme.hadamard else None, DAMPING, matrix.name)


def _encode(scheme: Scheme, matrix: Matrix, rows: np.ndarray, seed: int) -> np.ndarray:
    """With ruvq's encoders; `rows` went through the transform already, if there is one."""
    guide = None
    if scheme.feedback:
        if scheme.flat:
            raise UsageError("error feedback needs whole rows", subject=matrix.name)
        guide = Guide(factor=_factor(scheme, matrix, seed))
    entry = formats.get_writable(scheme.format)
    encoder = RowEncoder(entry, rows.shape[1], EncodeOptions(scale=scheme.scale), None, None, guide)
    coded = encoder.encode(0, rows)
    return dequantize(QuantizedTensor(entry.name, rows.shape, coded.data), as_numpy=True)


class Matrices:
    """The matrices of a model, or of a safetensors file that holds nothing else, read one at a time.

    At most `most` of them, evenly chosen, and `rows` rows of each. `calibration`, `held_out`: artifacts of
    `ruvq calibrate` over two different texts, to round with and to measure with. Use it in a `with`. Raises
    as `open_source` does.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        tokenizer: str | None = None,
        config: str | None = None,
        calibration: str | os.PathLike[str] | None = None,
        held_out: str | os.PathLike[str] | None = None,
        rows: int | None = None,
        most: int | None = None,
    ) -> None:
        self._rows = rows
        with contextlib.ExitStack() as stack:
            found = _tensors(stack, Path(path), tokenizer, config)
            count = min(len(found), most or len(found))
            self.tensors = [found[len(found) * i // count] for i in range(count)]
            self._calibration, self._held_out = (
                stack.enter_context(Calibration.open(p)) if p is not None else None
                for p in (calibration, held_out)
            )
            self._stack = stack.pop_all()
        if not self.tensors:
            self._stack.close()
            raise UsageError(
                "there are no matrices to compare on", subject=str(path), expected="at least one"
            )

    @property
    def calibrated(self) -> bool:
        """Whether there are second moments for every matrix."""
        names = [input_of(t.name) for t in self.tensors]
        return self._calibration is not None and all(
            name is not None and self._calibration.has_moment(name) for name in names
        )

    @property
    def weights(self) -> int:
        """Weights that are read of all matrices."""
        return sum(self._count(t) * t.width for t in self.tensors)

    def _count(self, tensor: TensorInfo) -> int:
        return min(tensor.rows, self._rows or tensor.rows)

    def __iter__(self) -> Iterator[Matrix]:
        for tensor in self.tensors:
            artifacts = (self._calibration, self._held_out)
            moments = [moment_of(a, tensor.name, tensor.width) for a in artifacts]
            yield Matrix(tensor.name, tensor.read(0, self._count(tensor)), *moments)

    def __enter__(self) -> Matrices:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


def moment_of(artifact: Calibration | None, tensor: str, width: int) -> np.ndarray | None:
    """Second moments of a matrix's input, where the artifact has them."""
    name = input_of(tensor)
    if artifact is None or name is None or not artifact.has_moment(name):
        return None
    return artifact.moment(name, width)


def _tensors(
    stack: contextlib.ExitStack, path: Path, tokenizer: str | None, config: str | None
) -> list[TensorInfo]:
    """A safetensors file without config.json beside it has no model around its matrices."""
    if path.suffix != ".safetensors" or config is not None or (path.parent / "config.json").is_file():
        source = stack.enter_context(open_source(path, tokenizer, config, allow_requantize=True))
        return [t for t in source.tensors.values() if len(t.shape) > 1]
    file = SafetensorsFile(path)
    stack.callback(file.close)
    return [
        TensorInfo(name, entry.shape, file.dtype(name), partial(file.rows, name))
        for name, entry in file.entries.items()
        if len(entry.shape) == 2 and 0 not in entry.shape
    ]
