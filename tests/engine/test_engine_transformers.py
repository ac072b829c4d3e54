"""A Hugging Face folder gives the logits that the transformers package gives for it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from engine import reference, tiny
from ruvq import Model
from ruvq.sources.files import read_json
from ruvq.sources.huggingface import open_huggingface, weight_files

TOLERANCE = 1e-4  # of the largest logit


def engine_logits(folder: Path, tokens: list[int], target: Path) -> np.ndarray:
    """Through the source's names, permutation and hyper-parameters, and the engine in float32."""
    config = read_json(folder / "config.json")
    source = open_huggingface(weight_files(folder), config, folder, None, "tiny", "folder without tokenizer")
    p = source.parameters
    model = tiny.Llama(
        p.width,
        p.layers,
        p.heads,
        p.kv_heads,
        p.ff_width,
        p.vocab_size,
        p.context,
        p.rms_epsilon,
        p.rope_base,
    )
    model.tensors = {name: tensor.load() for name, tensor in source.tensors.items()}
    source.close()
    with Model.open(tiny.write(target, model), kv="f32") as opened:
        return np.array(opened.logits(tokens))


def recorded(folder: Path) -> tuple[list[int], np.ndarray]:
    tokens = json.loads((folder / "recorded.json").read_text())["tokens"]
    return tokens, np.fromfile(folder / "logits.f32", "<f4").reshape(len(tokens), -1)


def test_logits_are_those_that_transformers_gave(repository: Path, tmp_path: Path) -> None:
    folder = repository / "tests" / "data" / "tiny_llama"
    tokens, expected = recorded(folder)
    got = engine_logits(folder, tokens, tmp_path / "m.gguf")
    assert reference.relative_error(got, expected) < TOLERANCE


def test_the_recorded_logits_need_every_layer_and_rope(repository: Path, tmp_path: Path) -> None:
    """A tolerance that a wrong forward pass can't meet."""
    folder = repository / "tests" / "data" / "tiny_llama"
    tokens, expected = recorded(folder)
    shuffled = engine_logits(folder, tokens[1::-1] + tokens[2:], tmp_path / "m.gguf")
    assert reference.relative_error(shuffled[-1], expected[-1]) > 100 * TOLERANCE


@pytest.mark.transformers
def test_logits_are_those_of_the_transformers_installed(repository: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    script = repository / "tests" / "data" / "tiny_llama" / "make.py"
    spec = importlib.util.spec_from_file_location("make_tiny_llama", script)
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    torch.manual_seed(11)
    config = transformers.LlamaConfig(
        hidden_size=96,
        intermediate_size=200,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        vocab_size=300,
        max_position_embeddings=64,
        initializer_range=0.2,
        attention_bias=True,
        tie_word_embeddings=False,
        rope_theta=50000.0,
    )
    live = transformers.LlamaForCausalLM(config).eval()
    live.save_pretrained(tmp_path / "hf")
    tokens = torch.randint(0, 300, (40,)).tolist()
    got = engine_logits(tmp_path / "hf", tokens, tmp_path / "m.gguf")
    assert reference.relative_error(got, make.logits(live, tokens).numpy()) < TOLERANCE
