"""Muon for the matrices, Adam for the embedding and the norms.

Muon (Jordan et al., 2024): the momentum of a matrix is made nearly orthogonal by Newton-Schulz steps, so
that an update has the same size in every direction. It reaches a given loss in clearly fewer tokens than
Adam.
"""

from __future__ import annotations

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients as published
NEWTON_SCHULZ_STEPS = 5


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with singular values about 1; (n, rows, columns) to the same."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()  # precise enough for a direction, and fast
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Matrices of one shape make a group and are computed together."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
    ) -> None:
        shapes = {tuple(p.shape) for p in parameters}
        groups = [{"params": [p for p in parameters if tuple(p.shape) == shape]} for shape in sorted(shapes)]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum, parameters = group["lr"], group["momentum"], group["params"]
            for parameter in parameters:
                if "momentum" not in self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            gradients = torch.stack([p.grad for p in parameters])
            averages = [self.state[p]["momentum"] for p in parameters]
            torch._foreach_lerp_(averages, list(gradients), 1 - momentum)
            updates = orthogonalize(gradients.lerp(torch.stack(averages), momentum))
            rows, columns = parameters[0].shape
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
            torch._foreach_add_(parameters, list(updates), alpha=-lr * max(1.0, rows / columns) ** 0.5)
