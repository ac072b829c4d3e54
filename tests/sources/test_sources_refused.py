"""Damaged, hostile and foreign sources: a typed error with what was expected and found (attacks, 21)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacks.build_gguf import BOOL, U32, kv, llama
from attacks.sources import ACCEPTED, HOSTILE, entry, packed
from ruvq.errors import (
    DataError,
    FileFormatError,
    ModelError,
    RuvqError,
    StorageError,
    TokenizerError,
    UsageError,
)
from ruvq.sources import open_source
from ruvq.sources.safetensors_file import SafetensorsFile
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


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_safetensors_header_is_refused(tmp_path: Path, case: str) -> None:
    content, message = HOSTILE[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="(?s)" + message) as caught:
        SafetensorsFile(path)
    assert str(path) in caught.value.subject
    assert caught.value.expected
    assert caught.value.actual
    with pytest.raises(FileFormatError):
        open_source(path)


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = packed({"a": entry(0, 8), "b": entry(8, 16, [2, 1])}, bytes(16))
    path = tmp_path / "x.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            SafetensorsFile(path)
    path.write_bytes(whole)
    SafetensorsFile(path).close()


@pytest.mark.parametrize("case", ACCEPTED)
def test_unusual_but_valid_headers_are_not_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(ACCEPTED[case])
    SafetensorsFile(path).close()


# ---- folders ----


def change_config(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(hf_config(**changes)))

    return apply


def without_key(key: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = hf_config()
        del config[key]
        (folder / "config.json").write_text(json.dumps(config))

    return apply


def change_tensors(edit: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = hf_tensors(random_weights())
        edit(tensors)
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))

    return apply


def index(weight_map: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return apply


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def two_copies(folder: Path) -> None:
    content = safetensors_bytes(hf_tensors(random_weights()))
    (folder / "a.safetensors").write_bytes(content)
    (folder / "b.safetensors").write_bytes(content)
    index({"x": "a.safetensors", "y": "b.safetensors"})(folder)


Q = "model.layers.0.self_attn.q_proj.weight"
BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], type[RuvqError], str]] = {
    "another architecture": (
        change_config(model_type="gpt2"),
        ModelError,
        "llama, mistral, qwen2, qwen3.*gpt2",
    ),
    "a quantized checkpoint": (
        change_config(quantization_config={"quant_method": "gptq"}),
        ModelError,
        "gptq",
    ),
    "another activation": (change_config(hidden_act="gelu"), ModelError, "silu.*gelu"),
    "biases in the feed-forward": (change_config(mlp_bias=True), ModelError, "mlp_bias"),
    "unknown rope scaling": (
        change_config(rope_scaling={"type": "yarn", "factor": 2}),
        ModelError,
        "llama3.*yarn",
    ),
    "qwen2 with yarn": (
        change_config(model_type="qwen2", rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        ModelError,
        "llama3.*yarn",
    ),
    "qwen3 with yarn in its newer place": (
        change_config(model_type="qwen3", rope_parameters={"rope_type": "yarn", "rope_theta": 1e6}),
        ModelError,
        "llama3.*yarn",
    ),
    "a mixture of experts": (change_config(model_type="qwen3_moe"), ModelError, "qwen3_moe"),
    "a model type of the wrong type": (change_config(model_type=["qwen2"]), ModelError, "model_type"),
    "qwen2 without its biases": (change_config(model_type="qwen2"), ModelError, "attn_q.bias.*missing"),
    "qwen3 without norms of heads": (
        change_config(model_type="qwen3", head_dim=8),
        ModelError,
        "attn_q_norm.weight.*missing",
    ),
    "attention in chunks": (
        change_config(model_type="qwen2", dual_chunk_attention_config={"chunk_size": 8}),
        ModelError,
        "dual_chunk_attention_config",
    ),
    "rotation of a part of each head": (
        change_config(partial_rotary_factor=0.5),
        ModelError,
        "partial_rotary_factor",
    ),
    "linear scaling without factor": (change_config(rope_scaling={"type": "linear"}), ModelError, "factor"),
    "zero heads": (change_config(num_attention_heads=0), ModelError, "attention"),
    "heads that don't divide": (change_config(num_attention_heads=5), ModelError, "heads"),
    "kv heads that don't divide": (change_config(num_key_value_heads=3), ModelError, "kv_heads"),
    "a negative number of layers": (change_config(num_hidden_layers=-1), ModelError, "layers"),
    "a layer count of the wrong type": (
        change_config(num_hidden_layers="2"),
        ModelError,
        "num_hidden_layers",
    ),
    "an absurd number of layers": (change_config(num_hidden_layers=10**9), ModelError, "layers"),
    "a missing key": (without_key("hidden_size"), ModelError, "hidden_size"),
    "more layers than tensors": (
        change_config(num_hidden_layers=3),
        ModelError,
        "blk.2.attn_norm.weight.*missing",
    ),
    "fewer layers than tensors": (change_config(num_hidden_layers=1), ModelError, "layers.1.input_layernorm"),
    "a width of another model": (change_config(hidden_size=64), ModelError, "doesn't fit the configuration"),
    "a tensor missing": (change_tensors(lambda t: t.__delitem__(Q)), ModelError, "attn_q.weight.*missing"),
    "a tensor of another shape": (
        change_tensors(lambda t: t.update({Q: np.zeros((32, 16), np.float32)})),
        ModelError,
        r"q_proj.*\[32, 32\]",
    ),
    "an unknown tensor": (
        change_tensors(lambda t: t.update({"model.extra": np.zeros(4, np.float32)})),
        ModelError,
        "model.extra",
    ),
    "config.json is HTML": (
        lambda f: (f / "config.json").write_text("<html>404"),
        FileFormatError,
        "an HTML page",
    ),
    "config.json is a list": (lambda f: (f / "config.json").write_text("[1]"), FileFormatError, "an object"),
    "no config.json": (lambda f: (f / "config.json").unlink(), StorageError, "config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), StorageError, "no safetensors"),
    "pickled weights": (pickled, StorageError, "safe_serialization"),
    "a shard is missing": (index({"a": "model-1.safetensors"}), StorageError, "model-1.safetensors.*missing"),
    "a shard outside the folder": (index({"a": "../x.safetensors"}), FileFormatError, "outside its folder"),
    "a shard by absolute path": (index({"a": "/etc/passwd"}), FileFormatError, "outside its folder"),
    "an index without files": (index({}), FileFormatError, "weight_map"),
    "an index of numbers": (index({"a": 1}), FileFormatError, "weight_map"),
    "a tensor in two shards": (two_copies, FileFormatError, "appears twice"),
    "no tokenizer": (lambda f: (f / "tok.bin").unlink(), StorageError, "no tokenizer"),
    "a tokenizer of another model": (
        lambda f: write_tokenizer(f / "tok.bin", 500),
        TokenizerError,
        "doesn't belong.*272.*500",
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_folder_that_is_no_supported_model_is_refused(tmp_path: Path, case: str) -> None:
    damage, kind, message = BAD_FOLDERS[case]
    folder = write_huggingface(tmp_path / "m", random_weights())
    damage(folder)
    with pytest.raises(kind, match="(?s)" + message):
        open_source(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named_with_its_place(tmp_path: Path, value: float) -> None:
    weights = random_weights()
    weights["blk.1.ffn_down.weight"][5, 7] = value
    with open_source(write_huggingface(tmp_path / "m", weights)) as source:
        tensor = source.tensors["blk.1.ffn_down.weight"]
        tensor.read(0, 5)
        with pytest.raises(DataError, match=r"blk\.1\.ffn_down\.weight\[5, 7\]"):
            tensor.read(4, 8)


def test_floats_that_overflow_float32_are_not_finite(tmp_path: Path) -> None:
    weights = random_weights()
    folder = write_huggingface(tmp_path / "m", weights, dtype="F64")
    tensors = {k: v.astype(np.float64) for k, v in hf_tensors(weights).items()}
    tensors["model.norm.weight"][3] = 1e300
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, "F64"))
    with open_source(folder) as source, pytest.raises(DataError, match=r"output_norm\.weight\[3\]"):
        source.tensors["output_norm.weight"].load()


def test_integer_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_huggingface(tmp_path / "m", random_weights())
    content = bytearray((folder / "model.safetensors").read_bytes())
    length = struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8 : 8 + length])
    header["model.norm.weight"]["dtype"] = "I32"
    (folder / "model.safetensors").write_bytes(packed(header, bytes(content[8 + length :])))
    with pytest.raises(FileFormatError, match=r"model\.norm\.weight.*I32"):
        open_source(folder)


# ---- llama2.c and files of other kinds ----


@pytest.mark.parametrize("length", [0, 2, 27, 28, 255, 1000, -4, -1, 1])
def test_a_cut_or_longer_checkpoint_is_refused(tmp_path: Path, length: int) -> None:
    whole = llama2c_bytes(random_weights())
    path = tmp_path / "model.bin"
    path.write_bytes(whole[:length] if length != 1 else whole + b"\0")
    with pytest.raises(FileFormatError):
        open_source(path, write_tokenizer(tmp_path / "tok.bin"))


@pytest.mark.parametrize("field", range(7))
@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, -(2**31)])
def test_a_checkpoint_with_an_absurd_header_is_refused(tmp_path: Path, field: int, value: int) -> None:
    content = bytearray(llama2c_bytes(random_weights()))
    struct.pack_into("<i", content, 4 * field, value)
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        open_source(path, write_tokenizer(tmp_path / "tok.bin"))


@pytest.mark.parametrize(("version", "group"), [(3, 8), (-1, 8), (2, 0), (2, -8), (2, 7)])
def test_a_checkpoint_of_an_unknown_version_or_group_is_refused(
    tmp_path: Path, version: int, group: int
) -> None:
    header = struct.pack("<Ii7iBi", 0x616B3432, version, 32, 44, 2, 4, 2, 272, 64, 1, group)
    path = tmp_path / "model.bin"
    path.write_bytes(header.ljust(256, b"\0") + bytes(1000))
    with pytest.raises(FileFormatError, match=r"llama2\.c"):
        open_source(path, write_tokenizer(tmp_path / "tok.bin"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html><html></html>" + bytes(30), "an HTML page"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"version https://git-lfs.example/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"", "an empty file"),
        (b"\x1f\x8b" + bytes(40), "gzip"),
        (b"\x80\x02" + bytes(40), "pickle"),
    ],
)
def test_a_foreign_file_is_called_by_its_name(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "model.dat"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=found):
        open_source(path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        open_source(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="an empty folder"):
        open_source(tmp_path / "empty")
    path = tmp_path / "model.bin"
    path.write_bytes(llama2c_bytes(random_weights()))
    with pytest.raises(UsageError, match="without a tokenizer"):
        open_source(path)
    with pytest.raises(TokenizerError, match="doesn't belong"):
        open_source(path, write_tokenizer(tmp_path / "tok.bin", TINY.vocab_size + 1))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(safetensors_bytes(hf_tensors(random_weights())))
    with pytest.raises(UsageError, match="--config"):
        open_source(alone)


@pytest.mark.parametrize(
    ("change", "extra"),
    [({"llama.rope.dimension_count": (U32, 4)}, []), ({}, [kv("ruvq.rope.neox", BOOL, True)])],
)
def test_a_gguf_whose_heads_turn_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], extra: list[bytes]
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(llama())
    open_source(path).close()
    path.write_bytes(llama(change, extra))
    with pytest.raises(ModelError, match="rope"):
        open_source(path)
