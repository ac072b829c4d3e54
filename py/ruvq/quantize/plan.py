"""The plan before the work: which format each tensor gets, what it costs, and what can't be done.

Nothing falls back silently: a tensor whose width a format can't hold stops the plan, with the list and
the choices. Bits per weight are *nominal* (the format's full blocks) and *actual* (all bytes stored).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import formats
from ..errors import UsageError
from ..formats import Format
from ..formats.transform import CUTS, MOST_ORTHOGONAL, Transform
from ..sources import TensorInfo
from . import mixes
from .mixes import EMBEDDING, OUTPUT

FLOATS = ("f32", "f16", "bf16")
TRELLIS = ("pi-t3", "pi-t2", "pi-x3", "pi-x2")  # without calibration they go with Hadamard (docs/formats.md)
INCOHERENCE = ("auto", "none", *CUTS)
MIXED = "mixed"  # what a plan is called whose formats a target chose
AUTO = "auto"  # a fallback that suits each tensor


@dataclass(frozen=True)
class PlannedTensor:
    """One line of the plan."""

    name: str
    shape: tuple[int, ...]
    source_dtype: str
    format: str
    method: str  # of the transform that its rows go through before they are encoded; "" for none
    nbytes: int
    nominal_bits: float  # per weight, of the format's full blocks
    instead_of: str = ""  # the format that was wanted and can't hold the width

    @property
    def weights(self) -> int:
        """Weights of the tensor."""
        out = 1
        for n in self.shape:
            out *= n
        return out

    @property
    def bits(self) -> float:
        """Actual bits per weight."""
        return self.nbytes * 8 / self.weights

    @property
    def is_matrix(self) -> bool:
        """Whether it is a weight matrix (else a norm, bias or table, always F32)."""
        return len(self.shape) > 1

    def transform(self, seed: int) -> Transform | None:
        """The transform of that seed; None without."""
        return Transform(seed, self.method) if self.method else None


@dataclass(frozen=True)
class Plan:
    """All tensors in file order."""

    format: str
    tensors: tuple[PlannedTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensor data, without padding and header."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def weights(self) -> int:
        """Weights of all tensors."""
        return sum(t.weights for t in self.tensors)

    @property
    def nominal_bits(self) -> float:
        """Bits per weight of the matrices if every width were made of full blocks."""
        matrices = [t for t in self.tensors if t.is_matrix]
        return sum(t.nominal_bits * t.weights for t in matrices) / sum(t.weights for t in matrices)

    @property
    def actual_bits(self) -> float:
        """Bits per weight of everything: all bytes over all weights, norms included."""
        return self.nbytes * 8 / self.weights

    @property
    def turned_tensors(self) -> list[str]:
        """Names of the tensors whose rows are transformed before encoding."""
        return [t.name for t in self.tensors if t.method]

    @property
    def method(self) -> str:
        """Of the transform: one for all of a file; "" without."""
        return max((t.method for t in self.tensors), default="")

    def table(self) -> str:
        """The plan as text, equal layers summarised in one line."""
        return plan_table(self)


def make_plan(
    tensors: Iterable[TensorInfo],
    format: str,
    *,
    incoherence: str = "auto",
    embeddings: str = "same",
    output_tensor: str = "same",
    fallback: str | None = None,
    type_ids: str | None = None,
    assigned: Mapping[str, str] | None = None,
) -> Plan:
    """Decides each tensor's format; `format` may be a mix (`mixes.MIXES`). Where a width doesn't fit,
    `fallback` is taken ("auto": `mixes.fallback_for`); UsageError where none was chosen.

    `assigned`: every matrix's format by name, as a target has them (quantize/target.py), instead of `format`.
    """
    if incoherence not in INCOHERENCE:
        raise UsageError(
            "unknown kind of incoherence",
            subject="incoherence",
            expected=", ".join(INCOHERENCE),
            actual=incoherence,
        )
    if type_ids not in (None, "ruvllm"):
        raise UsageError("unknown type ids", subject="type_ids", expected="ruvllm", actual=str(type_ids))
    listed = list(tensors)
    wanted_by = _wanted(listed, format, embeddings, output_tensor, type_ids, assigned or {})
    second = formats.get(fallback) if fallback and fallback != AUTO else None
    planned, misfits = [], []
    for tensor in listed:
        wanted = found = wanted_by[tensor.name]
        if not fits(wanted, tensor.width):
            found = mixes.fallback_for(wanted, tensor.width) if fallback == AUTO else second or wanted
            if not fits(found, tensor.width):
                misfits.append((tensor, wanted))
                continue
        planned.append(_planned(tensor, found, incoherence, wanted.name if found != wanted else ""))
    if misfits:
        raise _misfit(misfits, fallback)
    _check_widths(planned)
    if assigned is not None:
        return Plan(MIXED, tuple(planned))
    mix = mixes.find(format)
    return Plan(mix.name if mix else _typed(format, type_ids).name, tuple(planned))


def _wanted(
    tensors: Sequence[TensorInfo],
    format: str,
    embeddings: str,
    output_tensor: str,
    type_ids: str | None,
    assigned: Mapping[str, str],
) -> dict[str, Format]:
    """The format of every tensor if all widths fit it."""
    names = [t.name for t in tensors]
    mix, layers, tied = mixes.find(format), mixes.layers_of(names), OUTPUT not in names
    chosen = {EMBEDDING: embeddings, OUTPUT: output_tensor}

    def of(tensor: TensorInfo) -> Format:
        if len(tensor.shape) < 2:
            return formats.get("f32")
        if chosen.get(tensor.name, "same") != "same":
            return _typed(chosen[tensor.name], type_ids)
        if tensor.name in assigned:
            return _typed(assigned[tensor.name], type_ids)
        return _typed(mix.format_of(tensor.name, layers, tied) if mix else format, type_ids)

    return {t.name: of(t) for t in tensors}


def _typed(name: str, type_ids: str | None) -> Format:
    """The format of a name, under ruvllm's type ids where these are asked for and exist."""
    format = formats.get(name)
    if type_ids == "ruvllm" and format.name in ("pi-q3", "pi-q2"):
        return formats.get(format.name + "-ruvllm")
    return format


