"""What became of each tensor, and of the whole file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..sources import Source
from .plan import Plan, PlannedTensor

_SUMS = ("seconds", "squares", "squared_error", "output_squares", "output_error", "peak", "turned_peak")


@dataclass
class TensorReport:
    """What became of one tensor. `mse` and `snr_db` compare with the source's floats."""

    name: str
    format: str
    shape: tuple[int, ...]
    method: str  # of the transform, "" without
    bits: float
    nominal_bits: float
    nbytes: int
    seconds: float = 0.0
    squares: float = 0.0  # sum of w^2
    squared_error: float = 0.0  # sum of (w - decoded)^2
    output_squares: float = 0.0  # of the products with calibration's inputs
    output_error: float = 0.0
    peak: float = 0.0  # largest magnitude
    turned_peak: float = 0.0  # after the transform, where there is one

    def sums(self) -> dict[str, float]:
        """What the work found out, for the journal of a run that may be cut off."""
        return {name: getattr(self, name) for name in _SUMS}

    @property
    def mse(self) -> float:
        """Mean squared error of a weight."""
        return self.squared_error / math.prod(self.shape)

    @property
    def snr_db(self) -> float:
        """Signal to noise ratio; infinite where nothing was lost."""
        return snr_db(self.squares, self.squared_error)

    @property
    def output_snr_db(self) -> float | None:
        """The same of the products with the inputs of calibration; None where it wasn't used."""
        return snr_db(self.output_squares, self.output_error) if self.output_squares else None

    def mu(self, turned: bool) -> float | None:
        """How coherent the matrix is, before and after the transform: max |w| / root mean square, 1 at the
        least (Chee et al., QuIP). None for vectors, matrices of zeros, and in a browser."""
        peak = self.turned_peak if turned else self.peak
        if len(self.shape) < 2 or self.squares <= 0 or peak <= 0:
            return None
        return peak / math.sqrt(self.squares / math.prod(self.shape))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; `bpw` is actual. An infinite SNR (no error) becomes null."""
        return {
            "name": self.name,
            "format": self.format,
            "shape": list(self.shape),
            "hadamard": self.method == "hadamard",
            "transform": self.method or None,
            "bpw": self.bits,
            "bpw_nominal": self.nominal_bits,
            "bytes": self.nbytes,
            "mse": self.mse,
            "snr_db": self.snr_db if math.isfinite(self.snr_db) else None,
            "output_snr_db": self.output_snr_db,
            "mu": self.mu(False),
            "mu_turned": self.mu(True) if self.method else None,
            "seconds": round(self.seconds, 4),
        }


@dataclass
class Report:
    """The result of `quantize_model`.

    `bits_per_weight` is nominal, of the weight matrices at full blocks; `bits_per_weight_actual` is all
    tensor bytes over all weights, norms included.
    """

    output: Path
    format: str
    source: str
    parameters: int
    file_bytes: int
    tensor_bytes: int
    bits_per_weight: float
    bits_per_weight_actual: float
    incoherence: str
    seed: int | None
    mse: float
    snr_db: float
    seconds: float
    tensors: list[TensorReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        out = {k: v for k, v in self.__dict__.items() if k not in ("tensors", "output")}
        out["output"] = str(self.output)
        out["seconds"] = round(self.seconds, 3)
        out["snr_db"] = self.snr_db if math.isfinite(self.snr_db) else None
        out["tensors"] = [t.as_dict() for t in self.tensors]
        return out

    def summary(self) -> str:
        """A few lines for people."""
        snr = f"{self.snr_db:.2f} dB SNR" if math.isfinite(self.snr_db) else "exact"
        speed = self.parameters / max(self.seconds, 1e-9) / 1e6
        turned = [t for t in self.tensors if t.method and t.mu(True)]
        coherence = ""
        if turned:
            before, after = (max(t.mu(side) or 0.0 for t in turned) for side in (False, True))
            coherence = f"; the most coherent matrix: mu {before:.1f}, transformed {after:.1f} at most"
        return (
            f"{self.output}: {self.file_bytes:,} bytes, {self.format}, {self.parameters:,} weights\n"
            f"bits per weight: {self.bits_per_weight:.2f} nominal, {self.bits_per_weight_actual:.2f} actual; "
            f"{snr}{coherence}; {self.seconds:.1f} s ({speed:.2f} M weights/s)"
        )


def planned_report(planned: PlannedTensor, **sums: float) -> TensorReport:
    """A report with what was found out, or before that."""
    return TensorReport(
        planned.name,
        planned.format,
        planned.shape,
        planned.method,
        planned.bits,
        planned.nominal_bits,
        planned.nbytes,
        **sums,
    )


def snr_db(squares: float, squared_error: float) -> float:
    """Signal to noise ratio in dB; infinite without an error."""
    if squared_error <= 0:
        return math.inf
    return 10 * math.log10(squares / squared_error) if squares > 0 else -math.inf


def file_report(
    source: Source, plan: Plan, results: list[TensorReport], target: Path, seed: int, seconds: float
) -> Report:
    """The report of a file that stands at `target`."""
    errors = sum(r.squared_error for r in results)
    squares = sum(r.squares for r in results)
    return Report(
        output=target,
        format=plan.format,
        source=source.kind,
        parameters=plan.weights,
        file_bytes=target.stat().st_size,
        tensor_bytes=plan.nbytes,
        bits_per_weight=plan.nominal_bits,
        bits_per_weight_actual=plan.actual_bits,
        incoherence=plan.method or "none",
        seed=seed if plan.method else None,
        mse=errors / plan.weights,
        snr_db=snr_db(squares, errors),
        seconds=seconds,
        tensors=results,
        notes=source.notes,
    )
