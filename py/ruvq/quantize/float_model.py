"""A float model as the engine runs it: a GGUF file in the floats that the source stores."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ..sources import open_source
from .plan import FLOATS


def float_model(
    input: str | os.PathLike[str],
    folder: Path,
    tokenizer: str | os.PathLike[str] | None,
    config: str | os.PathLike[str] | None,
    threads: int | None,
) -> Path:
    """A GGUF file as it is, anything else converted into `folder`, by this run or an earlier one."""
    from .pipeline import quantize_model

    if Path(input).suffix == ".gguf":
        return Path(input)
    path = folder / "float.gguf"
    if path.exists():
        return path
    with open_source(os.fspath(input), tokenizer, config) as source:  # type: ignore[arg-type]
        stored = Counter(t.dtype.lower() for t in source.tensors.values() if len(t.shape) > 1)
    format = stored.most_common(1)[0][0]
    quantize_model(
        input,
        path,
        format if format in FLOATS else "f32",
        tokenizer=tokenizer,
        config=config,
        threads=threads,
        progress=False,
    )
    return path
