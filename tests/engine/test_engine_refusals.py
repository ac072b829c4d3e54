"""Models that must be refused, each with a typed error that says what was expected and found; and
beside each class a model that must not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf
from engine import tiny
from ruvq import Model, core
from ruvq.core import CONSTANTS, structs
from ruvq.errors import ContextFullError, DataError, MemoryLimitError, ModelError, RuvqError, UsageError
from ruvq.gguf import GGUFFile
from ruvq.runtime.engine import Engine

Changes = dict[str, tuple[Any, str] | None]
NAN, INF = float("nan"), float("inf")

# attack: (metadata to change, the code, the key named)
HYPER: dict[str, tuple[Changes, str, str]] = {
    "no_blocks": ({"llama.block_count": (0, "u32")}, "RQ_E_HYPERPARAMETER", "block_count"),
    "513_blocks": ({"llama.block_count": (513, "u32")}, "RQ_E_HYPERPARAMETER", "block_count"),
    "negative_blocks": ({"llama.block_count": (-1, "i32")}, "RQ_E_VALUE", "block_count"),
    "blocks_as_text": ({"llama.block_count": ("3", "str")}, "RQ_E_VALUE", "block_count"),
    "blocks_missing": ({"llama.block_count": None}, "RQ_E_HYPERPARAMETER", "block_count"),
    "more_blocks_than_tensors": ({"llama.block_count": (4, "u32")}, "RQ_E_TENSOR", "blk.3."),
    "fewer_blocks_than_tensors": ({"llama.block_count": (2, "u32")}, "RQ_E_TENSOR", "blk.2."),
    "no_heads": ({"llama.attention.head_count": (0, "u32")}, "RQ_E_HYPERPARAMETER", "head_count"),
    "no_kv_heads": ({"llama.attention.head_count_kv": (0, "u32")}, "RQ_E_HYPERPARAMETER", "head_count_kv"),
    "kv_heads_do_not_divide": (
        {"llama.attention.head_count_kv": (4, "u32")},
        "RQ_E_HYPERPARAMETER",
        "head_count_kv",
    ),
    "heads_do_not_divide_width": (
        {"llama.attention.head_count": (7, "u32"), "llama.attention.head_count_kv": (7, "u32")},
        "RQ_E_HYPERPARAMETER",
        "head_count",
    ),
    "kv_heads_per_layer": (
        {"llama.attention.head_count_kv": ([2, 2, 1], "arr")},
        "RQ_E_VALUE",
        "head_count_kv",
    ),
    "experts_none": ({"llama.expert_count": (0, "u32")}, "RQ_E_HYPERPARAMETER", "expert_count"),
    "experts_top_k_above": (
        {"llama.expert_count": (2, "u32"), "llama.expert_used_count": (3, "u32")},
        "RQ_E_HYPERPARAMETER",
        "expert_count",
    ),
    "rope_wider_than_head": (
        {"llama.rope.dimension_count": (12, "u32")},
        "RQ_E_HYPERPARAMETER",
        "dimension_count",
    ),
    "rope_odd": ({"llama.rope.dimension_count": (9, "u32")}, "RQ_E_HYPERPARAMETER", "dimension_count"),
    "rope_none": ({"llama.rope.dimension_count": (0, "u32")}, "RQ_E_HYPERPARAMETER", "dimension_count"),
    "rope_base_zero": ({"llama.rope.freq_base": (0.0, "f32")}, "RQ_E_HYPERPARAMETER", "freq_base"),
    "rope_base_nan": ({"llama.rope.freq_base": (NAN, "f32")}, "RQ_E_VALUE", "freq_base"),
    "rope_base_infinite": ({"llama.rope.freq_base": (INF, "f32")}, "RQ_E_VALUE", "freq_base"),
    "rope_scaling_unknown": (
        {"llama.rope.scaling.type": ("yarn", "str")},
        "RQ_E_HYPERPARAMETER",
        "scaling.type",
    ),
    "rope_scaling_without_factor": (
        {"llama.rope.scaling.type": ("linear", "str")},
        "RQ_E_HYPERPARAMETER",
        "scaling.factor",
    ),
    "rope_scaling_negative": (
        {"llama.rope.scaling.type": ("linear", "str"), "llama.rope.scaling.factor": (-2.0, "f32")},
        "RQ_E_HYPERPARAMETER",
        "scaling.factor",
    ),
    "context_2_31": ({"llama.context_length": (2**31, "u32")}, "RQ_E_HYPERPARAMETER", "context_length"),
    "context_0": ({"llama.context_length": (0, "u32")}, "RQ_E_HYPERPARAMETER", "context_length"),
    "context_missing": ({"llama.context_length": None}, "RQ_E_HYPERPARAMETER", "context_length"),
    "width_0": ({"llama.embedding_length": (0, "u32")}, "RQ_E_HYPERPARAMETER", "embedding_length"),
    "width_2_32": ({"llama.embedding_length": (2**32 - 1, "u32")}, "RQ_E_HYPERPARAMETER", "embedding_length"),
    "width_2_40": ({"llama.embedding_length": (2**40, "u64")}, "RQ_E_VALUE", "embedding_length"),
    "width_of_another": ({"llama.embedding_length": (66, "u32")}, "RQ_E_TENSOR", "token_embd"),
    "ff_0": ({"llama.feed_forward_length": (0, "u32")}, "RQ_E_HYPERPARAMETER", "feed_forward_length"),
    "ff_of_another": ({"llama.feed_forward_length": (171, "u32")}, "RQ_E_TENSOR", "ffn_"),
    "key_length_0": ({"llama.attention.key_length": (0, "u32")}, "RQ_E_HYPERPARAMETER", "key_length"),
    "key_length_huge": ({"llama.attention.key_length": (2**20, "u32")}, "RQ_E_HYPERPARAMETER", "key_length"),
    "key_length_of_another": ({"llama.attention.key_length": (20, "u32")}, "RQ_E_TENSOR", "attn_q"),
    "epsilon_missing": (
        {"llama.attention.layer_norm_rms_epsilon": None},
        "RQ_E_HYPERPARAMETER",
        "layer_norm_rms_epsilon",
    ),
    "epsilon_negative": (
        {"llama.attention.layer_norm_rms_epsilon": (-1e-5, "f32")},
        "RQ_E_HYPERPARAMETER",
        "layer_norm_rms_epsilon",
    ),
    "vocab_of_another": ({"llama.vocab_size": (130, "u32")}, "RQ_E_HYPERPARAMETER", "vocab_size"),
    "tokens_of_another": (
        {"tokenizer.ggml.tokens": (["a", "b"], "arr")},
        "RQ_E_HYPERPARAMETER",
        "vocab_size",
    ),
    "hadamard_generator_unknown": (
        {
            "ruvq.hadamard.tensors": (["blk.0.attn_q.weight"], "arr"),
            "ruvq.hadamard.seed": (1, "u64"),
            "ruvq.hadamard.generator": ("pcg64", "str"),
            "ruvq.hadamard.cut": ("greedy-256", "str"),
        },
        "RQ_E_LAYOUT",
        "ruvq.hadamard.generator",
    ),
    "hadamard_cut_unknown": (
        {
            "ruvq.hadamard.tensors": (["blk.0.attn_q.weight"], "arr"),
            "ruvq.hadamard.seed": (1, "u64"),
            "ruvq.hadamard.generator": ("splitmix64", "str"),
            "ruvq.hadamard.cut": ("greedy-512", "str"),
        },
        "RQ_E_LAYOUT",
        "ruvq.hadamard.cut",
    ),
    "hadamard_seed_missing": (
        {"ruvq.hadamard.tensors": (["blk.0.attn_q.weight"], "arr")},
        "",
        "ruvq.hadamard.seed",
    ),
}
HADAMARD: Changes = {
    "ruvq.hadamard.seed": (1, "u64"),
    "ruvq.hadamard.generator": ("splitmix64", "str"),
    "ruvq.hadamard.cut": ("greedy-256", "str"),
}
HADAMARD_NAMES = {
    "unknown": ["blk.9.attn_q.weight"],
    "twice": ["blk.0.attn_q.weight", "blk.0.attn_q.weight"],
    "no_matrix": ["output_norm.weight"],
    "too_many": ["blk.0.attn_q.weight"] * 30,
}


def refuse(path: Path, **options: Any) -> RuvqError:
    with pytest.raises(RuvqError) as caught:
        Model.open(path, **options)
    error = caught.value
    assert error.expected
    assert error.actual
    assert error.subject
    return error


@pytest.mark.parametrize("attack", HYPER)
def test_bad_hyper_parameters_are_refused(attack: str, tmp_path: Path) -> None:
    changes, code, subject = HYPER[attack]
    error = refuse(tiny.write(tmp_path / "m.gguf", tiny.random_llama(), changes=changes))
    assert code in error.code
    assert subject in error.subject


ALLOWED: dict[str, Changes] = {
    "kv_heads_left_out_means_as_many_as_heads": {"llama.attention.head_count_kv": None},
    "rope_keys_left_out": {"llama.rope.freq_base": None, "llama.rope.dimension_count": None},
    "vocab_size_left_out": {"llama.vocab_size": None},
    "rope_scaling_none": {"llama.rope.scaling.type": ("none", "str")},
    "other_integer_types": {"llama.block_count": (3, "u64"), "llama.context_length": (96, "i32")},
    "unknown_keys": {"llama.something.new": (1, "u32"), "general.name": ("x", "str")},
    "long_context": {"llama.context_length": (2**20, "u32")},
    "empty_hadamard_list": {},
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_unusual_but_valid_is_not_refused(name: str, tmp_path: Path) -> None:
    model = tiny.random_llama(kv_heads=6 if "kv_heads" in name else 2)
    with Model.open(tiny.write(tmp_path / "m.gguf", model, changes=ALLOWED[name])) as opened:
        assert len(opened.score([1, 2, 3])) == 2


@pytest.mark.parametrize("names", HADAMARD_NAMES)
def test_transforms_of_unknown_tensors_are_refused(names: str, tmp_path: Path) -> None:
    changes = HADAMARD | {"ruvq.hadamard.tensors": (HADAMARD_NAMES[names], "arr")}
    error = refuse(tiny.write(tmp_path / "m.gguf", tiny.random_llama(), changes=changes))
    assert (error.code, error.subject[-21:]) == ("RQ_E_LAYOUT", "ruvq.hadamard.tensors")


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.random_llama(), architecture="mamba")
    error = refuse(path)
    assert error.code == "RQ_E_ARCHITECTURE"
    assert error.expected == "one of: llama qwen2 qwen3"
    assert error.actual == "mamba"
    for name in ("qwen", "qwen2moe", "qwen33", "llam"):
        path = tiny.write(tmp_path / f"{name}.gguf", tiny.random_llama(), architecture=name)
        assert (refuse(path).code, error.expected) == ("RQ_E_ARCHITECTURE", "one of: llama qwen2 qwen3")


def qwen(kind: str) -> tiny.Llama:
    return tiny.random_llama(architecture=kind, neox=True, biases=kind == "qwen2", head_norms=kind == "qwen3")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("qwen2", "blk.1.attn_q.bias"),
        ("qwen2", "blk.0.attn_k.bias"),
        ("qwen2", "blk.2.attn_v.bias"),
        ("qwen3", "blk.1.attn_q_norm.weight"),
        ("qwen3", "blk.2.attn_k_norm.weight"),
    ],
)
def test_what_an_architecture_always_has_must_be_there(kind: str, name: str, tmp_path: Path) -> None:
    model = qwen(kind)
    shape = model.tensors.pop(name).shape
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert (error.code, error.subject.endswith(name)) == ("RQ_E_TENSOR", True)
    model.tensors[name] = np.ones(shape[0] + 2, np.float32)
    error = refuse(tiny.write(tmp_path / "n.gguf", model))
    assert (error.code, error.subject.endswith(name)) == ("RQ_E_TENSOR", True)
    model.tensors[name] = np.full(shape, NAN, np.float32)
    assert isinstance(refuse(tiny.write(tmp_path / "o.gguf", model)), DataError)


def test_norms_of_heads_in_an_architecture_without_them_are_refused(tmp_path: Path) -> None:
    model = qwen("qwen2")
    model.tensors["blk.0.attn_k_norm.weight"] = np.ones(10, np.float32)
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert (error.code, error.expected) == ("RQ_E_TENSOR", "only tensors of the architecture qwen2")


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_keys_are_read_under_the_architectures_own_prefix(kind: str, tmp_path: Path) -> None:
    changes: Changes = {f"{kind}.block_count": None, "llama.block_count": (3, "u32")}
    error = refuse(tiny.write(tmp_path / "m.gguf", qwen(kind), changes=changes))
    assert (error.code, f"{kind}.block_count" in error.subject) == ("RQ_E_HYPERPARAMETER", True)
    scaling: Changes = {f"{kind}.rope.scaling.type": ("yarn", "str")}
    error = refuse(tiny.write(tmp_path / "n.gguf", qwen(kind), changes=scaling))
    assert (error.actual, error.expected) == ("yarn", "none or linear")


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "output_norm.weight", "token_embd.weight"])
def test_a_missing_tensor_is_named(name: str, tmp_path: Path) -> None:
    model = tiny.random_llama()
    del model.tensors[name]
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert isinstance(error, ModelError)
    assert name in error.subject


def test_a_tensor_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["blk.0.attn_q_norm.weight"] = np.ones(10, np.float32)
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert error.code == "RQ_E_TENSOR"
    assert "attn_q_norm" in error.subject


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["blk.2.attn_k.weight"] = model.tensors["blk.2.attn_k.weight"].T.copy()
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert (error.code, error.expected) == ("RQ_E_TENSOR", "20 rows of 60")
    assert "60 rows of 20" in error.actual


def test_types_that_are_not_computed_with_are_refused_by_name(tmp_path: Path) -> None:
    model = tiny.random_llama(width=96, ff=256)
    whole = model.tensors["blk.0.ffn_down.weight"]
    model.tensors["blk.0.ffn_down.weight"] = whole.astype(np.float64)
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert (error.code, error.actual) == ("RQ_E_TYPE", "ggml type 28")
    assert "ruvq's own" in error.expected
    model.tensors["blk.0.ffn_down.weight"] = whole
    kinds = {"blk.0.attn_norm.weight": gguf.GGMLQuantizationType.Q8_0}
    error = refuse(tiny.write(tmp_path / "n.gguf", model, dtypes=kinds))
    assert (error.code, error.actual) == ("RQ_E_TYPE", "q8_0")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["blk.1.attn_norm.weight", "output_norm.weight", "rope_freqs.weight"])
def test_nonfinite_vectors_are_refused_at_open(name: str, value: float, tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["rope_freqs.weight"] = np.ones(model.rope_width // 2, np.float32)
    model.tensors[name][-1] = value
    error = refuse(tiny.write(tmp_path / "m.gguf", model))
    assert isinstance(error, DataError)
    assert name in error.subject


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("token_embd.weight", "layer 0"),
        ("blk.0.attn_q.weight", "layer 0"),
        ("blk.1.attn_v.weight", "layer 1"),
        ("blk.1.ffn_gate.weight", "layer 1"),
        ("blk.2.ffn_down.weight", "layer 2"),
        ("output.weight", "logits"),
    ],
)
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("kv", ["f16", "f32"])
def test_nonfinite_weights_stop_the_step_and_name_the_layer(
    name: str, place: str, value: float, kv: str, tmp_path: Path
) -> None:
    model = tiny.random_llama(tied=False)
    model.tensors[name][1, 1] = value
    with Model.open(tiny.write(tmp_path / "m.gguf", model), kv=kv, hashes=True) as opened:
        with pytest.raises(DataError) as caught:
            opened.score([1, 1, 1])
        assert caught.value.code == "RQ_E_NONFINITE"
        assert place in caught.value.subject
        assert caught.value.hint
        assert opened._engine is not None
        assert opened._engine.position == 0
        assert opened.hashes() == [0] * 5


def test_keys_too_large_for_f16_are_an_error_there_and_fine_in_f32(tmp_path: Path) -> None:
    model = tiny.random_llama()
    model.tensors["blk.1.attn_v.weight"] *= np.float32(1e5)
    path = tiny.write(tmp_path / "m.gguf", model)
    with Model.open(path) as opened, pytest.raises(DataError, match="65504"):
        opened.score([1, 2, 3])
    with Model.open(path, kv="f32") as opened:
        assert len(opened.score([1, 2, 3])) == 2


@pytest.mark.parametrize(
    "options", [{"context": 97}, {"context": 0}, {"context": -1}, {"batch": 513}, {"batch": -3}, {"kv": "q8"}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.random_llama())
    assert isinstance(refuse(path, **options), UsageError)


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    changes: Changes = {"llama.attention.sliding_window": (32, "u32")}
    path = tiny.write(tmp_path / "m.gguf", tiny.random_llama(), changes=changes)
    with Model.open(path) as opened:
        assert (opened.info.context_tokens, opened.info.context_trained) == (32, 96)
    refuse(path, context=33)


def test_too_little_memory_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.random_llama())
    backend = core.get()
    with GGUFFile.open(path) as file, Engine(file) as engine, backend.alloc(16) as options:
        needed = engine.info.memory_bytes
        flags = CONSTANTS["RQ_MODEL_ALL_LOGITS"]
        backend.write(options.address, structs.pack("rq_model_options", flags=flags))
        with backend.alloc(needed) as memory:
            where = (file.index_address, file.data_address, options.address, memory.address)
            backend.call("rq_model_open", *where, memory.address + needed)
            for given in (needed - 1, 4096, 0):
                with pytest.raises(MemoryLimitError) as caught:
                    backend.call("rq_model_open", *where, memory.address + given)
                assert str(needed) in caught.value.expected
                assert str(given) in caught.value.actual


def test_tokens_are_checked(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.random_llama())
    with GGUFFile.open(path) as file, Engine(file) as engine:
        for bad in (-1, 131, 2**31 - 1):
            with pytest.raises(UsageError) as caught:
                engine.feed([1, bad])
            assert "130" in caught.value.expected
        engine.feed([1] * 96)
        with pytest.raises(ContextFullError) as full:
            engine.feed([1])
        assert "at most 0" in full.value.expected
        with pytest.raises(UsageError):
            engine.truncate(97)
        with pytest.raises(ContextFullError):
            engine.feed([1] * 97)


def test_memory_that_holds_no_model_is_refused() -> None:
    backend = core.get()
    with backend.alloc(4096) as memory, backend.alloc(256) as out:
        for name, arguments in {
            "rq_model_feed": (out.address, 1),
            "rq_model_step": (),
            "rq_model_truncate": (0,),
            "rq_model_keep_logits": (1,),
            "rq_model_describe": (out.address,),
        }.items():
            with pytest.raises(UsageError):
                backend.call(name, memory.address, *arguments)


def test_a_rotation_of_too_wide_a_matrix_is_refused(tmp_path: Path) -> None:
    model = tiny.random_llama(ff=260)
    names = ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"]
    changes = HADAMARD | {"ruvq.hadamard.cut": ("orthogonal-256", "str")}
    narrow = changes | {"ruvq.hadamard.tensors": (names[:1], "arr")}
    with Model.open(tiny.write(tmp_path / "n.gguf", model, changes=narrow)) as opened:
        assert opened.info.hadamard_tensors == 1
    wide = changes | {"ruvq.hadamard.tensors": (names, "arr")}
    error = refuse(tiny.write(tmp_path / "m.gguf", model, changes=wide))
    assert (error.code, error.actual) == ("RQ_E_LAYOUT", names[1])
