"""The three losses: next token, distance from the teacher, distance from it along a chain of thought."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import QatConfig
from .data import NO_STEP


@dataclass(frozen=True)
class Losses:
    """Scalars with gradients; `total` is the weighted sum."""

    total: Tensor
    task: Tensor
    kd: Tensor
    reasoning: Tensor

    def floats(self) -> dict[str, float]:
        """For events."""
        return {name: float(getattr(self, name).detach()) for name in ("total", "task", "kd", "reasoning")}


def task_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy: logits (n, vocabulary), targets (n,)."""
    return F.cross_entropy(logits.float(), targets)


def kl_per_token(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of each token at a temperature: both (n, vocabulary) → (n,)."""
    s = F.log_softmax(student.float() / temperature, -1)
    t = F.log_softmax(teacher.float() / temperature, -1)
    return F.kl_div(s, t, reduction="none", log_target=True).sum(-1)


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean KL at the temperature times its square, so that gradients don't shrink with it (Hinton et al.)."""
    return kl_per_token(student, teacher, temperature).mean() * temperature**2


def reasoning_loss(student: Tensor, teacher: Tensor, steps: Tensor) -> Tensor:
    """Mean over reasoning steps of the mean KL in a step; 0 without any. steps (n,): number or NO_STEP."""
    marked = steps != NO_STEP
    if not bool(marked.any()):
        return student.new_zeros(())
    kl = kl_per_token(student[marked], teacher[marked])
    _, place = steps[marked].unique(return_inverse=True)
    count = int(place.max()) + 1
    sums = kl.new_zeros(count).index_add(0, place, kl)
    sizes = kl.new_zeros(count).index_add(0, place, torch.ones_like(kl))
    return (sums / sizes).mean()


def total_loss(
    logits: Tensor, teacher: Tensor | None, tokens: Tensor, steps: Tensor, config: QatConfig
) -> Losses:
    """Losses of a batch: logits (batch, length, vocabulary) of tokens (batch, length), every token but the
    first predicted; `teacher`: logits of the same shape, or None."""
    student = logits[:, :-1].flatten(0, 1)
    task = task_loss(student, tokens[:, 1:].flatten())
    kd = reasoning = task.new_zeros(())
    if teacher is not None:
        guide = teacher[:, :-1].flatten(0, 1)
        if config.beta_kd:
            kd = kd_loss(student, guide, config.temperature)
        if config.gamma_reasoning:
            reasoning = reasoning_loss(student, guide, steps[:, 1:].flatten())
    total = config.alpha_task * task + config.beta_kd * kd + config.gamma_reasoning * reasoning
    return Losses(total, task, kd, reasoning)
