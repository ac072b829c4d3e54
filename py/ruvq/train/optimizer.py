"""AdamW with a rate for weights, one for the quantizers' own parameters, and one for norms."""

from __future__ import annotations

import math

import torch
from torch import nn

from .config import QatConfig

BETAS = (0.9, 0.98)
ADAPTER_RATE = 2e-3  # of adapters where the rate is automatic: B begins at 0
NARROW = 64  # rows up to this width learn at the whole automatic rate


def make_optimizer(model: nn.Module, config: QatConfig, auto_rate: float | None = None) -> torch.optim.AdamW:
    """Groups have their full learning rate as `rate`.

    `auto_rate`: parameters take that share of their own root mean square instead of `config.learning_rate`,
    so that one number suits models of all sizes: the steps of a quantizer are as wide as the weights are
    large. Rows that are wider than NARROW take less, by the root of the ratio: more weights move each sum.
    """
    groups = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0
        if ".quantizer." in name:
            rate = config.quantizer_learning_rate
        elif ".adapter." in name:
            rate = config.learning_rate if auto_rate is None else ADAPTER_RATE
        elif auto_rate is not None:
            rate = auto_rate * _size(parameter)
            decay = config.weight_decay if parameter.dim() > 1 else 0.0
        else:
            rate, decay = config.learning_rate, config.weight_decay if parameter.dim() > 1 else 0.0
        groups.append({"params": [parameter], "lr": rate, "rate": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=BETAS)


def _size(parameter: nn.Parameter) -> float:
    """What the automatic rate is a share of."""
    size = max(float(parameter.detach().float().square().mean().sqrt()), 1e-4)
    return size * math.sqrt(min(1.0, NARROW / parameter.shape[-1])) if parameter.dim() > 1 else size
