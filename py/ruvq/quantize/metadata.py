"""What a file says of itself: the model's metadata, and the recipe by which it was made."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formats
from ..formats.transform import CUTS, GENERATOR
from ..gguf.recipe import Recipe
from ..gguf.values import Typed
from ..sources import Source
from .plan import Plan, file_type
from .rows import EncodeOptions
from .tensors import DEFAULT_K
from .vocabulary import checked_vocabulary

if TYPE_CHECKING:
    from .calibration import Calibration


def file_metadata(
    source: Source, plan: Plan, seed: int, options: EncodeOptions, chat_template: str | None
) -> dict[str, Any]:
    """Everything that describes the model, in the order in which llama.cpp's converters write it."""
    out: dict[str, Any] = {"general.type": "model", "general.name": source.name}
    out |= source.extra_metadata
    number = file_type(plan)
    if number is not None:
        out["general.file_type"] = Typed(number, "u32")
    out["general.quantization_version"] = Typed(2, "u32")
    for key, kind, value in source.parameters.metadata():
        out[key] = Typed(value, kind)
    if source.tokenizer is not None:
        keys = {key: _stored(value) for key, value in source.tokenizer.metadata().items()}
        out |= checked_vocabulary(source, keys, chat_template)
    if plan.method:
        out["ruvq.hadamard.seed"] = Typed(seed, "u64")
        out["ruvq.hadamard.generator"] = GENERATOR
        out["ruvq.hadamard.cut"] = CUTS[plan.method]
        out["ruvq.hadamard.tensors"] = plan.turned_tensors
    own = [t for t in plan.tensors if formats.get(t.format).own]
    if any(t.format in DEFAULT_K for t in own):
        values = [(options.k or DEFAULT_K[t.format]) if t.format in DEFAULT_K else 0 for t in own]
        out["ruvq.tensor.k"] = Typed(values, "u32")
    return out


def _stored(value: Any) -> Any:
    """Arrays of the array module as the writer takes them."""
    if isinstance(value, array):
        return Typed(value.tolist(), {"i": "i32", "f": "f32"}[value.typecode])
    return value


def file_recipe(
    source: Source,
    plan: Plan,
    seed: int,
    options: EncodeOptions,
    command: str | None,
    timestamp: str,
    calibrated: Calibration | None,
    damping: float,
    sequential: bool,
    rotate: str,
    settings: Mapping[str, Any] | None,
    fisher: bool = False,
) -> Recipe:
    """How the file was made: versions, options, calibration (INV-5), and the source's digest."""
    numpy = sys.modules.get("numpy")
    versions = {"python": sys.version.split()[0], **({"numpy": numpy.__version__} if numpy else {})}
    chosen = {
        "format": plan.format,
        "source_kind": source.kind,
        "hadamard": plan.method == "hadamard",
        "k": options.k,
        "scale": options.scale,
        "formats": sorted({t.format for t in plan.tensors}),
    }
    if calibrated is not None:
        chosen["damping"] = damping
        chosen["sequential"] = sequential
    if fisher:
        chosen["fisher"] = True
    if options.effort:
        chosen["effort"] = options.effort
    if plan.method == "orthogonal":
        chosen["orthogonal"] = True
    if rotate != "none":
        chosen["rotate"] = rotate
    if settings is not None:
        chosen["settings"] = settings
    return Recipe(
        command=command or "ruvq.quantize_model",
        seed=seed,
        calibration=calibrated.digest if calibrated else "",
        samples=calibrated.samples if calibrated else 0,
        source=f"{source.path.name} sha256 {source_digest(source)}",
        timestamp=timestamp,
        versions=versions,
        options=chosen,
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file. OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_digest(source: Source) -> str:
    """SHA-256 over the source's weight files, in order."""
    sha = hashlib.sha256()
    for path in source.files:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                sha.update(piece)
    return sha.hexdigest()
