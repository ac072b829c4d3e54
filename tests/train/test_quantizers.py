"""Quantizers in the loop: the forward pass is the file, alpha stays positive, step = alpha pi / k."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

import ruvq
from ruvq.errors import UsageError
from ruvq.quantize.tensors import turn_rows
from ruvq.train import QatConfig, codecs, quantizer
from ruvq.train.config import GRIDS, STES, TRELLIS
from ruvq.train.hadamard import transform_in_torch
from ruvq.train.quantizer import WeightQuantizer
from ruvq.train.reference import ReferenceQuantizer, quantize_activations

FORMATS = (*TRELLIS, *GRIDS)


def weights_of(rows: int = 12, width: int = 172, seed: int = 0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


def train(q: torch.nn.Module, w: torch.nn.Parameter, steps: int, seed: int = 0, rate: float = 0.05) -> None:
    """Some steps along random gradients."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        q(w).backward(torch.randn(w.shape, generator=random))
        with torch.no_grad():
            for parameter in (w, *q.parameters()):
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
                    parameter.grad = None


def decoded(q: WeightQuantizer, shape: tuple[int, ...]) -> np.ndarray:
    """What the core makes of the bytes."""
    out = ruvq.dequantize(ruvq.QuantizedTensor(q.codec.format, shape, q.data()), as_numpy=True)
    return out if q.turn is None else np.asarray(turn_rows(out, q.turn, True))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ste", STES)
def test_the_forward_pass_is_what_the_core_decodes(format: str, ste: str) -> None:
    for seed in range(3):
        w = weights_of(seed=seed)
        q = WeightQuantizer(w, QatConfig.preset(format, ste=ste, seed=seed))
        train(q, w, 3, seed)
        assert np.array_equal(q(w).detach().numpy(), decoded(q, tuple(w.shape)))


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_trained_is_what_the_encoder_of_files_would_write(format: str) -> None:
    """decode(encode(w)), encode being `ruvq.quantize`, where every assignment searches."""
    for seed in range(8):
        w = weights_of(seed=seed)
        q = WeightQuantizer(w, QatConfig.preset(format, search_every=1, seed=seed))
        train(q, w, 2, seed)
        q(w)
        x = w.detach().numpy()
        x = np.asarray(turn_rows(x, q.turn)) if q.turn is not None else x
        assert q.data() == ruvq.quantize(x, format).data


