"""Estimators against independent expressions in plain autograd, and INV-1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ruvq.train.ste import Clipped, Ewgs, KeptCodes, LearnedStep, RoundTo, Standard, lsq_scale

LOW, HIGH = -2.0, 1.0


def case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, their levels, the step of each, and an incoming gradient: (5, 40) each."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(5, 40, generator=random, requires_grad=True)
    step = torch.rand(5, 1, generator=random) * 0.5 + 0.2
    levels = (weights / step).detach().clamp(LOW, HIGH).round()
    return weights, levels, step, torch.randn(5, 40, generator=random)


def gradient(output: Tensor, weights: Tensor, incoming: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(output, weights, incoming)
    return found


def test_standard_passes_the_gradient_and_the_quantizers_own_value() -> None:
    weights, levels, step, incoming = case()
    output = Standard.apply(weights, levels * step)
    detached = weights + (levels * step - weights).detach()
    assert torch.equal(output, levels * step)
    assert torch.equal(gradient(output, weights, incoming), gradient(detached, weights, incoming))


def test_clipped_is_the_gradient_of_clamping() -> None:
    weights, levels, step, incoming = case()
    low, high = (LOW - 0.5) * step, (HIGH + 0.5) * step
    inside = (weights >= low) & (weights <= high)
    output = Clipped.apply(weights, levels * step, inside)
    clamped = torch.minimum(torch.maximum(weights, low), high)
    assert torch.equal(output, levels * step)
    assert torch.equal(gradient(output, weights, incoming), gradient(clamped, weights, incoming))


def test_learned_step_is_lsq_written_with_detach() -> None:
    weights, levels, step, incoming = case()
    step = step.clone().requires_grad_()
    scale = lsq_scale(40, HIGH)
    inside = ((weights / step) >= LOW) & ((weights / step) <= HIGH)
    output = LearnedStep.apply(weights, levels, step.expand(5, 40), inside, scale)
    found = torch.autograd.grad(output, (weights, step), incoming)

    scaled = step * scale + (step - step * scale).detach()
    in_steps = (weights / scaled).clamp(LOW, HIGH)
    rounded = in_steps + (in_steps.round() - in_steps).detach()
    expected = torch.autograd.grad(rounded * scaled, (weights, step), incoming)
    assert torch.equal(output, levels * step)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)


def test_kept_codes_have_the_gradient_of_the_product() -> None:
    weights, levels, step, incoming = case()
    step = step.clone().requires_grad_()
    output = KeptCodes.apply(weights, levels, step.expand(5, 40), 1.0)
    (found,) = torch.autograd.grad(output, step, incoming)
    (expected,) = torch.autograd.grad(levels * step, step, incoming)
    assert torch.equal(found, expected)


def test_ewgs_scales_by_distance_and_sign() -> None:
    weights, levels, step, incoming = case()
    output = Ewgs.apply(weights, levels * step, step.expand(5, 40), 0.25)
    distance = ((weights - levels * step) / step).detach().clamp(-1, 1)
    expected = incoming * (1 + 0.25 * incoming.sign() * distance)
    torch.testing.assert_close(gradient(output, weights, incoming), expected)


def test_ewgs_agrees_with_finite_differences_of_its_surrogate() -> None:
    """For a positive gradient the surrogate is w + delta (w - q)^2 / (2 step) within a cell."""
    weights = torch.tensor([[0.1, 0.22, -0.33]], requires_grad=True)
    step, levels = torch.full((1, 3), 0.25), torch.tensor([[0.0, 1.0, -1.0]])

    def surrogate(w: Tensor) -> Tensor:
        return w + 0.5 * (w - levels * step) ** 2 / (2 * step)

    output = Ewgs.apply(weights, levels * step, step, 0.5)
    found = gradient(output, weights, torch.ones(1, 3))
    h = 1e-3
    numeric = (surrogate(weights.detach().double() + h) - surrogate(weights.detach().double() - h)) / (2 * h)
    torch.testing.assert_close(found.double(), numeric, rtol=1e-4, atol=1e-5)


def test_inv_1_no_gradient_vanishes_but_by_clipping() -> None:
    for seed in range(10):
        weights, levels, step, incoming = case(seed)
        inside = (weights >= (LOW - 0.5) * step) & (weights <= (HIGH + 0.5) * step)
        spread = step.expand(5, 40)
        outputs = {
            "standard": Standard.apply(weights, levels * step),
            "ewgs": Ewgs.apply(weights, levels * step, spread, 0.99),
            "clipped": Clipped.apply(weights, levels * step, inside),
            "lsq": LearnedStep.apply(weights, levels, spread, inside, 1.0),
        }
        for name, output in outputs.items():
            found = gradient(output, weights, incoming)
            expected = inside if name in ("clipped", "lsq") else torch.ones_like(inside)
            assert torch.equal(found != 0, expected), name


def test_rounding_to_what_a_file_holds_passes_the_gradient() -> None:
    exact = torch.tensor([0.3, 0.7], requires_grad=True)
    output = RoundTo.apply(exact, torch.tensor([0.25, 0.75]))
    assert output.tolist() == [0.25, 0.75]
    assert gradient(output, exact, torch.tensor([2.0, -1.0])).tolist() == [2.0, -1.0]


@pytest.mark.parametrize("weights", [1, 64, 256])
def test_the_scale_of_a_steps_gradient(weights: int) -> None:
    assert lsq_scale(weights, 7.0) == pytest.approx((weights * 7) ** -0.5)
