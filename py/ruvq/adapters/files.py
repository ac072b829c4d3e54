"""Adapters from file to file: PEFT's folder or GGUF, told by what is there and by the target's ending."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import StorageError, UsageError
from ..quantize.checks import check_absent
from ..sources import open_source
from .gguf_adapter import from_gguf, read_gguf, to_gguf, write_gguf_adapter
from .lora import Lora
from .merging import merge
from .peft_folder import WEIGHTS, read_folder, write_folder

PathLike = str | os.PathLike[str]


def read_adapter(path: PathLike) -> Lora:
    """An adapter, from a folder in PEFT's format or a GGUF file. StorageError, FileFormatError, DataError."""
    where = Path(path)
    if where.is_dir():
        return read_folder(where)
    if not where.is_file():
        raise StorageError(
            "there is no such adapter", subject=str(path), expected="a PEFT folder or a GGUF file",
            actual="nothing", hint="check the path",
        )  # fmt: skip
    return read_gguf(where)


def write_adapter(path: PathLike, lora: Lora, *, type: str = "f16", overwrite: bool = False) -> None:
    """Writes a GGUF file where the path ends in .gguf, else a folder; nothing is left behind by a failure."""
    target = Path(path)
    taken = target / WEIGHTS if target.is_dir() else target
    check_absent(taken, "output", overwrite)
    as_gguf = target.suffix == ".gguf"
    if as_gguf != bool(lora.architecture):
        raise UsageError(
            "the adapter is of the other kind", subject=str(path),
            expected="a folder" if as_gguf else "FILE.gguf",
            actual=str(path), hint="`ruvq adapter convert` makes one of the other",
        )  # fmt: skip
    if as_gguf:
        write_gguf_adapter(target, lora, type=type)
    else:
        write_folder(target, lora)


def convert_adapter(
    source: PathLike,
    target: PathLike,
    base: PathLike,
    *,
    tokenizer: PathLike | None = None,
    type: str = "f16",
    overwrite: bool = False,
) -> Lora:
    """From PEFT's folder to GGUF, or the other way round; what was written.

    `base`: the model that the adapter belongs to, anything that `ruvq quantize` reads, a quantized GGUF file
    too: names, shapes and the order of rows come from there. `type`: of the numbers in GGUF, f32 or f16.
    Raises ModelError where it is the adapter of another base, and what `read_adapter`, `write_adapter` raise.
    """
    lora = read_adapter(source)
    with open_source(os.fspath(base), tokenizer, allow_requantize=True) as opened:  # type: ignore[arg-type]
        parameters = opened.parameters
    other = from_gguf(lora, parameters) if lora.architecture else to_gguf(lora, parameters)
    write_adapter(target, other, type=type, overwrite=overwrite)
    return other


def merge_adapters(
    sources: Sequence[PathLike],
    target: PathLike,
    method: str,
    weights: Sequence[float] | None = None,
    *,
    density: float = 1.0,
    rank: int | None = None,
    majority: str = "total",
    seed: int = 0,
    type: str = "f16",
    overwrite: bool = False,
) -> Lora:
    """Merges adapters of one kind into a new one of that kind; see `ruvq.adapters.merge`."""
    loras = [read_adapter(source) for source in sources]
    merged = merge(loras, method, weights, density=density, rank=rank, majority=majority, seed=seed)
    write_adapter(target, merged, type=type, overwrite=overwrite)
    return merged