@pytest.mark.parametrize("format", TRELLIS)
@pytest.mark.parametrize("k", [{}, {"k": 3}, {"k_per_layer": True}])
def test_devices_without_the_core_train_the_same_codes(
    format: str, k: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QatConfig.preset(format, search_every=1, **k)
    results = []
    for on_host in (True, False):
        with monkeypatch.context() as patch:
            if not on_host:
                patch.setattr(codecs, "on_host", lambda weights: False)
                patch.setattr(
                    quantizer, "transform", lambda x, turn, inverse: transform_in_torch(x, turn.seed, inverse)
                )
            w = weights_of(5, 300)
            q = WeightQuantizer(w, config)
            train(q, w, 2)
            results.append((q(w).detach(), q.data()))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("format", FORMATS)
def test_inv_2_alpha_stays_positive_whatever_it_learns(format: str) -> None:
    w = weights_of()
    q = WeightQuantizer(w, QatConfig.preset(format, ste="lsq"))
    assert q.log_alpha is not None
    with torch.no_grad():
        q.log_alpha -= 40 * torch.rand(q.log_alpha.shape)
    q(w)
    assert bool((q.alpha > 0).all())


@pytest.mark.parametrize(("format", "k"), [("pi-q3", 4), ("pi-q2", 3), ("pi-q3", 2), ("pi-ternary", 5)])
def test_inv_3_the_step_is_alpha_pi_over_k(format: str, k: int) -> None:
    w = weights_of()
    q = WeightQuantizer(w, QatConfig.preset(format, k=k, ste="lsq"))
    train(q, w, 2)
    q(w)
    step = q.codec.steps(q.headers, q.alpha).abs()
    torch.testing.assert_close(step, q.alpha * math.pi / k, rtol=1e-6, atol=0)


@pytest.mark.parametrize("format", TRELLIS)
@pytest.mark.parametrize("ste", ["standard", "lsq"])
def test_one_k_for_each_matrix_is_the_best_one(format: str, ste: str) -> None:
    w = weights_of(20, 300)
    q = WeightQuantizer(w, QatConfig.preset(format, k_per_layer=True, ste=ste))
    x = np.asarray(turn_rows(w.detach().numpy(), q.turn))
    files = {k: ruvq.quantize(x, format, k=k) for k in (2, 3, 4, 5)}
    errors = {k: np.square(ruvq.dequantize(f, as_numpy=True) - x).sum() for k, f in files.items()}
    best = min(errors, key=errors.__getitem__)
    assert q.data() == files[best].data
    train(q, w, 1)
    q(w)
    assert bool((q.codec._ks(q.headers)[:, 0] == best - 2).all())  # between two searches it stays


def test_the_k_of_a_matrix_follows_its_weights_and_a_checkpoint() -> None:
    config = QatConfig.pit2(k_per_layer=True, search_every=2)
    w, seen = weights_of(20, 256), set()
    q = WeightQuantizer(w, config)
    for seed in range(12):
        with torch.no_grad():
            w.copy_(weights_of(20, 256, seed) * 2 ** (seed / 12))  # another place between two alphas
        q(w)
        seen.add(q.codec.asked_k)
    assert len(seen) > 1
    other = WeightQuantizer(weights_of(20, 256), config)
    other.load_state_dict(q.state_dict())
    assert other.codec is q.codec


@pytest.mark.parametrize("values", [{"format": "pi-q3"}, {"format": "ternary"}, {"format": "pi-t2", "k": 3}])
def test_k_per_layer_needs_a_format_in_which_it_is_something(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        QatConfig(k_per_layer=True, **values)
    assert caught.value.subject == "k_per_layer"


@pytest.mark.parametrize("format", ["pi-q3", "pi-q2", "pi-ternary"])
def test_in_a_grid_k_and_alpha_are_one_number(format: str) -> None:
    """The gradient of log k would be minus that of log alpha, and any k gives the same bytes."""
    w, data = weights_of(), set()
    for k in (2, 3, 4, 5):
        q = WeightQuantizer(w, QatConfig.preset(format, k=k))
        data.add(q.data())
    assert len(data) == 1
    log_alpha, log_k = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    (torch.exp(log_alpha) * math.pi / torch.exp(log_k)).square().sum().backward()
    assert torch.equal(log_alpha.grad, -log_k.grad)


def test_a_block_of_zeros_stays_zero_and_learns_nothing() -> None:
    w = torch.nn.Parameter(torch.zeros(2, 64))
    q = WeightQuantizer(w, QatConfig.pit2(ste="lsq"))
    assert torch.equal(q(w).detach(), torch.zeros(2, 64))


def test_codes_are_kept_between_assignments_while_scales_learn() -> None:
    w = weights_of()
    q = WeightQuantizer(w, QatConfig.pit2(ste="lsq", refresh_every=3))
    seen = []
    for step in range(4):
        train(q, w, 1, seed=step, rate=0.3)
        seen.append(q.codes.clone())
        assert np.array_equal(q.value.numpy(), decoded(q, tuple(w.shape)))
    kept = [torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert kept.count(False) in (1, 2)
    assert kept.count(True) >= 1


@pytest.mark.parametrize("format", ["uniform", "stretched"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "block"])
def test_reference_grids_have_as_many_values_as_their_bits_allow(format: str, granularity: str) -> None:
    w = weights_of(6, 300)
    for bits in (2, 3, 4, 8):
        q = ReferenceQuantizer(w, QatConfig(format=format, bits=bits, granularity=granularity))
        block = q(w).detach()[0, :256]
        assert len(block.unique()) <= 2**bits
    fine, coarse = (ReferenceQuantizer(w, QatConfig(format=format, bits=b))(w) for b in (6, 3))
    assert (fine - w).square().mean() < (coarse - w).square().mean() / 4


def test_the_stretched_grid_is_paretoqs() -> None:
    """alpha (round(clip(w / alpha) k / 2 - 1/2) + 1/2) 2 / k, with alpha = step 2^bits / 2."""
    w = weights_of(3, 64)
    q = ReferenceQuantizer(w, QatConfig(format="stretched", bits=2))
    alpha = q.log_alpha.exp() * 2
    expected = alpha * ((((w / alpha).clamp(-1 + 1e-6, 1 - 1e-6) * 2 - 0.5).round() + 0.5) / 2)
    torch.testing.assert_close(q(w), expected)


@pytest.mark.parametrize("ste", STES)
def test_reference_grids_train(ste: str) -> None:
    w, target = weights_of(4, 64), weights_of(4, 64, seed=1).detach()
    q = ReferenceQuantizer(w, QatConfig(bits=4, ste=ste))
    first = float((q(w) - target).detach().square().mean())
    for _ in range(60):
        (q(w) - target).square().sum().backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad = q.log_alpha.grad = None
    assert float((q(w) - target).detach().square().mean()) < first / 10


def test_activations_are_rounded_per_token_and_block_as_the_engine_does() -> None:
    x = weights_of(3, 300).detach()
    rounded = quantize_activations(x)
    for part, whole in zip(rounded.split(256, -1), x.split(256, -1), strict=True):
        scale = whole.abs().amax(-1, keepdim=True) / 127
        assert float(((part - whole).abs() / scale).max()) <= 0.5 + 1e-4
