"""The models that quantization-aware training is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ruvq.train.run import AUTO_RATE

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Subject:
    """A model, its tokenizer (None: in the model's folder), the rate of training, as a share of each matrix's
    root mean square, and how many tokens of the test text are evaluated on (None: all)."""

    model: Path
    tokenizer: Path | None
    rate: float
    evaluated: int | None


def subjects(data: Path) -> dict[str, Subject]:
    """By name; both write stories, and neither was trained on the test text."""
    folder = data / "stories260K"
    return {
        "stories260K": Subject(folder / "stories260K.bin", folder / "tok512.bin", AUTO_RATE, 8000),
        "bundled": Subject(ROOT / "web" / "model", None, 0.0025, None),
    }
