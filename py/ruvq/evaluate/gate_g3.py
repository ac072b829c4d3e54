"""Gate G3: are 2 bits with incoherence and calibration good enough without training?

It goes where pi-t2 and pi-q2, each with a Hadamard transform and error feedback, stay within +30 % of the
float model's perplexity, or of Q3_K's, which has more than a bit more. Uniform grids of 2 bits with the same
preparation stand beside them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formats
from ..gguf import GGUFFile
from ..quantize.calibration import Calibration
from ..quantize.pipeline import quantize_model
from ..quantize.plan import EMBEDDING, OUTPUT
from ..runtime.model import Model, Perplexity
from . import ggml_peer
from .gate import Gate
from .perplexity import perplexity
from .round_trip import write_round_trip
from .schemes import SUPERBLOCK, Matrix, Scheme, apply, moment_of, needs_flat
from .tables import render

if TYPE_CHECKING:
    import numpy as np

CANDIDATES = ("pi-t2", "pi-q2")
PEER = "q3_k"
ROLLBACK = (
    "the plan's rollback: without an acceptable 2-bit result from post-training quantization, 2 bits stay "
    "behind training (QAT, LoRA-QAT first); until then ship 3 bits (pi-t3), or fewer layers at 2 bits "
    "with `ruvq quantize --target-bpw`"
)
PREPARED = "hadamard + feedback"


@dataclass(frozen=True)
class Case:
    """One line: what is quantized how. `scale`: the rule of a block's scale."""

    label: str
    format: str
    scale: str | None = None
    prepared: bool = True


CASES = (
    Case("uniform, absmax", "pi-q2", "absmax"),
    Case("uniform, searched", "pi-q2", "mse-unsigned"),
    Case("pi-q2", "pi-q2"),
    Case("pi-t2", "pi-t2"),
    Case("pi-x2", "pi-x2"),
    Case("pi-t3", "pi-t3"),
    Case("pi-x3", "pi-x3"),
)
PEER_SCHEMES = (
    Scheme("ggml q3_k", PEER, peer=True),
    Scheme("ggml q3_k, even importance", PEER, peer=True, importance=True),
    Scheme("ggml q3_k", PEER, peer=True, hadamard=True),
    Scheme("ggml q3_k, even importance", PEER, peer=True, importance=True, hadamard=True),
    Scheme("ggml q3_k", PEER, peer=True, hadamard=True, feedback=True),
)


@dataclass(frozen=True)
class Row:
    """Figures of one case: a perplexity for each seed of the transform, and the mean of their errors."""

    label: str
    format: str
    preparation: str
    bits: float  # of all tensors
    perplexities: tuple[float, ...]
    stderr: float

    @property
    def perplexity(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.perplexities) / len(self.perplexities)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.__dict__, "perplexities": list(self.perplexities), "perplexity": self.perplexity}


@dataclass
class GateG3(Gate):
    """The result. `go`: every candidate is within `limit` times the float perplexity or Q3_K's best."""

    NAME = "g3"
    ROLLBACK = ROLLBACK
    rows: list[Row]
    limit: float
    tokens: int

    @property
    def float_row(self) -> Row:
        """The float model."""
        return next(row for row in self.rows if row.format == "f32")

    @property
    def peer_row(self) -> Row | None:
        """The best of Q3_K's, where ggml is there."""
        return min((r for r in self.rows if r.format == PEER), key=lambda r: r.perplexity, default=None)

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """For each candidate the ratios to float and to Q3_K, and whether one is within the limit."""
        out: dict[str, dict[str, Any]] = {}
        for name in CANDIDATES:
            row = next(r for r in self.rows if r.label == name)
            of_float = row.perplexity / self.float_row.perplexity
            of_peer = row.perplexity / self.peer_row.perplexity if self.peer_row else None
            go = of_float <= self.limit or (of_peer is not None and of_peer <= self.limit)
            out[name] = {"of_float": of_float, "of_q3_k": of_peer, "go": go}
        return out

    @property
    def go(self) -> bool:
        """Go or no-go."""
        return all(v["go"] for v in self.verdicts().values())

    def figures(self) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "tokens": self.tokens,
            "rows": [row.as_dict() for row in self.rows],
            "verdicts": self.verdicts(),
        }

    def table(self, markdown: bool = False) -> str:
        """All cases, the fewest bits first."""
        rows = [("weights", "preparation", "bits", "perplexity", "range over seeds", "of float")]
        whole = self.float_row.perplexity
        for row in sorted(self.rows, key=lambda r: (r.bits, r.perplexity)):
            span = min(row.perplexities), max(row.perplexities)
            rows.append(
                (
                    row.label,
                    row.preparation,
                    f"{row.bits:.2f}",
                    f"{row.perplexity:.2f} ± {row.stderr:.2f}",
                    f"{span[0]:.2f} to {span[1]:.2f}" if len(row.perplexities) > 1 else "",
                    f"{row.perplexity / whole:.2f}",
                )
            )
        return render(rows, markdown, 2)

    def findings(self) -> list[str]:
        lines = []
        for name, found in self.verdicts().items():
            peer = "" if found["of_q3_k"] is None else f", {found['of_q3_k']:.2f} times Q3_K's"
            word = "within" if found["go"] else "beyond"
            lines.append(
                f"{name}: {found['of_float']:.2f} times the float perplexity{peer}: {word} {self.limit:g}"
            )
        return lines


