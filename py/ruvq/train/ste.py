"""Straight-through estimators: rounding in the forward pass, a useful gradient in the backward pass.

All of them take the weights and what a quantizer made of them, so that each works with every quantizer: the
value that the forward pass returns is the quantizer's own, to the bit. None has a region without gradient
other than clipping (INV-1). Shapes: everything is (rows, width) float32 unless said otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class Standard(Function):
    """The gradient passes unchanged (Bengio et al., arXiv:1308.3432)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, quantized: Tensor) -> Tensor:
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


class Clipped(Function):
    """No gradient for weights that lie outside the grid; `inside` (bool) says which do not."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, quantized: Tensor, inside: Tensor) -> Tensor:
        ctx.save_for_backward(inside)
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None


class Ewgs(Function):
    """Element-wise gradient scaling (arXiv:2104.00903): g (1 + delta sign(g) (w - q) / step).

    Gradients grow where the step they ask for leads away from the rounded value, and shrink where it leads
    towards it. The distance is cut at one step and 0 <= delta < 1, so that the factor stays positive.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, quantized: Tensor, step: Tensor, delta: float) -> Tensor:
        ctx.save_for_backward(weights, quantized, step)
        ctx.delta = delta
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, quantized, step = ctx.saved_tensors
        (grad,) = grads
        size = step.abs()
        distance = torch.where(size > 0, (weights - quantized) / size, 0).clamp(-1, 1)
        return grad * (1 + ctx.delta * grad.sign() * distance), None, None, None


class LearnedStep(Function):
    """Learned step size (LSQ, arXiv:1902.08153): weights = levels * step, with gradients for both.

    `levels`: what each weight was rounded to, in steps; `step`: of each weight; `inside`: not clipped;
    `scale`: of the step's gradient, `lsq_scale`. Inside the grid d/d step = level - w / step, outside the
    level itself: the autograd of whatever spread `step` over its weights sums them up.
    """

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, levels: Tensor, step: Tensor, inside: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(weights, levels, step, inside)
        ctx.scale = scale
        return levels * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, levels, step, inside = ctx.saved_tensors
        (grad,) = grads
        in_steps = torch.where(step != 0, weights / step, 0)
        slope = torch.where(inside, levels - in_steps, levels)
        return grad * inside, None, grad * slope * ctx.scale, None, None


class KeptCodes(Function):
    """As LearnedStep between two assignments, when the codes don't follow the weights: the step's gradient is
    that of levels * step itself."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, levels: Tensor, step: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(levels)
        ctx.scale = scale
        return levels * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (levels,) = ctx.saved_tensors
        return grads[0], None, grads[0] * levels * ctx.scale, None


class RoundTo(Function):
    """A value that a file can hold in place of the parameter it came from; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, stored: Tensor) -> Tensor:
        return stored.view_as(stored)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


def lsq_scale(weights: int, highest: float) -> float:
    """LSQ's scale of a step's gradient: 1 / sqrt(weights of the step * largest level)."""
    return 1 / math.sqrt(weights * max(highest, 1.0))
