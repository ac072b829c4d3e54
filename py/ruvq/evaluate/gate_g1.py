"""Gate G1: is the candidate (PiQ3) better than a uniform 3-bit grid on at least 2 of 4 measures?

Asked against two baselines: the uniform grid with each block's scale taken from its largest weight, as the
project's plan has it, and the same grid with its scale searched, as the candidate's is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import formats
from ..errors import UsageError
from . import ggml_peer
from .gate import Gate
from .metrics import Metrics, mean, measure
from .peer_feedback import CODES
from .schemes import SUPERBLOCK, Matrices, Matrix, Scheme, apply, needs_flat
from .tables import render

NEEDED = 2  # of the four measures
ABSMAX, SEARCHED = "uniform, absmax", "uniform, searched"
# what is better: the name of a measure → whether more of it is
MEASURES = {"mse": False, "spectral_distortion_db": False, "cosine": True, "outlier_retention": True}
CANDIDATES = ("pi-q3", "pi-t3")
PEERS = ("q3_k", "q2_k", "iq3_xxs", "iq2_xxs")
ROLLBACK = (
    "the plan's rollback: investigate the step size; if that fails, de-scope to research. "
    "Here that means pi-t3, whose values depend on two codes, instead of a uniform grid"
)
NOTES = (
    "mse, spectral distortion and cosine are one measure in three scales: over all bins of the spectrum the "
    "distortion is minus the signal-to-noise ratio (Parseval), and at a given norm the cosine follows it",
    "with a searched scale pi is only a unit: pi-q3 is the uniform grid, byte for byte, with a sign of the "
    "step as the only addition",
    "an absmax scale keeps each block's largest weight by construction, so it leads on outlier retention",
)
FLAT_NOTE = (
    f"some widths are no multiple of {SUPERBLOCK}: for ggml's formats, and for ruvq's where it says so, the "
    f"matrices are cut into rows of {SUPERBLOCK}"
)


@dataclass(frozen=True)
class Row:
    """One scheme's figures over all matrices."""

    scheme: Scheme
    bits: float
    metrics: Metrics

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "label": self.scheme.label,
            "format": self.scheme.format,
            "encoder": "ggml" if self.scheme.peer else "ruvq",
            "preparation": self.scheme.preparation,
            "rows_of_256": self.scheme.flat,
            "bits_per_weight": self.bits,
            **self.metrics.as_dict(),
        }


@dataclass(frozen=True)
class Verdict:
    """A candidate against a baseline under the same preparation; `better`: the measures it leads on."""

    candidate: str
    baseline: str
    preparation: str
    better: tuple[str, ...]

    @property
    def go(self) -> bool:
        """Whether it leads on enough of them."""
        return len(self.better) >= NEEDED


@dataclass
class GateG1(Gate):
    """The result. `go`: the candidate, without any preparation, passes against both baselines."""

    NAME = "g1"
    ROLLBACK = ROLLBACK
    candidate: str
    rows: list[Row]
    verdicts: list[Verdict]
    matrices: int
    weights: int

    @property
    def go(self) -> bool:
        """Go or no-go."""
        asked = [v for v in self.verdicts if v.candidate == self.candidate and v.preparation == "none"]
        return all(v.go for v in asked)

    def table(self, markdown: bool = False) -> str:
        """All schemes, by preparation."""
        products = any(row.metrics.output_snr_db is not None for row in self.rows)
        head = ("weights", "preparation", "bits", "mse", "SNR, dB", "spectral, dB", "cosine", "outliers kept")
        rows = [(*head, "products, dB") if products else head]
        for row in sorted(self.rows, key=lambda r: (len(r.scheme.preparation), r.scheme.peer)):
            m = row.metrics
            cells = (
                row.scheme.label,
                row.scheme.preparation,
                f"{row.bits:.4f}",
                f"{m.mse:.4g}",
                f"{m.snr_db:.2f}",
                f"{m.spectral_distortion_db:.2f}",
                f"{m.cosine:.5f}",
                f"{m.outlier_retention:.4f}",
            )
            rows.append((*cells, f"{m.output_snr_db or 0:.2f}") if products else cells)
        return render(rows, markdown, 2)

    @property
    def title(self) -> str:
        return f"G1, {self.candidate}"

    def findings(self) -> list[str]:
        return [
            f"{v.candidate} against {v.baseline} ({v.preparation}): better on {len(v.better)} of "
            f"{len(MEASURES)}" + (f" ({', '.join(v.better)})" if v.better else "")
            for v in self.verdicts
        ]

    def figures(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate,
            "matrices": self.matrices,
            "weights": self.weights,
            "rows": [row.as_dict() for row in self.rows],
            "verdicts": [{**v.__dict__, "better": list(v.better), "go": v.go} for v in self.verdicts],
        }


