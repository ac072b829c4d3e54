"""Learning rates of the parameters."""

from __future__ import annotations

import pytest
from torch import nn

from ruvq.train import QatConfig
from ruvq.train.optimizer import make_optimizer


def rates(model: nn.Module, auto_rate: float | None) -> dict[int, float]:
    """The full rate of each parameter, by its number of values."""
    groups = make_optimizer(model, QatConfig.pit2(), auto_rate).param_groups
    return {group["params"][0].numel(): group["rate"] for group in groups}


def layers() -> nn.Module:
    """A narrow matrix, a wide one and a norm, each with values of 0.5 only."""
    model = nn.Sequential(
        nn.Linear(32, 2, bias=False), nn.Linear(256, 2, bias=False), nn.LayerNorm(7, bias=False)
    )
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    return model


def test_the_automatic_rate_is_a_share_of_a_matrix_and_less_for_wide_rows() -> None:
    assert rates(layers(), 0.01) == pytest.approx({64: 0.005, 512: 0.0025, 7: 0.005})


def test_matrices_of_zeros_learn() -> None:
    model = nn.Linear(8, 4, bias=False)
    nn.init.zeros_(model.weight)
    assert rates(model, 0.01) == pytest.approx({32: 1e-6})


def test_a_rate_that_was_given_is_taken_as_it_is() -> None:
    assert set(rates(layers(), None).values()) == {QatConfig.pit2().learning_rate}
