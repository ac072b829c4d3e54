"""A plan for a target: "so many bytes of file" or "so many bits a weight", at the least loss."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import formats
from ..errors import UsageError
from .assignment import Choice, assign
from .calibration import input_of
from .plan import EMBEDDING, FLOATS, OUTPUT, Plan, make_plan
from .sensitivity import candidate_formats, measure

if TYPE_CHECKING:
    from ..sources import Source
    from .calibration import Calibration

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
ALIGNMENT = 32  # of tensors in the file
# what a tensor adds to the header: name, shape and offset, three lists of ruvq's own formats, a digest, and
# its name once more where its rows are transformed
TENSOR_BYTES, NAMES = 160, 3
HEADER_BYTES = 4 << 10  # recipe, test strings of the tokenizer, keys of the model


@dataclass(frozen=True)
class Target:
    """What the plan has to meet: bytes of the whole file, or bits per weight of all tensors together.

    `candidates`: the formats to choose from, or "stock", those that llama.cpp runs (none: those
    worth having). UsageError unless exactly one of `nbytes` and `bits` is given and all names can be written.
    """

    nbytes: int | None = None
    bits: float | None = None
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.nbytes is None) == (self.bits is None):
            raise UsageError(
                "a target is a size or a number of bits",
                subject="target",
                expected="one of target_size and target_bpw",
                actual="both" if self.nbytes is not None else "neither",
            )
        if self.bits is not None and not (math.isfinite(self.bits) and self.bits > 0):
            raise UsageError(
                "the target can't be used",
                subject="target_bpw",
                expected="bits above 0",
                actual=str(self.bits),
            )
        object.__setattr__(self, "candidates", candidate_formats(self.candidates))

    def check(self, file_bytes: int) -> None:
        """UsageError for a file that is larger after all: one with more metadata than was reckoned with."""
        if self.nbytes is not None and file_bytes > self.nbytes:
            raise UsageError(
                "the file's metadata is larger than expected",
                subject="target_size",
                expected=f"{file_bytes:,} bytes",
                actual=f"{self.nbytes:,}",
                hint="raise the target a little",
            )


def parse_size(text: str) -> int:
    """ "130MB" → 130,000,000; "124MiB" → 130,023,424; a plain number is bytes. UsageError for others."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].lower() not in UNITS:
        raise UsageError(
            "not a size",
            subject="target_size",
            expected="a number and a unit: 130MB, 124MiB, 1.5GB",
            actual=text,
        )
    nbytes = int(float(found[1]) * UNITS[found[2].lower()])
    if not 1 <= nbytes < 1 << 50:
        raise UsageError("not a size", subject="target_size", expected="1 byte to 1 PiB", actual=text)
    return nbytes


def make_target(size: str | int | None, bits: float | None, candidates: Sequence[str] = ()) -> Target | None:
    """The target of these arguments, or None. UsageError."""
    if size is None and bits is None:
        if candidates:
            raise UsageError(
                "candidates belong to a target",
                subject="candidates",
                expected="target_size or target_bpw",
                actual="neither",
            )
        return None
    return Target(None if size is None else parse_size(str(size)), bits, tuple(candidates))


