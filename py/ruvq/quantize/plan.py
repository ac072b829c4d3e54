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
from ..sources import TensorInfo

FLOATS = ("f32", "f16", "bf16")
TRELLIS = ("pi-t3", "pi-t2")  # without calibration they go with Hadamard (docs/formats.md)
INCOHERENCE = ("auto", "none", "hadamard")
MIXED = "mixed"  # what a plan is called whose formats a target chose
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class PlannedTensor:
    """One line of the plan."""

    name: str
    shape: tuple[int, ...]
    source_dtype: str
    format: str
    hadamard: bool
    nbytes: int
    nominal_bits: float  # per weight, of the format's full blocks

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
    def hadamard_tensors(self) -> list[str]:
        """Names of the tensors whose rows are transformed before encoding."""
        return [t.name for t in self.tensors if t.hadamard]

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
    """Decides each tensor's format. UsageError where a width doesn't fit and no fallback was chosen.

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
    floats = formats.get("f32")
    main = floats if assigned is not None else _typed(format, type_ids)
    chosen = {name: _typed(given, type_ids) for name, given in (assigned or {}).items()}
    if embeddings != "same":
        chosen[EMBEDDING] = _typed(embeddings, type_ids)
    if output_tensor != "same":
        chosen[OUTPUT] = _typed(output_tensor, type_ids)
    second = formats.get(fallback) if fallback else None
    planned, misfits = [], []
    for tensor in tensors:
        wanted = chosen.get(tensor.name, main) if len(tensor.shape) > 1 else floats
        if not fits(wanted, tensor.width):
            if second is None or not fits(second, tensor.width):
                misfits.append((tensor, wanted))
                continue
            wanted = second
        planned.append(_planned(tensor, wanted, incoherence))
    if misfits:
        raise _misfit(misfits, fallback)
    return Plan(MIXED if assigned is not None else main.name, tuple(planned))


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


def takes_hadamard(format: str, incoherence: str) -> bool:
    """Whether a matrix's rows are transformed before they are encoded in this format."""
    if format in FLOATS:
        return False
    return incoherence == "hadamard" or (incoherence == "auto" and format in TRELLIS)


def _planned(tensor: TensorInfo, format: Format, incoherence: str) -> PlannedTensor:
    is_matrix = len(tensor.shape) > 1
    return PlannedTensor(
        name=tensor.name,
        shape=tensor.shape,
        source_dtype=tensor.dtype,
        format=format.name,
        hadamard=is_matrix and takes_hadamard(format.name, incoherence),
        nbytes=tensor.rows * format.row_bytes(tensor.width),
        nominal_bits=format.nominal_bits,
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
        "formats hold every width), or another --format",
    )


def plan_table(plan: Plan) -> str:
    """Text table: tensors of equal kind, shape and format in one line."""
    groups: dict[tuple[Any, ...], list[PlannedTensor]] = {}
    for tensor in plan.tensors:
        kind = tensor.name.split(".", 2)[2] if tensor.name.startswith("blk.") else tensor.name
        groups.setdefault(
            (kind, tensor.shape, tensor.source_dtype, tensor.format, tensor.hadamard), []
        ).append(tensor)
    rows = [("tensors", "shape", "from", "to", "nominal", "actual", "bytes")]
    for (kind, shape, dtype, format, hadamard), members in groups.items():
        name = f"blk.*.{kind} ({len(members)})" if members[0].name.startswith("blk.") else kind
        rows.append(
            (
                name,
                "x".join(map(str, shape)),
                dtype,
                format + (" + hadamard" if hadamard else ""),
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


def file_type(bytes_of: Mapping[str, int]) -> int | None:
    """general.file_type as llama.cpp numbers it, where the format with most bytes has a number."""
    main = max(bytes_of, key=lambda name: bytes_of[name])
    return {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}.get(main)
