"""Fisher information in the artifact: tensors beside the second moments, where torch is installed."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from ..gguf.types import TensorSpec
from ..quantize.calibration import FISHER, input_of
from .artifact import upper_half

if TYPE_CHECKING:
    import numpy as np

    from ..gguf.writer import GGUFWriter

KEPT = "fisher.npz"


def check_torch() -> None:
    """MissingDependencyError, before any work, where there is no PyTorch."""
    try:
        importlib.import_module("ruvq.train.fisher")
    except ImportError as error:
        raise MissingDependencyError(
            "Fisher information needs gradients", subject="--fisher", expected="torch and transformers",
            actual=str(error), hint="run `pip install 'ruvq[train]'`, or calibrate without --fisher",
        ) from error  # fmt: skip


def specs(widths: Mapping[str, int], diagonal: bool) -> list[TensorSpec]:
    """Tensors of the artifact, one for each matrix. `widths`: of every matrix."""
    shapes = {name: width if diagonal else width * (width + 1) // 2 for name, width in widths.items()}
    return [TensorSpec(FISHER + name, "f32", (count,)) for name, count in shapes.items() if input_of(name)]


def collect(
    path: Path,
    windows: Sequence[Sequence[int]],
    folder: Path,
    *,
    diagonal: bool,
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, np.ndarray]:
    """By this run, or one that was killed: what `ruvq.train.fisher` finds, by matrix."""
    import numpy as np

    kept = folder / KEPT
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError), np.load(kept) as arrays:
        return dict(arrays)
    from ..train.fisher import fisher

    found: dict[str, Any] = dict(fisher(path, windows, diagonal=diagonal, threads=threads, progress=progress))
    part = folder / f"part-{KEPT}"
    np.savez(part, **found)
    os.replace(part, kept)
    return found


def write(writer: GGUFWriter, found: Mapping[str, np.ndarray], wanted: Sequence[TensorSpec]) -> None:
    """Writes what `collect` found."""
    for spec in wanted:
        if spec.name not in writer.kept:
            values = found[spec.name.removeprefix(FISHER)]
            writer.write(spec.name, values if values.ndim == 1 else upper_half(values))
