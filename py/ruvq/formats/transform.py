"""The seeded transform of a matrix's input axis: its rows are stored as W T^T, and its inputs become T x."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import core
from ..core import CONSTANTS
from ..errors import ModelError

# the method → ruvq.hadamard.cut, which older readers refuse where they don't know it (docs/formats.md)
CUTS = {"hadamard": "greedy-256", "orthogonal": "orthogonal-256"}
GENERATOR = "splitmix64"
MOST_ORTHOGONAL = CONSTANTS["RQ_ORTHOGONAL_MAX"]


@dataclass(frozen=True)
class Transform:
    """`method`: "hadamard", blocked and for any width, or "orthogonal", dense and for widths up to 256."""

    seed: int
    method: str = "hadamard"

    def apply(self, address: int, rows: int, width: int, inverse: bool = False) -> None:
        """Turns float32 (rows, width) in the core's memory, in place. UsageError for widths it can't hold."""
        backend = core.get()
        where = (address, rows, width, self.seed & 0xFFFFFFFF, self.seed >> 32, int(inverse))
        if self.method == "hadamard":
            backend.call("rq_hadamard", *where, CONSTANTS["RQ_SIMD"])
            return
        with backend.alloc(max(16, backend.call("rq_orthogonal_scratch", width))) as scratch:
            backend.call("rq_orthogonal", *where, scratch.address, scratch.end)


def stored_transform(metadata: Mapping[str, Any]) -> Transform:
    """The transform that a file's metadata names. ModelError for one that isn't known."""
    seed, cut = metadata.get("ruvq.hadamard.seed"), metadata.get("ruvq.hadamard.cut")
    generator = metadata.get("ruvq.hadamard.generator")
    for method, name in CUTS.items():
        if (generator, cut) == (GENERATOR, name) and isinstance(seed, int) and 0 <= seed < 1 << 64:
            return Transform(seed, method)
    raise ModelError(
        "the file's transform isn't known",
        subject="ruvq.hadamard",
        expected=f"generator {GENERATOR}, cut {' or '.join(CUTS.values())}, a seed of 64 bits",
        actual=f"{generator}, {cut}, {seed!r:.40}",
        hint="it may need a newer ruvq",
    )
