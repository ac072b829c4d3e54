"""The forward pass against an independent one in NumPy and float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import reference, tiny
from ruvq import Model
from ruvq.formats.transform import Transform
from ruvq.quantize.tensors import turn_rows

TOKENS = [1, 5, 77, 130, 9, 9, 42, 0, 63, 18, 101, 7, 7, 88, 120, 31, 2, 64, 90, 11]
TOLERANCE = 1e-4  # of the largest logit: float32 against float64


def run(path: Path, tokens: list[int] = TOKENS, **options: Any) -> np.ndarray:
    with Model.open(path, **({"kv": "f32"} | options)) as model:
        return np.array(model.logits(tokens))


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped_query_attention_and_odd_widths": {},
    "one_kv_head": {"kv_heads": 1},
    "multi_head_attention": {"kv_heads": 6},
    "untied_output": {"tied": False},
    "biases": {"biases": True},
    "linear_rope_scaling": {"rope_scale": 0.25},
    "other_rope_base": {"rope_base": 500000.0},
    "rope_on_part_of_a_head": {"rope_width": 6},
    "rope_pairs_half_a_head_apart": {"neox": True},
    "heads_of_another_width": {"key_width": 24, "value_width": 18, "rope_width": 24},
    "one_layer_of_width_4": {"width": 4, "heads": 1, "kv_heads": 1, "ff": 3, "layers": 1},
    "qwen2": {"architecture": "qwen2", "neox": True, "biases": True},
    "qwen3": {"architecture": "qwen3", "neox": True, "head_norms": True, "key_width": 24, "value_width": 24},
    "qwen3_with_biases": {"architecture": "qwen3", "neox": True, "head_norms": True, "biases": True},
    "wide_heads": {"width": 132, "heads": 2, "kv_heads": 1},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_numpy(name: str, tmp_path: Path) -> None:
    model = tiny.random_llama(**VARIANTS[name])
    got = run(tiny.write(tmp_path / "m.gguf", model))
    assert reference.relative_error(got, reference.logits(model, TOKENS)) < TOLERANCE


def test_rope_frequency_factors_are_honoured(tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["rope_freqs.weight"] = np.linspace(1, 8, model.rope_width // 2).astype(np.float32)
    got = run(tiny.write(tmp_path / "m.gguf", model))
    assert reference.relative_error(got, reference.logits(model, TOKENS)) < TOLERANCE
    del model.tensors["rope_freqs.weight"]
    assert reference.relative_error(got, reference.logits(model, TOKENS)) > 100 * TOLERANCE


def test_long_contexts_cross_key_blocks(tmp_path: Path) -> None:
    model = tiny.random_llama(context=300)
    tokens = np.random.default_rng(3).integers(0, model.vocab, 300).tolist()
    got = run(tiny.write(tmp_path / "m.gguf", model), tokens)
    assert reference.relative_error(got, reference.logits(model, tokens)) < TOLERANCE


def test_f16_cache_is_close_to_f32(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.random_llama())
    exact, rounded = run(path), run(path, kv="f16")
    assert 0 < reference.relative_error(rounded, exact) < 5e-3


def test_half_precision_norms_and_matrices(tmp_path: Path) -> None:
    import gguf

    model = tiny.random_llama()
    half = {}
    for name in model.tensors:
        if "norm" in name:
            half[name] = gguf.GGMLQuantizationType.BF16
        elif "ffn" in name:
            half[name] = gguf.GGMLQuantizationType.F16
    got = run(tiny.write(tmp_path / "m.gguf", model, dtypes=half))
    for name, kind in half.items():
        raw = gguf.quants.quantize(model.tensors[name], kind)
        model.tensors[name] = gguf.quants.dequantize(raw, kind).reshape(model.tensors[name].shape)
    assert reference.relative_error(got, reference.logits(model, TOKENS)) < TOLERANCE


def hadamard_keys(names: list[str], seed: int) -> dict[str, tuple[Any, str] | None]:
    return {
        "ruvq.hadamard.seed": (seed, "u64"),
        "ruvq.hadamard.generator": ("splitmix64", "str"),
        "ruvq.hadamard.cut": ("greedy-256", "str"),
        "ruvq.hadamard.tensors": (names, "arr"),
    }


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("part", ["", "attn_q", "ffn_down", "attn_output", "token_embd", "output.weight"])
def test_transformed_matrices_give_the_same_logits(part: str, tied: bool, tmp_path: Path) -> None:
    """All matrices, and one kind alone, so that one input is needed in both forms."""
    model = tiny.random_llama(tied=tied)
    names = [n for n in tiny.matrix_names(model) if part in n]
    expected = reference.logits(model, TOKENS)
    seed = 0xFEDCBA9876543210
    for name in names:
        turn = reference.hadamard_matrix(model.tensors[name].shape[1], seed)
        model.tensors[name] = (model.tensors[name] @ turn.T).astype(np.float32)
    path = tiny.write(tmp_path / "m.gguf", model, changes=hadamard_keys(names, seed))
    assert reference.relative_error(run(path), expected) < TOLERANCE
    with Model.open(path) as opened:
        assert opened.info.hadamard_tensors == len(names)


def test_rotated_matrices_give_the_same_logits(tmp_path: Path) -> None:
    """The dense rotation in every matrix: the embedding comes back from it, inputs go through."""
    model = tiny.random_llama(tied=True)
    names, seed = tiny.matrix_names(model), 0xFEDCBA9876543210
    expected = reference.logits(model, TOKENS)
    for name in names:
        rows = model.tensors[name]
        model.tensors[name] = np.asarray(turn_rows(rows, Transform(seed, "orthogonal")))
        assert np.abs(model.tensors[name] - rows).max() > 0.01
    keys = hadamard_keys(names, seed) | {"ruvq.hadamard.cut": ("orthogonal-256", "str")}
    assert (
        reference.relative_error(run(tiny.write(tmp_path / "m.gguf", model, changes=keys)), expected) < 1e-4
    )


def test_transform_is_not_ignored(tmp_path: Path) -> None:
    model = tiny.random_llama()
    keys = hadamard_keys(["blk.0.ffn_up.weight"], 7)
    got = run(tiny.write(tmp_path / "m.gguf", model, changes=keys))
    assert reference.relative_error(got, reference.logits(model, TOKENS)) > 100 * TOLERANCE


@pytest.mark.parametrize("format", ["pi-t3", "pi-q3", "ternary", "pi-t2", "pi-x3", "pi-x2"])
def test_quantized_matrices_compute_with_their_decoded_weights(format: str, tmp_path: Path) -> None:
    """Only the int8 activations are between the engine and NumPy on decoded weights."""
    from ruvq import core
    from ruvq.core import CONSTANTS

    model = tiny.random_llama()
    encoded = tiny.encode_all(model, format)
    got = run(tiny.write(tmp_path / "m.gguf", model, encoded=encoded))
    backend = core.get()
    for name, (_, data) in encoded.items():
        rows, width = model.tensors[name].shape
        with backend.place(np.ascontiguousarray(data)) as raw, backend.alloc(4 * rows * width) as out:
            number = CONSTANTS["RQ_FORMAT_" + format.upper().replace("-", "_")]
            backend.call("rq_decode", number, raw.address, rows, width, out.address, CONSTANTS["RQ_SCALAR"])
            values = np.frombuffer(backend.read(out.address, out.nbytes), "<f4")
        model.tensors[name] = values.reshape(rows, width)
    assert reference.relative_error(got, reference.logits(model, TOKENS)) < 0.08
