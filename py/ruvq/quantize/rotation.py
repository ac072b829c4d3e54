"""Rotations folded into a model's weights: no reader needs to know of them.

`residual`: with R orthogonal, every layer sees R x of the residual stream instead of x. An RMS norm divides
by the same number then, but its gain g stands between x and R, so it is absorbed first: a matrix that reads
the stream becomes W diag(g) R^T and the gain 1; one that writes to it becomes R W; the embedding's rows
become R e. A tied embedding can't stay tied: as the output matrix it has absorbed a gain, as the embedding it
has not.

`values`: what attention sums up is turned in every head, by the rows of attn_v, and turned back by the
columns of attn_output. `all`: both.

The model computes what it did, and outliers of single channels are spread over many, which low-bit formats
without a transform of their own gain from. R is the randomised blocked Hadamard transform of docs/formats.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError
from ..sources import Source, TensorInfo
from .mixes import EMBEDDING, OUTPUT
from .tensors import hadamard

if TYPE_CHECKING:
    import numpy as np

ROTATIONS = ("none", "residual", "values", "all")
_NORM = "output_norm.weight"
# the norm whose gain a matrix of a layer absorbs
_READS = {
    **dict.fromkeys(("attn_q", "attn_k", "attn_v"), "attn_norm"),
    **dict.fromkeys(("ffn_gate", "ffn_up"), "ffn_norm"),
}
_WRITES = ("attn_output", "ffn_down")
_STAYS = ("attn_q_norm.weight", "attn_k_norm.weight", "attn_q.bias", "attn_k.bias", "rope_freqs.weight")


def apply(source: Source, rotate: str, seed: int) -> Source:
    """The source, rotated by one of ROTATIONS. UsageError for another word, ModelError for a model with
    tensors whose place isn't known."""
    if rotate not in ROTATIONS:
        raise UsageError(
            "unknown rotation", subject="rotate", expected=", ".join(ROTATIONS), actual=str(rotate)
        )
    if rotate == "none":
        return source
    residual = rotate in ("residual", "all")
    tied = source.parameters.tied and not residual
    parameters = dataclasses.replace(source.parameters, tied=tied)
    turn = _Rotation(source.tensors, parameters.head_width, residual, rotate in ("values", "all"), seed)
    tensors = {name: turn.tensor(name, shape) for name, shape in parameters.shapes().items()}
    notes = []
    if residual:
        notes.append("the residual stream is rotated: gains of norms are 1, their matrices absorbed them")
    if source.parameters.tied and residual:
        notes.append("the embedding was tied: rotated, the output matrix is another one and stored as well")
    return Source(
        path=source.path,
        kind=source.kind,
        name=source.name,
        parameters=parameters,
        tensors=tensors,
        tokenizer=source.tokenizer,
        metadata=source.extra_metadata,
        notes=[*source.notes, *notes],
        files=source.files,
        close=source.close,
    )


@dataclass(frozen=True)
class _Rotation:
    """Makes the rotated tensors; `old` are the source's."""

    old: Mapping[str, TensorInfo]
    head_width: int
    residual: bool
    values: bool
    seed: int

    def tensor(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        before = self.old[EMBEDDING if name == OUTPUT and name not in self.old else name]
        return dataclasses.replace(before, name=name, shape=shape, reader=self._reader(name, before))

    def _reader(self, name: str, tensor: TensorInfo) -> Callable[[int, int], Any]:
        if name == EMBEDDING:
            return self._rows(tensor, None) if self.residual else tensor.reader
        if name == OUTPUT:
            return self._rows(tensor, self.old[_NORM]) if self.residual else tensor.reader
        parts = name.split(".", 2)
        kind = parts[-1] if parts[0] == "blk" else name
        matrix, _, part = kind.partition(".")
        if kind in (_NORM, "attn_norm.weight", "ffn_norm.weight"):
            return (lambda first, last: _ones(tensor.width)) if self.residual else tensor.reader
        if kind in _STAYS:
            return tensor.reader
        if matrix in _READS or matrix in _WRITES:
            gain = self.old[f"blk.{parts[1]}.{_READS[matrix]}.weight"] if matrix in _READS else None
            make = self._matrix if part == "weight" else self._bias
            return _Whole(tensor.rows, lambda: make(matrix, tensor, gain))
        raise ModelError(
            "a tensor's place in the model isn't known, so it can't be rotated",
            subject=name,
            expected="a dense llama, qwen2 or qwen3",
            actual="another tensor",
            hint="leave out --rotate",
        )

    def _rows(self, tensor: TensorInfo, gain: TensorInfo | None) -> Callable[[int, int], Any]:
        """Rows that are turned one by one, for matrices that are better not read as a whole."""

        def read(first: int, last: int) -> Any:
            rows = tensor.read(first, last)
            return self._turn(rows if gain is None else rows * gain.load())

        return read

    def _matrix(self, kind: str, tensor: TensorInfo, gain: TensorInfo | None) -> np.ndarray:
        w = tensor.load()
        if self.residual and gain is not None:
            w = self._turn(w * gain.load())
        if self.values and kind == "attn_v":
            w = self._heads(w.T).T
        if self.values and kind == "attn_output":
            w = self._heads(w)
        return self._turn(w.T).T if self.residual and kind in _WRITES else w

    def _bias(self, kind: str, tensor: TensorInfo, gain: TensorInfo | None) -> np.ndarray:
        bias = tensor.read(0, 1)
        if self.values and kind == "attn_v":
            bias = self._heads(bias)
        return self._turn(bias) if self.residual and kind in _WRITES else bias

    def _turn(self, rows: np.ndarray) -> np.ndarray:
        """R w of every row w."""
        import numpy as np

        return np.asarray(hadamard(np.ascontiguousarray(rows), self.seed, as_numpy=True))

    def _heads(self, rows: np.ndarray) -> np.ndarray:
        """The same of every head's part of every row."""
        import numpy as np

        return self._turn(np.ascontiguousarray(rows).reshape(-1, self.head_width)).reshape(rows.shape)


def _ones(count: int) -> np.ndarray:
    import numpy as np

    return np.ones(count, np.float32)


class _Whole:
    """A reader of a matrix whose rows depend on one another: made at the first, given back after the last."""

    def __init__(self, rows: int, make: Callable[[], np.ndarray]) -> None:
        self._count, self._make = rows, make
        self._rows: np.ndarray | None = None

    def __call__(self, first: int, last: int) -> np.ndarray:
        import numpy as np

        if self._rows is None:
            self._rows = np.ascontiguousarray(self._make())
        out = self._rows[first:last].copy()
        if last == self._count:
            self._rows = None
        return out
