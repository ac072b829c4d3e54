"""A LoRA adapter in memory: for each matrix W the pair that adds scale B A to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, FileFormatError

Matrix = np.ndarray  # float32, (rows, width)


@dataclass(frozen=True)
class Pair:
    """`a` (rank, in), `b` (out, rank), both float32, and what their product is multiplied by."""

    a: Matrix
    b: Matrix
    scale: float

    @property
    def rank(self) -> int:
        """Rows of `a`."""
        return len(self.a)

    def delta(self) -> Matrix:
        """(out, in): what is added to the matrix."""
        return self.b @ self.a * np.float32(self.scale)


@dataclass(frozen=True)
class Lora:
    """`pairs` by name: Hugging Face's names of modules where `architecture` is "", rows in their order, else
    GGUF's names of tensors, rows in GGUF's order. `base`: what it was made for, as far as anybody says."""

    pairs: Mapping[str, Pair]
    architecture: str = ""
    base: str = ""


def checked_pair(name: str, a: Matrix, b: Matrix, scale: float, where: str) -> Pair:
    """FileFormatError when A and B don't fit each other, DataError for NaN and infinity."""
    subject = f"{where}: {name}"
    if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1] or not 1 <= len(a) <= min(len(b), a.shape[1]):
        raise FileFormatError(
            "the two matrices of an adapter don't fit", subject=subject,
            expected="A (rank, in) and B (out, rank), of a rank of at most in and out",
            actual=f"{a.shape} and {b.shape}",
        )  # fmt: skip
    if not (np.isfinite(a).all() and np.isfinite(b).all() and np.isfinite(scale)):
        raise DataError(
            "an adapter holds NaN or infinity", subject=subject, expected="finite numbers",
            actual="others", hint="the file is damaged, or training went wrong",
        )  # fmt: skip
    return Pair(np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32), float(scale))
