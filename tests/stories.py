"""stories260K in ruvq's formats, for tests: small enough to quantize anew in every run."""

from __future__ import annotations

from pathlib import Path

import ruvq


def quantize_stories(data_dir: Path, target: Path, format: str) -> Path:
    """Writes `target`; what q8_0 can't hold (rows of 172) becomes f16."""
    source = data_dir / "stories260K"
    ruvq.quantize_model(
        source / "stories260K.bin",
        target,
        format,
        tokenizer=source / "tok512.bin",
        fallback="f16" if format == "q8_0" else None,
        progress=False,
    )
    return target