def own_schemes(bits: int = 3) -> list[Scheme]:
    """ruvq's formats of so many bits and the baselines in the same bytes, without preparation."""
    grid, trellis = (f"pi-{kind}{bits}" for kind in "qt")
    return [
        Scheme(ABSMAX, grid, scale="absmax"),
        Scheme(SEARCHED, grid, scale="mse-unsigned"),
        Scheme(f"{grid}, alpha = rms", grid, scale="rms"),
        Scheme(grid, grid),
        Scheme(trellis, trellis),
    ]


def all_schemes(matrices: Matrices, peers: bool) -> list[Scheme]:
    """Everything that is compared on these matrices, each under the same preparations."""
    plain = own_schemes()
    own = [*plain, Scheme("pi-q2", "pi-q2"), Scheme("pi-t2", "pi-t2")]
    flat = _flat(matrices)
    if flat:
        own += [replace(s, flat=True, label=f"{s.label}, rows of 256") for s in plain[1:]]
    out = [*own, *(replace(s, hadamard=True) for s in own)]
    if matrices.calibrated:
        out += [replace(s, hadamard=True, feedback=True) for s in own if not s.flat]
    if peers:
        for name in PEERS:
            label = f"{name}, rows of 256" if flat else name
            asked = Scheme(f"ggml {label}", name, peer=True, flat=flat)
            even = replace(asked, label=f"ggml {label}, even importance", importance=True)
            shown = [even] if name in ggml_peer.NEED_IMPORTANCE else [asked, even]
            out += [*shown, *(replace(s, hadamard=True) for s in shown)]
            if name in CODES and matrices.calibrated:
                out.append(replace(asked, hadamard=True, feedback=True))
    return out


def _flat(matrices: Matrices) -> bool:
    """Whether ggml's formats need the matrices in another shape."""
    return any(needs_flat("q3_k", tensor.width) for tensor in matrices.tensors)


def gate_g1(
    matrices: Matrices,
    candidate: str = "pi-q3",
    *,
    peers: bool = True,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> GateG1:
    """Compares on these matrices. `peers`: ggml's quantizers too, where they are installed.

    `progress(matrices done, in all, the next one)`. UsageError for a candidate that isn't one of 3 bits.
    """
    name = formats.get(candidate).name
    if name not in CANDIDATES:
        raise UsageError(
            "this format isn't compared with a uniform grid of 3 bits",
            subject="--format",
            expected=", ".join(CANDIDATES),
            actual=candidate,
        )
    notes = list(NOTES)
    present = peers and ggml_peer.available()
    if peers and not present:
        notes.append("ggml's quantizers are missing from the table: " + ggml_peer.HINT)
    if _flat(matrices):
        notes.append(FLAT_NOTE)
    schemes = all_schemes(matrices, present)
    found: list[list[tuple[Metrics, float]]] = [[] for _ in schemes]
    sizes, total = [], len(matrices.tensors)
    for at, matrix in enumerate(matrices):
        sizes.append(matrix.values.size)
        for results, scheme in zip(found, schemes, strict=True):
            if progress is not None:
                progress(at, total, f"{matrix.name}, {scheme.label}")
            results.append(_measure(scheme, matrix, seed))
    if progress is not None:
        progress(total, total, "")
    rows = [_row(scheme, results, sizes) for scheme, results in zip(schemes, found, strict=True)]
    return GateG1(name, rows, verdicts(rows), total, sum(sizes), notes=notes)


def _measure(scheme: Scheme, matrix: Matrix, seed: int) -> tuple[Metrics, float]:
    """The metrics of one matrix, and its bits per weight."""
    outcome = apply(scheme, matrix, seed)
    moment = matrix.held_out if matrix.held_out is not None else matrix.moment
    return measure(matrix.values, outcome.decoded, moment), outcome.bits


def _row(scheme: Scheme, found: Sequence[tuple[Metrics, float]], sizes: Sequence[int]) -> Row:
    bits = sum(b * n for (_, b), n in zip(found, sizes, strict=True)) / sum(sizes)
    return Row(scheme, bits, mean([m for m, _ in found], sizes))


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every candidate against both baselines, under each preparation."""
    out = []
    by_name = {(r.scheme.label, r.scheme.preparation): r for r in rows if not r.scheme.flat}
    for (label, preparation), row in by_name.items():
        for baseline in (ABSMAX, SEARCHED):
            other = by_name.get((baseline, preparation))
            if label in CANDIDATES and other is not None:
                out.append(Verdict(label, baseline, preparation, better(row.metrics, other.metrics)))
    return out


def better(ours: Metrics, theirs: Metrics) -> tuple[str, ...]:
    """The measures on which the first leads."""
    out = []
    for name, more in MEASURES.items():
        a, b = getattr(ours, name), getattr(theirs, name)
        if (a > b) if more else (a < b):
            out.append(name)
    return tuple(out)