def choose_formats(
    source: Source,
    target: Target,
    *,
    fixed: Mapping[str, str] | None = None,
    calibration: Calibration | None = None,
    incoherence: str = "auto",
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """The format of every matrix: name → format. `fixed`: formats that are decided already, by tensor.

    Reads some rows of every matrix, nothing else. UsageError when the target can't be met: it says what the
    least possible is.
    """
    fixed = {name: format for name, format in (fixed or {}).items() if name in source.tensors}
    matrices = [t for t in source.tensors.values() if len(t.shape) > 1]
    free = [t for t in matrices if t.name not in fixed]
    choices = measure(
        free,
        target.candidates,
        calibration.sensitivities() if calibration is not None else None,
        incoherence=incoherence,
        seed=seed,
        strict=strict,
        progress=progress,
    )
    taken = sum(4 * t.weights for t in source.tensors.values() if len(t.shape) < 2)
    for name, format in fixed.items():
        tensor = source.tensors[name]
        taken += tensor.rows * formats.get(format).row_bytes(tensor.width)
    overhead = header_bytes(source) if target.nbytes is not None else 0
    budget = _budget(source, target) - taken - overhead
    try:
        chosen = assign(list(choices.values()), budget)
    except UsageError as error:
        raise _impossible(source, target, choices, taken + overhead) from error
    return {**fixed, **{name: choice.format for name, choice in zip(choices, chosen, strict=True)}}


def plan_model(
    source: Source,
    format: str,
    *,
    target: Target | None = None,
    calibration: Calibration | None = None,
    incoherence: str = "auto",
    seed: int = 0,
    embeddings: str = "same",
    output_tensor: str = "same",
    fallback: str | None = None,
    type_ids: str | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """The plan of `quantize_model` with these arguments. With `strict` nothing is substituted: UsageError for
    a `fallback`, for a width that no candidate holds, and for a matrix that the calibration doesn't cover."""
    if strict and fallback is not None:
        raise UsageError(
            "strict allows no substitute",
            subject="fallback",
            expected="none",
            actual=fallback,
            hint="leave out --fallback or --strict",
        )
    assigned = None
    if target is not None:
        assigned = choose_formats(
            source,
            target,
            fixed=_fixed_formats(embeddings, output_tensor),
            calibration=calibration,
            incoherence=incoherence,
            seed=seed,
            strict=strict,
            progress=progress,
        )
    plan = make_plan(
        source.tensors.values(),
        format,
        incoherence=incoherence,
        embeddings=embeddings,
        output_tensor=output_tensor,
        fallback=fallback,
        type_ids=type_ids,
        assigned=assigned,
    )
    if strict and calibration is not None:
        _check_covered(plan, calibration)
    return plan


def _check_covered(plan: Plan, calibration: Calibration) -> None:
    """UsageError for a matrix that would be rounded as if there were no calibration."""
    for tensor in plan.tensors:
        name = input_of(tensor.name)
        if not tensor.is_matrix or tensor.format in FLOATS or name is None:
            continue
        importance = calibration.importance(tensor.name, tensor.shape[-1])
        if not calibration.has_moment(name) and (importance is None or tensor.method):
            raise UsageError(
                "the calibration says nothing of this matrix",
                subject=tensor.name,
                expected=f"second moments of {name}",
                actual="none"
                if importance is None
                else "an importance matrix, which a transform makes useless",
                hint="calibrate without --diagonal on more text, or leave out --strict",
            )


def _fixed_formats(embeddings: str, output_tensor: str) -> dict[str, str]:
    """The options for single tensors as `choose_formats` takes them."""
    given = {EMBEDDING: embeddings, OUTPUT: output_tensor}
    return {name: formats.get_writable(format).name for name, format in given.items() if format != "same"}


def _budget(source: Source, target: Target) -> int:
    """Bytes of everything the target counts."""
    if target.nbytes is not None:
        return target.nbytes
    assert target.bits is not None
    return math.floor(target.bits * source.weights / 8)


def _impossible(
    source: Source, target: Target, choices: Mapping[str, Sequence[Choice]], others: int
) -> UsageError:
    least = others + sum(min(c.nbytes for c in found) for found in choices.values())
    if target.nbytes is not None:
        subject, expected, actual = "target_size", f"{least:,} bytes or more", f"{target.nbytes:,} bytes"
    else:
        bits = math.ceil(least * 8 / source.weights * 1e4) / 1e4
        subject, expected, actual = "target_bpw", f"{bits:.4f} or more", f"{target.bits:g}"
    return UsageError(
        "the target can't be met",
        subject=subject,
        expected=expected,
        actual=actual,
        hint="the least is that of the smallest candidates: " + ", ".join(target.candidates),
    )


def header_bytes(source: Source) -> int:
    """At least what stands in the file beside the tensors: the vocabulary, names, digests, padding."""
    keys = dict(source.extra_metadata)
    if source.tokenizer is not None:
        keys |= source.tokenizer.metadata()
    stored = sum(map(_stored_bytes, keys.values()))
    names = sum(len(name.encode()) for name in source.tensors)
    return HEADER_BYTES + stored + NAMES * names + (TENSOR_BYTES + ALIGNMENT) * len(source.tensors)


def _stored_bytes(value: object) -> int:
    """Bytes of a metadata value, its key counted as 64."""
    if hasattr(value, "value"):  # Typed
        value = value.value
    if isinstance(value, str):
        return 64 + len(value.encode("utf-8", "replace"))
    if isinstance(value, (list, tuple)) or hasattr(value, "itemsize"):
        items = list(value)  # type: ignore[call-overload]
        if items and isinstance(items[0], str):
            return 64 + sum(8 + len(item.encode("utf-8", "replace")) for item in items)
        return 64 + 4 * len(items)
    return 80
