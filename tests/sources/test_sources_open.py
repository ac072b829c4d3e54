"""Every source gives the same tensors, under GGUF's names, however the model is stored."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ruvq.sources import LlamaParameters, Source, open_source
from ruvq.sources.huggingface import parameters_from_config
from ruvq.sources.llama import llama3_frequency_factors, rotary_rows
from sources.tiny_models import (
    TINY,
    hf_config,
    hf_tensors,
    llama2c_bytes,
    random_weights,
    safetensors_bytes,
    write_huggingface,
    write_tokenizer,
)


def loaded(source: Source) -> dict[str, np.ndarray]:
    return {name: t.load() for name, t in source.tensors.items()}


def assert_same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(got) == list(wanted)
    for name, values in wanted.items():
        assert got[name].dtype == np.float32
        np.testing.assert_array_equal(got[name], values, err_msg=name)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_a_folder_gives_the_models_tensors_whatever_the_float_type(tmp_path: Path, dtype: str) -> None:
    weights = random_weights()
    with open_source(write_huggingface(tmp_path / "m", weights, dtype=dtype)) as source:
        assert source.parameters == TINY
        assert {t.dtype for t in source.tensors.values()} == {dtype.lower()}
        assert_same(loaded(source), weights)


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_equal_the_single_file(tmp_path: Path, shards: int) -> None:
    weights = random_weights()
    with open_source(write_huggingface(tmp_path / "m", weights, shards=shards)) as source:
        assert len(source.files) == shards
        assert_same(loaded(source), weights)


def test_a_file_of_the_safetensors_package_is_read_alike(tmp_path: Path) -> None:
    weights = random_weights()
    folder = write_huggingface(tmp_path / "m", weights)
    safetensors.numpy.save_file(hf_tensors(weights), folder / "model.safetensors", metadata={"format": "pt"})
    with open_source(folder) as source:
        assert_same(loaded(source), weights)


def test_a_single_safetensors_file_takes_its_config_from_beside_or_from_the_flag(tmp_path: Path) -> None:
    weights = random_weights()
    folder = write_huggingface(tmp_path / "m", weights)
    with open_source(folder / "model.safetensors") as source:
        assert_same(loaded(source), weights)
    other = tmp_path / "elsewhere.safetensors"
    other.write_bytes(safetensors_bytes(hf_tensors(weights)))
    with open_source(other, folder / "tok.bin", folder / "config.json") as source:
        assert_same(loaded(source), weights)


@pytest.mark.parametrize("tied", [True, False])
def test_a_legacy_llama2c_checkpoint_gives_the_same_tensors(tmp_path: Path, tied: bool) -> None:
    parameters = dataclasses.replace(TINY, tied=tied)
    weights = random_weights(parameters)
    path = tmp_path / "model.bin"
    path.write_bytes(llama2c_bytes(weights, parameters))
    with open_source(path, write_tokenizer(tmp_path / "tok.bin")) as source:
        assert source.parameters == parameters
        assert_same(loaded(source), weights)


def test_an_untied_folder_has_an_output_tensor(tmp_path: Path) -> None:
    parameters = dataclasses.replace(TINY, tied=False)
    weights = random_weights(parameters)
    with open_source(write_huggingface(tmp_path / "m", weights, parameters)) as source:
        assert_same(loaded(source), weights)


def test_a_tied_folder_ignores_a_stored_copy_of_the_embedding(tmp_path: Path) -> None:
    weights = random_weights()
    folder = write_huggingface(tmp_path / "m", weights)
    tensors = hf_tensors(weights) | {"lm_head.weight": weights["token_embd.weight"]}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    with open_source(folder) as source:
        assert_same(loaded(source), weights)


@pytest.mark.parametrize("name", ["attn_q", "attn_k", "ffn_down"])
@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_rows_read_in_pieces_equal_the_whole(tmp_path: Path, name: str, step: int) -> None:
    weights = random_weights()
    with open_source(write_huggingface(tmp_path / "m", weights)) as source:
        tensor = source.tensors[f"blk.1.{name}.weight"]
        pieces = [values for _, values in tensor.chunks(step)]
        np.testing.assert_array_equal(np.concatenate(pieces), weights[f"blk.1.{name}.weight"])


def test_rotary_rows_pair_i_with_i_plus_half() -> None:
    order = rotary_rows(2, 6)
    assert order == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


def test_version_1_equals_version_0_and_version_2_is_its_int8(data_dir: Path) -> None:
    folder = data_dir / "stories260K"
    tokenizer = folder / "tok512.bin"
    with (
        open_source(folder / "stories260K.bin", tokenizer) as legacy,
        open_source(folder / "stories260K_v1.bin", tokenizer) as first,
        open_source(folder / "stories260K_q8_v2.bin", tokenizer) as second,
    ):
        assert legacy.weights == 260032
        for name, tensor in legacy.tensors.items():
            values = tensor.load()
            np.testing.assert_array_equal(first.tensors[name].load(), values, err_msg=name)
            if values.ndim == 2:  # groups of 8: scale absmax / 127, rounded to nearest
                groups = values.reshape(-1, 8)
                steps = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127)
                values = (np.round(groups / steps).astype(np.float32) * steps).reshape(values.shape)
            np.testing.assert_array_equal(second.tensors[name].load(), values, err_msg=name)


def test_int8_groups_that_span_rows_are_read_in_any_pieces(data_dir: Path) -> None:
    folder = data_dir / "stories260K"
    with open_source(folder / "stories260K_q8_v2.bin", folder / "tok512.bin") as source:
        tensor = source.tensors["blk.2.ffn_down.weight"]  # 172 is no multiple of 8
        whole = tensor.load()
        for step in (1, 3, 7):
            np.testing.assert_array_equal(np.concatenate([v for _, v in tensor.chunks(step)]), whole)


def test_the_config_of_a_published_model_is_understood(data_dir: Path) -> None:
    config = json.loads((data_dir / "tok_smollm2_135m" / "config.json").read_text())
    assert parameters_from_config(config) == LlamaParameters(
        vocab_size=49152,
        width=576,
        layers=30,
        heads=9,
        kv_heads=3,
        head_width=64,
        ff_width=1536,
        context=8192,
        rms_epsilon=1e-5,
        rope_base=100000.0,
        tied=True,
    )


def test_linear_rope_scaling_is_kept_as_metadata() -> None:
    config = hf_config(rope_scaling={"type": "linear", "factor": 4.0})
    metadata = {key: value for key, _, value in parameters_from_config(config).metadata()}
    assert metadata["llama.rope.scaling.type"] == "linear"
    assert metadata["llama.rope.scaling.factor"] == 4.0


def test_llama3_rope_scaling_becomes_frequency_factors(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    weights = random_weights()
    with open_source(write_huggingface(tmp_path / "m", weights, rope_scaling=scaling)) as source:
        factors = source.tensors["rope_freqs.weight"].load()
        np.testing.assert_array_equal(factors, llama3_frequency_factors(source.parameters))
    # wavelengths 6.3, 62.8, 628, 6283 against bounds 4 and 16: only the first lies between
    smooth = (16 / (2 * np.pi) - 1) / 3
    np.testing.assert_allclose(factors, [1 / ((1 - smooth) / 8 + smooth), 8, 8, 8], rtol=1e-6)


def test_a_bias_of_q_is_permuted_like_its_rows(tmp_path: Path) -> None:
    weights = random_weights()
    folder = write_huggingface(tmp_path / "m", weights, attention_bias=True)
    tensors = hf_tensors(weights)
    for layer in range(TINY.layers):
        for name, size in (("q", 32), ("k", 16), ("v", 16), ("o", 32)):
            tensors[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = np.arange(size, dtype=np.float32)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    with open_source(folder) as source:
        np.testing.assert_array_equal(source.tensors["blk.0.attn_q.bias"].load(), rotary_rows(4, 8))
        np.testing.assert_array_equal(source.tensors["blk.1.attn_k.bias"].load(), rotary_rows(2, 8))
        np.testing.assert_array_equal(source.tensors["blk.1.attn_v.bias"].load(), np.arange(16))


def test_systems_without_positioned_reads_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights()
    folder = write_huggingface(tmp_path / "m", weights)
    monkeypatch.delattr("os.preadv")
    with open_source(folder) as source, ThreadPoolExecutor(4) as pool:
        for name, values in zip(weights, pool.map(lambda t: t.load(), source.tensors.values()), strict=True):
            np.testing.assert_array_equal(values, weights[name])


def test_reading_keeps_only_the_rows_asked_for_in_memory(tmp_path: Path) -> None:
    parameters = dataclasses.replace(TINY, vocab_size=300, width=4096, heads=512)
    with open_source(write_huggingface(tmp_path / "m", random_weights(parameters), parameters)) as source:
        embedding = source.tensors["token_embd.weight"]
        tracemalloc.start()
        try:
            for _ in embedding.chunks(4):
                pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < embedding.weights  # a quarter of the tensor's bytes; four rows are 1/75


# ---- qwen2 and qwen3 ----

QWEN2 = dataclasses.replace(TINY, architecture="qwen2", rope_base=1e6, rms_epsilon=1e-6)
QWEN3 = dataclasses.replace(QWEN2, architecture="qwen3", head_width=12)


@pytest.mark.parametrize("parameters", [QWEN2, QWEN3], ids=["qwen2", "qwen3"])
def test_a_qwen_folder_gives_its_tensors_in_their_own_order(
    tmp_path: Path, parameters: LlamaParameters
) -> None:
    """No row is moved, biases and norms of heads are there, and rows read in pieces equal the whole."""
    weights = random_weights(parameters)
    own = {"qwen2": "attn_k.bias", "qwen3": "attn_k_norm.weight"}[parameters.architecture]
    assert f"blk.1.{own}" in weights
    folder = write_huggingface(tmp_path / "m", weights, parameters)
    with open_source(folder) as source:
        assert (source.parameters, source.architecture) == (parameters, parameters.architecture)
        assert_same(loaded(source), weights)
        pieces = [values for _, values in source.tensors["blk.0.attn_q.weight"].chunks(5)]
        np.testing.assert_array_equal(np.concatenate(pieces), weights["blk.0.attn_q.weight"])


def test_qwen3_may_have_biases_and_qwen2_has_none_behind_attention() -> None:
    biased = parameters_from_config(hf_config(QWEN3, attention_bias=True)).shapes()
    assert biased["blk.0.attn_output.bias"] == (32,)
    assert "blk.0.attn_output.bias" not in QWEN2.shapes()
    assert "blk.0.attn_q.bias" not in QWEN3.shapes()


def test_heads_of_qwen3_are_128_wide_where_the_config_is_silent() -> None:
    assert parameters_from_config(hf_config(QWEN3, head_dim=None)).head_width == 128
    assert parameters_from_config(hf_config(QWEN2, head_dim=None)).head_width == 8


@pytest.mark.parametrize(
    ("settings", "context"),
    [
        ({"sliding_window": 16}, 64),  # the switch is off by default
        ({"sliding_window": 16, "use_sliding_window": False, "max_window_layers": 0}, 64),
        ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}, 16),
        ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2}, 64),  # of 2 layers
        ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 0}, 16),
        ({"sliding_window": None, "use_sliding_window": True, "max_window_layers": 0}, 64),
        ({"sliding_window": 999, "use_sliding_window": True, "max_window_layers": 0}, 64),
        ({"sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"]}, 16),
        ({"sliding_window": 16, "layer_types": ["full_attention", "full_attention"]}, 64),
    ],
)
@pytest.mark.parametrize("parameters", [QWEN2, QWEN3], ids=["qwen2", "qwen3"])
def test_a_sliding_window_cuts_the_context_where_a_layer_has_one(
    settings: dict[str, object], context: int, parameters: LlamaParameters, tmp_path: Path
) -> None:
    """Within the window a layer that slides one computes what any other does."""
    folder = write_huggingface(tmp_path / "m", random_weights(parameters), parameters, **settings)
    with open_source(folder) as source:
        assert source.parameters.context == context
        assert (source.notes != []) == (context < 64)
