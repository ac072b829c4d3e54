"""Which format each tensor gets when only the size of all is given: at least loss within so many bytes.

For one tensor only the formats on the lower convex hull of (bytes, loss) are worth having at some price of a
byte (Lagrange's multiplier). Steps along all hulls are taken in the order of loss saved a byte, as far as the
budget goes; what is left then buys single upgrades, hull or not.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class Choice:
    """One format for one tensor: what it takes, and what it costs in quality (any unit, the same for all)."""

    format: str
    nbytes: int
    loss: float


def lower_hull(choices: Sequence[Choice]) -> list[Choice]:
    """The choices that are best at some price of a byte, fewest bytes first; of equal ones the first."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.nbytes, c.loss)):
        if hull and choice.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _saving(hull[-2], hull[-1]) <= _saving(hull[-2], choice):
            hull.pop()
        hull.append(choice)
    return hull


def _saving(small: Choice, large: Choice) -> float:
    """Loss saved a byte by taking the larger of two choices."""
    return (small.loss - large.loss) / (large.nbytes - small.nbytes)


def assign(tensors: Sequence[Sequence[Choice]], budget: int) -> list[Choice]:
    """A choice for each tensor, of at most `budget` bytes in all.

    Within the budget the loss is at most one step of a hull above the least possible.
    UsageError when even the smallest choices take more: it says how many bytes are the least.
    """
    hulls = [lower_hull(choices) for choices in tensors]
    least = sum(hull[0].nbytes for hull in hulls)
    if least > budget:
        raise UsageError(
            "the target is too small",
            subject="target",
            expected=f"at least {least:,} bytes of tensors with these formats",
            actual=f"{budget:,}",
            hint="raise the target, or allow smaller formats with --candidates",
        )
    at = [0] * len(hulls)
    left = budget - least
    steps = [(-_saving(hull[0], hull[1]), tensor) for tensor, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, tensor = heapq.heappop(steps)
        hull, now = hulls[tensor], at[tensor]
        cost = hull[now + 1].nbytes - hull[now].nbytes
        if cost > left:
            continue  # smaller steps of other tensors may still fit
        left -= cost
        at[tensor] += 1
        if now + 2 < len(hull):
            heapq.heappush(steps, (-_saving(hull[now + 1], hull[now + 2]), tensor))
    return _spend([hull[i] for hull, i in zip(hulls, at, strict=True)], tensors, left)


def _spend(chosen: list[Choice], tensors: Sequence[Sequence[Choice]], left: int) -> list[Choice]:
    """Single upgrades for as long as one fits that saves something, the largest saving first."""
    while True:
        best: tuple[float, int, Choice] | None = None
        for tensor, choices in enumerate(tensors):
            for choice in choices:
                saved = chosen[tensor].loss - choice.loss
                fits = choice.nbytes - chosen[tensor].nbytes <= left
                if fits and saved > (best[0] if best else 0.0):
                    best = saved, tensor, choice
        if best is None:
            return chosen
        _, tensor, choice = best
        left -= choice.nbytes - chosen[tensor].nbytes
        chosen[tensor] = choice
