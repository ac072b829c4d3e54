"""What every source gives: hyper-parameters, float tensors under GGUF's names, a tokenizer."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from .llama import LlamaParameters


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a source, read a few rows at a time.

    `shape` is (rows, width) or (width,); `dtype` names how the source stores it ("f32", "bf16", ...);
    `reader(first, last)` gives rows [first, last) as a buffer of float32.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    reader: Callable[[int, int], Any] = field(repr=False, compare=False)

    @property
    def width(self) -> int:
        """Weights in a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Rows; 1 for a vector."""
        return math.prod(self.shape[:-1])

    @property
    def weights(self) -> int:
        """Weights in all."""
        return math.prod(self.shape)

    def read(self, first: int, last: int) -> Any:
        """Rows [first, last) as float32 (last - first, width): a NumPy array, or in Pyodide, which may have
        no NumPy, a memoryview. DataError on NaN and infinity."""
        values: Any = memoryview(self.reader(first, last)).cast("B").cast("f")
        if not math.isfinite(sum(values)):  # of doubles: finite floats can't overflow it
            self._refuse(values, first)
        shape = (last - first, self.width)
        if sys.platform == "emscripten":
            return values.cast("B").cast("f", shape)
        import numpy as np

        return np.frombuffer(values, np.float32).reshape(shape)

    def _refuse(self, values: Any, first: int) -> None:
        place = next(i for i, value in enumerate(values) if not math.isfinite(value))
        row, column = first + place // self.width, place % self.width
        raise DataError(
            "a weight is not a finite number",
            subject=f"{self.name}[{row}, {column}]" if len(self.shape) > 1 else f"{self.name}[{column}]",
            expected="finite weights",
            actual=f"{values[place]} at row {row}, column {column}",
            hint="the source is damaged or its training diverged; export or download it again",
        )

    def chunks(self, rows: int) -> Iterator[tuple[int, Any]]:
        """(first row, values) for the whole tensor, at most `rows` rows at a time."""
        for first in range(0, self.rows, rows):
            yield first, self.read(first, min(self.rows, first + rows))

    def load(self) -> Any:
        """The whole tensor as a NumPy array, float32 in its shape."""
        return self.read(0, self.rows).reshape(self.shape)


class Source:
    """A float model that can be quantized.

    `parameters`: hyper-parameters; `tensors`: GGUF name -> TensorInfo in file order; `tokenizer`: a
    TokenizerSpec, or None when the source has none; `name`: for general.name; `kind`: what was opened;
    `notes`: what a user should know about the conversion.
    """

    def __init__(
        self,
        *,
        path: Path,
        kind: str,
        name: str,
        parameters: LlamaParameters,
        tensors: Mapping[str, TensorInfo],
        tokenizer: Any = None,
        metadata: Mapping[str, Any] | None = None,
        notes: list[str] | None = None,
        files: list[Path] | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.name = name
        self.parameters = parameters
        self.tensors = tensors
        self.tokenizer = tokenizer
        self.extra_metadata = dict(metadata or {})
        self.notes = notes or []
        self.files = files or [path]  # that hold the weights
        self._close = close

    @property
    def architecture(self) -> str:
        """For general.architecture."""
        return self.parameters.architecture

    @property
    def weights(self) -> int:
        """Weights of all tensors."""
        return sum(t.weights for t in self.tensors.values())

    def close(self) -> None:
        """Closes the files; tensors can't be read afterwards."""
        self._close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
