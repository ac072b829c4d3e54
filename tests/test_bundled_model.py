"""The committed model folder web/model is small, complete and consistent. Needs neither torch nor
transformers.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from ruvq.gguf import GGUFFile
from ruvq.gguf.recipe import RECIPE_KEY
from ruvq.quantize.metadata import source_digest
from ruvq.sources import open_source

FOLDER = Path(__file__).resolve().parents[1] / "web" / "model"
SIZE_BUDGET = 12_000_000  # bytes, the whole folder
F16_EXPONENT = 0x7C00  # all ones: infinity or NaN


def read_json(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def weights() -> tuple[dict, bytes]:
    """The safetensors header without its metadata, and the data that follows it."""
    raw = (FOLDER / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", raw, 0)
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, raw[8 + length :]


def expected_shapes(config: dict) -> dict[str, list[int]]:
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    kv_dim = config["num_key_value_heads"] * config["head_dim"]
    q_dim = config["num_attention_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.input_layernorm.weight": [hidden],
            f"{layer}.post_attention_layernorm.weight": [hidden],
            f"{layer}.self_attn.q_proj.weight": [q_dim, hidden],
            f"{layer}.self_attn.k_proj.weight": [kv_dim, hidden],
            f"{layer}.self_attn.v_proj.weight": [kv_dim, hidden],
            f"{layer}.self_attn.o_proj.weight": [hidden, q_dim],
            f"{layer}.mlp.gate_proj.weight": [ffn, hidden],
            f"{layer}.mlp.up_proj.weight": [ffn, hidden],
            f"{layer}.mlp.down_proj.weight": [hidden, ffn],
        }
    return shapes


def test_folder_is_within_the_size_budget() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= SIZE_BUDGET


def test_config_is_a_llama_with_widths_that_need_a_tail_block() -> None:
    config = read_json("config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["model_type"] == "llama"
    assert config["tie_word_embeddings"] is True
    assert config["hidden_act"] == "silu"
    assert config["head_dim"] % 8 == 0
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]
    assert config["num_attention_heads"] % config["num_key_value_heads"] == 0
    assert config["max_position_embeddings"] >= 256
    assert config["hidden_size"] % 256 or config["intermediate_size"] % 256


def test_tensors_are_those_of_the_config(weights: tuple[dict, bytes]) -> None:
    header, _ = weights
    assert {name: entry["shape"] for name, entry in header.items()} == expected_shapes(
        read_json("config.json")
    )
    assert {entry["dtype"] for entry in header.values()} == {"F16"}


def test_parameters_are_a_million_or_more(weights: tuple[dict, bytes]) -> None:
    _, data = weights
    assert len(data) // 2 >= 1_000_000


def test_tensor_data_is_contiguous_and_complete(weights: tuple[dict, bytes]) -> None:
    header, data = weights
    position = 0
    for begin, end in sorted(entry["data_offsets"] for entry in header.values()):
        assert begin == position
        position = end
    assert position == len(data)


def test_every_weight_is_finite(weights: tuple[dict, bytes]) -> None:
    _, data = weights
    halves = memoryview(data).cast("H")
    assert all(half & F16_EXPONENT != F16_EXPONENT for half in halves)


def test_tokenizer_is_byte_level_bpe_with_the_end_of_text_token() -> None:
    tokenizer, config = read_json("tokenizer.json"), read_json("config.json")
    vocab = tokenizer["model"]["vocab"]
    assert tokenizer["model"]["type"] == "BPE"
    assert tokenizer["pre_tokenizer"]["type"] == "ByteLevel"
    assert tokenizer["pre_tokenizer"]["add_prefix_space"] is False
    assert sorted(vocab.values()) == list(range(config["vocab_size"]))
    (special,) = [token for token in tokenizer["added_tokens"] if token["special"]]
    assert special["content"] == "<|endoftext|>"
    assert special["id"] == vocab["<|endoftext|>"] == config["bos_token_id"] == config["eos_token_id"]


def test_tokenizer_config_asks_for_bos() -> None:
    config = read_json("tokenizer_config.json")
    assert config["add_bos_token"] is True
    assert config["bos_token"] == config["eos_token"] == "<|endoftext|>"


def test_trained_files_are_of_these_weights() -> None:
    """What was trained from other weights must be trained anew."""
    paths = list(FOLDER.glob("trained-*.gguf"))
    assert paths
    with open_source(FOLDER) as source:
        digest = source_digest(source)
    for path in paths:
        with GGUFFile.open(path) as file:
            recipe = json.loads(file.metadata[RECIPE_KEY])
        assert recipe["options"]["source"] == digest


def test_card_names_data_licences_and_commands() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for wanted in ("CDLA-Sharing-1.0", "MIT", "bits per byte", "quantized_table.py", "build/model/make.py"):
        assert wanted in card
