"""Merging adapters: PEFT's methods give PEFT's numbers; slerp keeps to its arc."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvq.adapters import METHODS, Lora, Pair, merge, read_adapter, write_adapter
from ruvq.errors import UsageError

MODULES = {"model.layers.0.self_attn.q_proj": (24, 20), "model.layers.0.mlp.up_proj": (40, 20)}
WEIGHTS = [0.7, -0.4, 0.9]


def random_lora(seed: int, rank: int = 3, alpha: float = 6.0) -> Lora:
    rng = np.random.default_rng(seed)
    pairs = {}
    for name, (out, width) in MODULES.items():
        a, b = rng.standard_normal((rank, width)), rng.standard_normal((out, rank))
        pairs[name] = Pair(a.astype(np.float32), b.astype(np.float32), alpha / rank)
    return Lora(pairs)


@pytest.fixture(scope="module")
def peft_merge(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """peft_merge(loras, weights, method, **options): the products that PEFT's merged adapter adds."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 20, "intermediate_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=11, num_hidden_layers=1, head_dim=12, **sizes)

    def run(loras: list[Lora], weights: list[float], method: str, **options: Any) -> dict[str, np.ndarray]:
        folders = []
        for lora in loras:
            folders.append(tmp_path_factory.mktemp("adapter"))
            write_adapter(folders[-1], lora)
        model = peft.PeftModel.from_pretrained(LlamaForCausalLM(config), str(folders[0]), adapter_name="0")
        for number, folder in enumerate(folders[1:], 1):
            model.load_adapter(str(folder), adapter_name=str(number))
        names = [str(number) for number in range(len(loras))]
        model.add_weighted_adapter(names, weights, "merged", combination_type=method, **options)
        with torch.no_grad():
            layers = {name: model.get_submodule(f"base_model.model.{name}") for name in MODULES}
            return {name: layer.get_delta_weight("merged").numpy() for name, layer in layers.items()}

    return run


def assert_same(merged: Lora, expected: dict[str, np.ndarray]) -> None:
    assert merged.pairs.keys() == expected.keys()
    for name, delta in expected.items():
        np.testing.assert_allclose(
            merged.pairs[name].delta(), delta, atol=2e-5 * max(1.0, np.abs(delta).max())
        )


@pytest.mark.parametrize("ranks", [(3, 3, 3), (2, 3, 5)])
@pytest.mark.parametrize("method", ["cat", "svd"])
def test_exact_sums_are_those_of_peft(method: str, ranks: tuple[int, ...], peft_merge: Any) -> None:
    loras = [random_lora(seed, rank) for seed, rank in enumerate(ranks)]
    assert_same(merge(loras, method, WEIGHTS), peft_merge(loras, WEIGHTS, method))
    if method == "svd":
        assert_same(merge(loras, method, WEIGHTS, rank=2), peft_merge(loras, WEIGHTS, method, svd_rank=2))


@pytest.mark.parametrize("majority", ["total", "frequency"])
@pytest.mark.parametrize("density", [0.3, 0.55])
@pytest.mark.parametrize("method", ["linear", "ties", "magnitude_prune", "ties_svd", "magnitude_prune_svd"])
def test_pruning_and_signs_are_those_of_peft(
    method: str, density: float, majority: str, peft_merge: Any
) -> None:
    loras = [random_lora(seed, alpha=4.0 + seed) for seed in range(3)]
    expected = peft_merge(loras, WEIGHTS, method, density=density, majority_sign_method=majority)
    assert_same(merge(loras, method, WEIGHTS, density=density, majority=majority), expected)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