def fits(format: Format, width: int) -> bool:
    """Whether a format holds rows of that width."""
    try:
        return format.row_bytes(width) > 0
    except UsageError:
        return False


def method_for(format: str, incoherence: str) -> str:
    """The transform that a matrix's rows go through before they are encoded in this format; "" for none."""
    if format in FLOATS or incoherence == "none":
        return ""
    if incoherence == "auto":
        return "hadamard" if format in TRELLIS else ""
    return incoherence


def _planned(tensor: TensorInfo, format: Format, incoherence: str, instead_of: str) -> PlannedTensor:
    is_matrix = len(tensor.shape) > 1
    return PlannedTensor(
        name=tensor.name,
        shape=tensor.shape,
        source_dtype=tensor.dtype,
        format=format.name,
        method=method_for(format.name, incoherence) if is_matrix else "",
        nbytes=tensor.rows * format.row_bytes(tensor.width),
        nominal_bits=format.nominal_bits,
        instead_of=instead_of,
    )


def _check_widths(planned: Sequence[PlannedTensor]) -> None:
    wide = [t for t in planned if t.method == "orthogonal" and t.shape[-1] > MOST_ORTHOGONAL]
    if wide:
        raise UsageError(
            f"{len(wide)} of the matrices are too wide for a dense rotation",
            subject="incoherence",
            expected=f"orthogonal for widths up to {MOST_ORTHOGONAL}",
            actual=f"{wide[0].name}: width {wide[0].shape[-1]}",
            hint="take hadamard, which holds every width and is faster",
        )


def _misfit(misfits: list[tuple[TensorInfo, Format]], fallback: str | None) -> UsageError:
    widths = sorted({t.width for t, _ in misfits})
    names = [f"{t.name} (width {t.width})" for t, _ in misfits]
    format = misfits[0][1]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return UsageError(
        f"{format.name} can't hold {len(misfits)} of the tensors"
        + (f", nor can the fallback {fallback}" if fallback else ""),
        subject=format.name,
        expected=f"widths that are multiples of {format.block_weights}",
        actual=f"width {', '.join(map(str, widths))}: {shown}",
        hint="choose a format for these tensors with --fallback FORMAT (f16, bf16, f32 and ruvq's own "
        "formats hold every width; auto: the smallest that loses nothing), or another --format",
    )


def plan_table(plan: Plan) -> str:
    """Text table: tensors of equal kind, shape and format in one line."""
    groups: dict[tuple[Any, ...], list[PlannedTensor]] = {}
    for tensor in plan.tensors:
        kind = tensor.name.split(".", 2)[2] if tensor.name.startswith("blk.") else tensor.name
        groups.setdefault(
            (kind, tensor.shape, tensor.source_dtype, tensor.format, tensor.method, tensor.instead_of), []
        ).append(tensor)
    rows = [("tensors", "shape", "from", "to", "nominal", "actual", "bytes")]
    for (kind, shape, dtype, format, method, instead_of), members in groups.items():
        name = f"blk.*.{kind} ({len(members)})" if members[0].name.startswith("blk.") else kind
        rows.append(
            (
                name,
                "x".join(map(str, shape)),
                dtype,
                format
                + (f" + {method}" if method else "")
                + (f", not {instead_of}: width {shape[-1]}" if instead_of else ""),
                f"{members[0].nominal_bits:.2f}",
                f"{members[0].bits:.2f}",
                f"{sum(t.nbytes for t in members):,}",
            )
        )
    rows.append(
        (
            "all",
            f"{plan.weights:,}",
            "",
            plan.format,
            f"{plan.nominal_bits:.2f}",
            f"{plan.actual_bits:.2f}",
            f"{plan.nbytes:,}",
        )
    )
    return format_table(rows)


def format_table(rows: Sequence[tuple[str, ...]], right_from: int = 4) -> str:
    """Aligned columns; those from `right_from` on are right-aligned. The first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i >= right_from else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


# general.file_type as llama.cpp numbers it
_FILE_TYPES = {
    **{"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q2_k": 10, "q3_k": 11, "q4_k": 14, "q5_k": 16, "q6_k": 18},
    **{"iq2_xxs": 19, "iq2_xs": 20, "iq3_xxs": 23, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32},
    **{"tq1_0": 36, "tq2_0": 37},
}


def file_type(plan: Plan) -> int | None:
    """general.file_type, where the mix or the format with most bytes has a number."""
    mix = mixes.find(plan.format)
    if mix is not None:
        return mix.file_type
    bytes_of: dict[str, int] = {}
    for tensor in plan.tensors:
        bytes_of[tensor.format] = bytes_of.get(tensor.format, 0) + tensor.nbytes
    return _FILE_TYPES.get(max(bytes_of, key=lambda name: bytes_of[name]))
