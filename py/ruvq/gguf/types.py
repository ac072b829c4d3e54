"""Tensor types by name: ruvq's formats and ggml's, their ids and sizes, as the core knows them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from .. import core
from ..core import CONSTANTS, structs
from ..errors import RuvqError, UsageError

I8 = CONSTANTS["RQ_GGML_I8"]
RUVLLM_FORMATS = ("pi-q3-ruvllm", "pi-q2-ruvllm")


@dataclass(frozen=True)
class TensorType:
    """A way to store a tensor. `format` is RQ_FORMAT_NONE where ruvq stores but doesn't compute."""

    name: str  # "pi-t3", "q8_0", "q4_k"
    format: int
    ggml_type: int  # I8 for ruvq's own
    own: bool
    any_width: bool
    block_weights: int
    block_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Nominal: of a full block."""
        return 8 * self.block_bytes / self.block_weights

    def row_bytes(self, width: int) -> int:
        """Bytes of a row. UsageError when the type can't hold that width."""
        if self.format != CONSTANTS["RQ_FORMAT_NONE"]:
            try:
                return core.get().call("rq_format_row_bytes", self.format, width)
            except RuvqError as error:
                raise self._width_error(width) from error
        if width <= 0 or width % self.block_weights:
            raise self._width_error(width)
        return width // self.block_weights * self.block_bytes

    def _width_error(self, width: int) -> UsageError:
        return UsageError(
            f"{self.name} can't hold rows of this width",
            expected=f"whole blocks of {self.block_weights}",
            actual=str(width),
            hint="choose a format that takes any width, such as pi-t3",
        )


def _struct(name: str, function: str, *args: int) -> dict[str, Any]:
    backend = core.get()
    with backend.alloc(structs.size(name)) as out:
        backend.call(function, *args, out.address)
        return structs.unpack(name, backend.read(out.address, out.nbytes))


@functools.cache
def of_format(format: int) -> TensorType:
    """The type of one of RQ_FORMAT_*."""
    info = _struct("rq_format_info", "rq_format_describe", format)
    return TensorType(
        name=structs.text(info["name"]),
        format=format,
        ggml_type=info["ggml_type"],
        own=bool(info["own"]),
        any_width=bool(info["any_width"]),
        block_weights=info["block_weights"],
        block_bytes=info["block_bytes"],
    )


@functools.cache
def of_ggml(ggml_type: int) -> TensorType:
    """The type that an id stands for outside every namespace, and without ruvq's metadata."""
    info = _struct("rq_ggml_type_info", "rq_ggml_type_describe", ggml_type)
    if info["format"] != CONSTANTS["RQ_FORMAT_NONE"]:
        return of_format(info["format"])
    return TensorType(
        name=structs.text(info["name"]).lower(),
        format=info["format"],
        ggml_type=ggml_type,
        own=False,
        any_width=info["block_weights"] == 1,
        block_weights=info["block_weights"],
        block_bytes=info["block_bytes"],
    )


def _ggml_types() -> list[TensorType]:
    found = []
    for ggml_type in range(64):
        try:
            found.append(of_ggml(ggml_type))
        except RuvqError:
            break  # ids are dense: the first unknown one is the end
    return [t for t in found if t.block_weights]


@functools.cache
def by_name() -> dict[str, TensorType]:
    """Every type that can be written."""
    formats = [of_format(i) for i in range(CONSTANTS["RQ_FORMAT_COUNT"])]
    return {t.name: t for t in [*_ggml_types(), *formats]}


@dataclass(frozen=True)
class TensorSpec:
    """What will be written.

    `shape` is in weights, outermost first: (rows, width), (width,) or (experts, rows, width). `type` is a
    name such as "pi-t3", "q8_0", "f32", or "pi-q3-ruvllm" for the type ids of ruvllm.
    """

    name: str
    type: str
    shape: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.type not in by_name():
            raise UsageError(
                "unknown tensor type",
                subject=self.name,
                expected=", ".join(sorted(by_name())),
                actual=self.type,
            )
        if not 1 <= len(self.shape) <= CONSTANTS["RQ_MAX_DIMS"] or min(self.shape) < 1:
            raise UsageError(
                "a tensor can't have this shape",
                subject=self.name,
                expected="1 to 4 positive dimensions",
                actual=str(self.shape),
            )

    @property
    def stored(self) -> TensorType:
        """The type behind the name."""
        return by_name()[self.type]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.stored.row_bytes(self.shape[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape[:-1]) * self.row_bytes
