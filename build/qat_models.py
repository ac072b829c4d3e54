"""The models that quantization-aware training is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Subject:
    """A model, its tokenizer (None: in the model's folder), and how many tokens of the test text it is
    evaluated on (None: all)."""

    model: Path
    tokenizer: Path | None
    evaluated: int | None


def subjects(data: Path) -> dict[str, Subject]:
    """By name; both write stories, and neither was trained on the test text."""
    folder = data / "stories260K"
    return {
        "stories260K": Subject(folder / "stories260K.bin", folder / "tok512.bin", 8000),
        "bundled": Subject(ROOT / "web" / "model", None, None),
    }