def gate_g3(
    input: str | os.PathLike[str],
    text: str,
    calibration: str | os.PathLike[str],
    *,
    tokenizer: str | None = None,
    config: str | None = None,
    embeddings: str = "same",
    max_tokens: int | None = None,
    seeds: int = 3,
    limit: float = 1.3,
    peers: bool = True,
    sequential: bool = False,
    thorough: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> GateG3:
    """Quantizes and evaluates every case, `seeds` times with different transforms.

    `embeddings`: another format for embedding and output. `sequential`, `thorough`: as `quantize_model` has
    them, for all but ggml's. `progress(models done, in all, the next one)`.
    Raises as `quantize_model` does.
    """
    present = peers and ggml_peer.available()
    notes = [] if present or not peers else ["Q3_K is missing: " + ggml_peer.HINT]
    source: dict[str, Any] = {"tokenizer": tokenizer, "config": config, "progress": False, "overwrite": True}
    how: dict[str, Any] = {"sequential": sequential, "thorough": thorough}
    prepared = ", ".join([PREPARED, *(word for word, wanted in how.items() if wanted)])
    total = 1 + len(CASES) * seeds + (len(PEER_SCHEMES) if present else 0)
    done = 0

    def step(label: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, total, label)
        done += 1

    with tempfile.TemporaryDirectory(prefix="ruvq-gate-") as folder:
        whole, target = Path(folder) / "float.gguf", Path(folder) / "model.gguf"
        step("f32")
        report = quantize_model(input, whole, "f32", **source)
        found = _perplexity(whole, text, max_tokens, "f32")
        rows = [_row("f32", "f32", "none", report.bits_per_weight_actual, [found])]
        for case in CASES:
            results = []
            for seed in range(seeds):
                step(case.label)
                report = quantize_model(
                    input,
                    target,
                    case.format,
                    scale=case.scale,
                    incoherence="hadamard",
                    calibration=calibration,
                    embeddings=embeddings,
                    output_tensor=embeddings,
                    seed=seed,
                    **how,
                    **source,
                )
                results.append(_perplexity(target, text, max_tokens, "f16"))
            rows.append(_row(case.label, case.format, prepared, report.bits_per_weight_actual, results))
        for scheme in PEER_SCHEMES if present else ():
            step(scheme.label)
            with Calibration.open(calibration) as moments:
                rows.append(_peer_row(scheme, whole, target, text, max_tokens, embeddings, moments))
        if present:
            notes.append(PEER_NOTE)
    if progress is not None:
        progress(total, total, "")
    return GateG3(rows, limit, found.tokens, notes=notes)


PEER_NOTE = (
    "Q3_K is measured as its decoded weights in a float model, with float activations; matrices whose width "
    f"is no multiple of {SUPERBLOCK} are cut into rows of {SUPERBLOCK}"
)


def _perplexity(path: Path, text: str, max_tokens: int | None, kv: str) -> Perplexity:
    with Model.open(path, kv=kv) as model:
        return perplexity(model, text, max_tokens=max_tokens)


def _row(label: str, format: str, preparation: str, bits: float, found: list[Perplexity]) -> Row:
    stderr = math.fsum(p.stderr for p in found) / len(found)
    return Row(label, format, preparation, bits, tuple(map(float, found)), stderr)


def _peer_row(
    scheme: Scheme,
    whole: Path,
    target: Path,
    text: str,
    max_tokens: int | None,
    embeddings: str,
    calibration: Calibration,
) -> Row:
    """A case of ggml's encoder; embedding and output count as `embeddings` says, and stay floats then."""
    with GGUFFile.open(whole) as file:
        weights = sum(t.weights for t in file.tensors)
        stored = sum(32.0 * t.weights for t in file.tensors if len(t.shape) < 2)

    def change(name: str, values: np.ndarray) -> np.ndarray:
        nonlocal stored
        if embeddings != "same" and name in (EMBEDDING, OUTPUT):
            stored += formats.get(embeddings).bits_per_weight(values.shape[1]) * values.size
            return values
        shape = replace(scheme, flat=needs_flat(scheme.format, values.shape[1]))
        outcome = apply(shape, Matrix(name, values, moment_of(calibration, name, values.shape[1])))
        stored += outcome.bits * values.size
        return outcome.decoded

    write_round_trip(whole, target, change)
    found = _perplexity(target, text, max_tokens, "f32")
    return _row(scheme.label, scheme.format, scheme.preparation, stored / weights, [found])
