"""Grids for comparison: uniform with 2 to 8 bits, and ParetoQ's stretched one (arXiv:2502.02631).

They have no bytes of their own in ruvq: what they decode to is stored as floats. A step belongs to the whole
matrix, to a row ("channel") or to 256 weights of a row ("block").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import QatConfig
from .packing import BLOCK
from .ste import Clipped, Ewgs, LearnedStep, Standard, lsq_scale

_CANDIDATES = 48  # steps that are tried: absmax times 1, 1 - 1/48 ... 1/48


class ReferenceQuantizer(nn.Module):
    """`quantizer(weights)`: as WeightQuantizer. The scale is exp(log_alpha), so above 0 (INV-2)."""

    def __init__(self, weights: Tensor, config: QatConfig) -> None:
        super().__init__()
        self.config = config
        self.stretched = config.format == "stretched"
        half = 2 ** (config.bits - 1)
        self.low, self.high = (-half + 0.5, half - 0.5) if self.stretched else (-half, half - 1)
        rows, width = weights.shape
        granularity = config.granularity
        self.block = width if granularity != "block" else BLOCK
        shape = (1, 1) if granularity == "tensor" else (rows, math.ceil(width / self.block))
        self.log_alpha = nn.Parameter(torch.zeros(shape, device=weights.device), config.learns_steps)
        self.initialise(weights)

    def _spread(self, alpha: Tensor, width: int) -> Tensor:
        """The step of every weight."""
        return alpha.repeat_interleave(self.block, 1)[:, :width]

    def _levels(self, weights: Tensor, step: Tensor) -> Tensor:
        offset = 0.5 if self.stretched else 0.0
        return (weights / step - offset).clamp(self.low - offset, self.high - offset).round() + offset

    @torch.no_grad()
    def initialise(self, weights: Tensor) -> None:
        """The steps of least squared error among fractions of the largest magnitude."""
        w, width = weights.detach().float(), weights.shape[1]
        most = self._reduced(w.abs(), torch.amax).clamp(min=1e-8) / self.high
        best, best_error = most, torch.full_like(most, math.inf)
        for i in range(_CANDIDATES):
            alpha = most * (1 - i / _CANDIDATES)
            step = self._spread(alpha, width)
            error = self._reduced((self._levels(w, step) * step - w).square(), torch.sum)
            best = torch.where(error < best_error, alpha, best)
            best_error = torch.minimum(error, best_error)
        self.log_alpha.copy_(best.log())

    def _reduced(self, x: Tensor, how: object) -> Tensor:
        """(rows, width) to the shape of the steps."""
        if self.config.granularity == "tensor":
            return how(x, dim=(0, 1), keepdim=True)  # type: ignore[operator]
        return torch.cat([how(p, dim=1, keepdim=True) for p in x.split(self.block, 1)], 1)  # type: ignore[operator]

    def forward(self, weights: Tensor, version: tuple[int, ...] | None = None) -> Tensor:
        w = weights.float()
        step = self._spread(self.log_alpha.exp(), w.shape[1]).expand_as(w)
        with torch.no_grad():
            levels = self._levels(w, step)
            inside = (w >= (self.low - 0.5) * step) & (w <= (self.high + 0.5) * step)
        ste = self.config.ste
        if ste == "lsq":
            scale = lsq_scale(w.numel() // self.log_alpha.numel(), self.high)
            return LearnedStep.apply(w, levels, step, inside, scale)
        value = levels * step
        if ste == "standard":
            return Standard.apply(w, value)
        if ste == "ewgs":
            return Ewgs.apply(w, value, step, self.config.ewgs_delta)
        return Clipped.apply(w, value, inside)


def quantize_activations(x: Tensor, bits: int = 8) -> Tensor:
    """Activations (..., width) rounded per token and block of 256 as the engine does, by the largest
    magnitude; the gradient passes."""
    most = 2 ** (bits - 1) - 1
    with torch.no_grad():
        parts = []
        for part in x.float().split(BLOCK, -1):
            scale = part.abs().amax(-1, keepdim=True) / most
            q = torch.where(scale > 0, part / scale, 0).round().clamp(-most, most)
            parts.append(q * scale)
        rounded = torch.cat(parts, -1).to(x.dtype)
    return Standard.apply(x, rounded)
