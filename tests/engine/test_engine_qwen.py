"""Qwen2 and Qwen3, from Hugging Face's folders to logits: those that the transformers package gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import qwen, reference
from ruvq import Model
from ruvq.gguf import GGUFFile
from ruvq.sources.safetensors_file import SafetensorsFile
from sources.tiny_models import safetensors_bytes

TOLERANCE = 1e-4  # of the largest logit


def logits(path: Path, tokens: list[int], **options: Any) -> np.ndarray:
    with Model.open(path, **({"kv": "f32"} | options)) as model:
        return np.array(model.logits(tokens))


@pytest.mark.parametrize("kind", qwen.KINDS)
def test_logits_are_those_that_transformers_gave(kind: str, repository: Path, tmp_path: Path) -> None:
    folder = qwen.folder(repository, kind)
    tokens, expected = qwen.recorded(folder)
    path = qwen.convert(folder, tmp_path / "m.gguf", "f32")
    assert reference.relative_error(logits(path, tokens), expected) < TOLERANCE
    shuffled = logits(path, tokens[1::-1] + tokens[2:])
    assert reference.relative_error(shuffled[-1], expected[-1]) > 100 * TOLERANCE


CHANGES = {
    "qwen2": ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
    "qwen3": ["self_attn.q_norm.weight", "self_attn.k_norm.weight"],
}


@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind in CHANGES for part in CHANGES[kind]])
def test_the_recorded_logits_need_every_bias_and_norm(
    kind: str, part: str, repository: Path, tmp_path: Path
) -> None:
    """A tolerance that leaving one of them out can't meet. Rotating a bias makes it another one."""
    folder = qwen.folder(repository, kind)
    tokens, expected = qwen.recorded(folder)
    file = SafetensorsFile(folder / "model.safetensors")
    tensors = {n: file.rows(n, 0, e.shape[0] if len(e.shape) > 1 else 1) for n, e in file.entries.items()}
    shapes = {n: e.shape for n, e in file.entries.items()}
    file.close()
    tensors = {n: np.array(v).reshape(shapes[n]) for n, v in tensors.items()}
    name = f"model.layers.1.{part}"
    tensors[name] = np.roll(tensors[name], 1)
    other = tmp_path / "hf"
    other.mkdir()
    (other / "config.json").write_bytes((folder / "config.json").read_bytes())
    (other / "model.safetensors").write_bytes(safetensors_bytes(tensors, "BF16"))
    path = qwen.convert(other, tmp_path / "m.gguf", "f32")
    assert reference.relative_error(logits(path, tokens), expected) > 10 * TOLERANCE


@pytest.mark.parametrize("kind", qwen.KINDS)
def test_a_gguf_file_as_the_source_gives_the_same_bits(kind: str, repository: Path, tmp_path: Path) -> None:
    """The weights are bfloat16 numbers, so that nothing may change on the way through F32."""
    folder = qwen.folder(repository, kind)
    tokens, _ = qwen.recorded(folder)
    direct = qwen.convert(folder, tmp_path / "a.gguf", "bf16")
    floats = qwen.convert(folder, tmp_path / "b.gguf", "f32")
    through = qwen.convert(floats, tmp_path / "c.gguf", "bf16")
    np.testing.assert_array_equal(logits(through, tokens), logits(direct, tokens))
    with GGUFFile.open(direct) as one, GGUFFile.open(through) as two:
        assert [(t.name, t.shape, t.format) for t in one.tensors] == [
            (t.name, t.shape, t.format) for t in two.tensors
        ]


@pytest.mark.parametrize("kind", qwen.KINDS)
def test_metadata_is_named_as_other_tools_name_it(kind: str, repository: Path, tmp_path: Path) -> None:
    with GGUFFile.open(qwen.convert(qwen.folder(repository, kind), tmp_path / "m.gguf", "f32")) as file:
        assert file.architecture == kind
        own = {k.split(".", 1)[1]: v for k, v in file.metadata.items() if k.startswith(kind)}
        assert [k for k in file.metadata if k.startswith("llama.")] == []
    expected = {
        "block_count": 3,
        "embedding_length": 64,
        "feed_forward_length": 172,
        "context_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "rope.freq_base": 1e6,
        "vocab_size": 512,
    }
    widths = {"attention.key_length": 24, "attention.value_length": 24, "rope.dimension_count": 24}
    expected |= widths if kind == "qwen3" else {"rope.dimension_count": 16}
    assert {key: own[key] for key in expected} == expected
    assert own.keys() - expected.keys() == {"attention.layer_norm_rms_epsilon"}


@pytest.mark.parametrize("kind", qwen.KINDS)
def test_quantized_to_two_bits_it_runs_with_the_same_bits_in_both_kernels(
    kind: str, repository: Path, tmp_path: Path
) -> None:
    folder = qwen.folder(repository, kind)
    tokens, _ = qwen.recorded(folder)
    path = qwen.convert(folder, tmp_path / "m.gguf", "pi-t2")
    got = logits(path, tokens, kv="f16")
    np.testing.assert_array_equal(got, logits(path, tokens, kv="f16", scalar=True, batch=5))
    decoded = qwen.convert(path, tmp_path / "decoded.gguf", "f32", allow_requantize=True)
    assert reference.relative_error(got, logits(decoded, tokens)) < 0.08  # int8 activations
    with Model.open(path) as model:
        generation = model.generate("ab", 12, seed=3)
        assert "".join(generation) == generation.text
        assert len(generation.tokens) > 0
        assert model.info.hadamard_tensors == 3 * 7 + 1


@pytest.mark.transformers
@pytest.mark.parametrize("kind", qwen.KINDS)
def test_logits_are_those_of_the_transformers_installed(kind: str, repository: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    script = repository / "tests" / "data" / "tiny_qwen" / "make.py"
    spec = importlib.util.spec_from_file_location("make_tiny_qwen", script)
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    sizes = {"hidden_size": 96, "intermediate_size": 200, "num_attention_heads": 6, "num_key_value_heads": 3}
    live = make.build(kind, 11, vocab_size=300, tie_word_embeddings=False, rope_theta=50000.0, **sizes)
    live.save_pretrained(tmp_path / "hf")
    tokens = torch.randint(0, 300, (40,)).tolist()
    assert "rope" in json.dumps(json.loads((tmp_path / "hf" / "config.json").read_text()))
    got = logits(qwen.convert(tmp_path / "hf", tmp_path / "m.gguf", "f32", 300), tokens)
    assert reference.relative_error(got, make.logits(live, tokens).numpy()) < TOLERANCE
