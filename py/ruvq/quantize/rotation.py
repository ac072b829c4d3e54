"""A rotation of the residual stream, folded into a model's weights: no reader needs to know of it.

With R orthogonal, every layer sees R x instead of x. An RMS norm divides by the same number then, but its
gain g stands between x and R, so it is absorbed first: a matrix that reads the stream becomes W diag(g) R^T
and the gain 1; one that writes to it becomes R W; the embedding's rows become R e. The model computes what it
did, and outliers of single channels are spread over many, which low-bit formats without a transform of their
own gain from. R is the randomised blocked Hadamard transform of docs/formats.md, of the seed. A tied
embedding can't stay tied: as the output matrix it has absorbed a gain, as the embedding it has not.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError
from ..sources import Source, TensorInfo
from .mixes import EMBEDDING, OUTPUT
from .tensors import hadamard

if TYPE_CHECKING:
    import numpy as np

ROTATIONS = ("none", "residual")
_NORM = "output_norm.weight"
# the norm whose gain a matrix of a layer absorbs
_READS = {
    **dict.fromkeys(("attn_q", "attn_k", "attn_v"), "attn_norm"),
    **dict.fromkeys(("ffn_gate", "ffn_up"), "ffn_norm"),
}
_WRITES = ("attn_output", "ffn_down")
_STAYS = ("attn_q_norm.weight", "attn_k_norm.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias")


def apply(source: Source, rotate: str, seed: int) -> Source:
    """The source as it is ("none") or rotated ("residual"). UsageError for another word, ModelError for a
    model with tensors whose place in the residual stream isn't known."""
    if rotate not in ROTATIONS:
        raise UsageError(
            "unknown rotation", subject="rotate", expected=", ".join(ROTATIONS), actual=str(rotate)
        )
    return source if rotate == "none" else _rotated(source, seed)


def _rotated(source: Source, seed: int) -> Source:
    old = source.tensors
    parameters = dataclasses.replace(source.parameters, tied=False)
    tensors = {}
    for name, shape in parameters.shapes().items():
        before = old[EMBEDDING if name == OUTPUT and name not in old else name]
        tensors[name] = dataclasses.replace(
            before, name=name, shape=shape, reader=_reader(name, before, old, seed)
        )
    notes = ["the residual stream is rotated: gains of norms are 1, their matrices have absorbed them"]
    if source.parameters.tied:
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


def _reader(name: str, tensor: TensorInfo, all_tensors: Any, seed: int) -> Any:
    """The reader of a rotated tensor."""
    if name == EMBEDDING:
        return lambda first, last: _turn(tensor.read(first, last), seed)
    if name == OUTPUT:
        return _reading(tensor, all_tensors[_NORM], seed)
    parts = name.split(".", 2)
    kind = parts[-1] if parts[0] == "blk" else name
    matrix, _, part = kind.partition(".")
    if name == _NORM or kind in ("attn_norm.weight", "ffn_norm.weight"):
        return lambda first, last: _ones(tensor.width)
    if part == "weight" and matrix in _READS:
        return _reading(tensor, all_tensors[f"blk.{parts[1]}.{_READS[matrix]}.weight"], seed)
    if part == "weight" and matrix in _WRITES:
        return _Writing(tensor, seed)
    if part == "bias" and matrix in _WRITES:
        return lambda first, last: _turn(tensor.read(first, last), seed)
    if kind in _STAYS or name == "rope_freqs.weight":
        return tensor.reader
    raise ModelError(
        "a tensor's place in the residual stream isn't known, so the model can't be rotated",
        subject=name,
        expected="a dense llama, qwen2 or qwen3",
        actual="another tensor",
        hint="leave out --rotate",
    )


def _turn(rows: np.ndarray, seed: int) -> np.ndarray:
    """R w of every row w."""
    import numpy as np

    return np.asarray(hadamard(np.ascontiguousarray(rows), seed, as_numpy=True))


def _ones(count: int) -> np.ndarray:
    import numpy as np

    return np.ones(count, np.float32)


def _reading(tensor: TensorInfo, gain: TensorInfo, seed: int) -> Any:
    return lambda first, last: _turn(tensor.read(first, last) * gain.load(), seed)


class _Writing:
    """Rows of R W. R mixes the rows of W, so the whole matrix is read, and given back after its last row."""

    def __init__(self, tensor: TensorInfo, seed: int) -> None:
        self._tensor, self._seed = tensor, seed
        self._rows: np.ndarray | None = None

    def __call__(self, first: int, last: int) -> np.ndarray:
        import numpy as np

        if self._rows is None:
            self._rows = np.ascontiguousarray(_turn(self._tensor.load().T, self._seed).T)
        out = self._rows[first:last].copy()
        if last == self._tensor.rows:
            self._rows = None
        return out