def test_dare_is_that_of_peft_with_the_same_mask(
    method: str, peft_merge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask that both compute from the values alone takes the place of chance."""
    import torch
    from peft.utils import merge_utils

    def theirs(tensor: Any, density: float, rescale: bool) -> Any:
        assert rescale
        return torch.where(torch.sin(1000 * tensor) < 2 * density - 1, tensor, torch.zeros(())) / density

    def ours(matrix: np.ndarray, how: Any) -> np.ndarray:
        kept = np.sin(1000 * matrix) < 2 * how.density - 1
        return np.where(kept, matrix, np.float32(0)) / np.float32(how.density)

    if method.endswith("_svd"):  # products differ in their last bits: a mask that isn't sensitive to them
        pattern = (np.arange(10000) % 3 > 0).astype(np.float32)
        ours = lambda m, how: m * pattern[: m.size].reshape(m.shape) / np.float32(how.density)  # noqa: E731
        theirs = lambda t, density, rescale: t * torch.from_numpy(pattern[: t.numel()]).view_as(t) / density  # noqa: E731
    monkeypatch.setattr(merge_utils, "random_pruning", theirs)
    monkeypatch.setattr("ruvq.adapters.merging._random_part", ours)
    loras = [random_lora(seed) for seed in range(3)]
    assert_same(merge(loras, method, WEIGHTS, density=0.6), peft_merge(loras, WEIGHTS, method, density=0.6))


def test_dare_keeps_the_mean_and_its_share() -> None:
    from ruvq.adapters.merging import _How, _random_part

    how = _How("dare_linear", 0.3, None, "total", np.random.default_rng(1))
    kept = _random_part(np.ones((300, 300), np.float32), how)
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / np.float32(0.3))}
    assert abs(kept.mean() - 1) < 0.02  # 2 % is 4 standard deviations
    loras = [random_lora(seed) for seed in range(2)]
    one, same, other = (merge(loras, "dare_ties", density=0.5, seed=seed) for seed in (1, 1, 2))
    for name in MODULES:
        assert np.array_equal(one.pairs[name].a, same.pairs[name].a)
        assert not np.array_equal(one.pairs[name].a, other.pairs[name].a)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_slerp_is_the_arc_of_the_products(share: float) -> None:
    one, two = random_lora(1, 2), random_lora(2, 4)
    merged = merge([one, two], "slerp", [1 - share, share])
    for name in MODULES:
        first, second = (lora.pairs[name].delta().astype(np.float64) for lora in (one, two))
        cosine = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
        angle = math.acos(cosine)
        expected = (math.sin((1 - share) * angle) * first + math.sin(share * angle) * second) / math.sin(
            angle
        )
        np.testing.assert_allclose(merged.pairs[name].delta(), expected, atol=1e-4)


def test_slerp_of_one_direction_is_the_chord() -> None:
    one = random_lora(1)
    merged = merge([one, one], "slerp", [0.5, 0.5])
    for name in MODULES:
        np.testing.assert_allclose(merged.pairs[name].delta(), one.pairs[name].delta(), atol=1e-4)


def test_a_matrix_that_only_some_have_is_merged_from_those(tmp_path: Path) -> None:
    one, two = random_lora(1), random_lora(2)
    name = next(iter(MODULES))
    part = Lora({name: two.pairs[name]})
    merged = merge([one, part], "cat", [0.5, 2.0])
    other = next(n for n in MODULES if n != name)
    np.testing.assert_allclose(merged.pairs[other].delta(), 0.5 * one.pairs[other].delta(), atol=1e-5)
    assert merged.pairs[name].rank == 6
    assert merged.pairs[other].rank == 3
    write_adapter(tmp_path / "out", merged)  # ranks by pattern
    again = read_adapter(tmp_path / "out")
    for n, pair in merged.pairs.items():
        assert again.pairs[n].scale == pytest.approx(pair.scale)
        assert np.array_equal(again.pairs[n].b, pair.b)


def test_ranks_never_pass_the_matrix() -> None:
    merged = merge([random_lora(seed, 12) for seed in range(3)], "cat")
    expected = sum(random_lora(seed, 12).pairs["model.layers.0.mlp.up_proj"].delta() for seed in range(3)) / 3
    assert merged.pairs["model.layers.0.mlp.up_proj"].rank == 20
    np.testing.assert_allclose(merged.pairs["model.layers.0.mlp.up_proj"].delta(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "count", "options", "subject"),
    [
        ("fuse", 2, {}, "method"),
        ("cat", 1, {}, "cat"),
        ("slerp", 3, {}, "slerp"),
        ("slerp", 2, {"weights": [-1.0, 2.0]}, "weights"),
        ("cat", 2, {"weights": [1.0]}, "weights"),
        ("cat", 2, {"weights": [1.0, math.nan]}, "weights"),
        ("ties", 2, {"density": 0.0}, "density"),
        ("svd", 2, {"rank": 0}, "rank"),
        ("ties", 2, {"majority": "loudest"}, "majority"),
    ],
)
def test_what_can_not_be_merged_is_refused(
    method: str, count: int, options: dict[str, Any], subject: str
) -> None:
    with pytest.raises(UsageError) as caught:
        merge([random_lora(seed) for seed in range(count)], method, **options)
    assert caught.value.subject == subject


def test_ranks_and_shapes_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="one rank"):
        merge([random_lora(1, 2), random_lora(2, 3)], "ties")
    other = Lora({name: Pair(p.a[:, :-1], p.b, 1.0) for name, p in random_lora(1).pairs.items()})
    with pytest.raises(UsageError, match="different bases"):
        merge([random_lora(1), other], "cat")
    with pytest.raises(UsageError, match="of one kind"):
        merge([random_lora(1), Lora(random_lora(2).pairs, "llama")], "cat")
    assert len(METHODS) == 12
