"""prepare_qat and export_gguf: the file holds what was trained; what can't be quantized is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import source_of, story_model, tiny_llama

import ruvq
from ruvq.errors import ModelError, StorageError, UsageError
from ruvq.gguf import GGUFFile
from ruvq.sources import Source, open_source
from ruvq.train import QatConfig, export_gguf, load_model, prepare_qat, quantized_weights
from ruvq.train.layers import QuantEmbedding, QuantLinear, quantized_layers
from ruvq.train.models import gguf_rows, parameters_of

TOKENS = [[1, 403, 407, 261, 378, 300, 12]]


def trained(model: Any, config: QatConfig, steps: int = 2) -> Any:
    """A prepared model after some steps of AdamW."""
    prepare_qat(model, config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    tokens = torch.tensor(TOKENS * 2)
    for _ in range(steps):
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def assert_file_holds(path: Path, model: Any) -> None:
    """Every quantized layer, bit for bit, as the file decodes (the transform undone)."""
    parameters = parameters_of(model)
    with open_source(path, allow_requantize=True) as stored:
        for name, layer in quantized_layers(model):
            target, order = gguf_rows(f"{name}.weight", parameters)
            if target in stored.tensors:
                expected = quantized_weights(layer).numpy()
                expected = expected if order is None else expected[order]
                assert np.array_equal(stored.tensors[target].load(), expected), name


@pytest.mark.parametrize("config", [
    QatConfig.pit2(seed=7), QatConfig.pit3(ste="lsq"), QatConfig.piq3(ste="clipped"), QatConfig.ternary(),
    QatConfig.pix2(ste="ewgs"), QatConfig.pix3(ste="lsq"), QatConfig(bits=5),
], ids=lambda c: f"{c.format}-{c.ste}")  # fmt: skip
def test_the_file_holds_what_was_trained(data_dir: Path, tmp_path: Path, config: QatConfig) -> None:
    with source_of(data_dir) as source:
        model = trained(story_model(source), config)
        path = tmp_path / "qat.gguf"
        report = export_gguf(model, path, source)
    assert_file_holds(path, model)
    assert report.file_bytes == path.stat().st_size
    with torch.no_grad():
        expected = model.eval()(torch.tensor(TOKENS)).logits[0].numpy()
    with ruvq.Model.open(path, kv="f32") as engine:
        found = np.asarray(engine.logits(TOKENS[0])).reshape(expected.shape)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999  # activations are int8 in the engine


@pytest.mark.parametrize("config", [QatConfig.pit2(), QatConfig.pix2(), QatConfig.pix3(k=3)])
def test_an_untrained_model_is_exported_as_quantize_writes_it(
    data_dir: Path, tmp_path: Path, config: QatConfig
) -> None:
    with source_of(data_dir) as source:
        export_gguf(prepare_qat(story_model(source), config), tmp_path / "qat.gguf", source)
        ruvq.quantize_model(
            source.path, tmp_path / "ptq.gguf", config.format, k=config.k,
            tokenizer=data_dir / "stories260K/tok512.bin", progress=False,
        )  # fmt: skip
    with GGUFFile.open(tmp_path / "qat.gguf") as a, GGUFFile.open(tmp_path / "ptq.gguf") as b:
        assert [t.name for t in a.tensors] == [t.name for t in b.tensors]
        for tensor in a.tensors:
            assert bytes(a.tensor_bytes(tensor.name)) == bytes(b.tensor_bytes(tensor.name)), tensor.name


def test_a_loaded_model_has_the_engines_logits(data_dir: Path, tmp_path: Path) -> None:
    """Rotary pairs, tied embeddings and norms arrive where they belong."""
    with source_of(data_dir) as source:
        model = load_model(source)
        ruvq.quantize_model(
            source.path,
            tmp_path / "f32.gguf",
            "f32",
            tokenizer=data_dir / "stories260K/tok512.bin",
            progress=False,
        )
        assert parameters_of(model) == source.parameters
    with torch.no_grad():
        expected = model(torch.tensor(TOKENS)).logits[0].numpy()
    with ruvq.Model.open(tmp_path / "f32.gguf", kv="f32") as engine:
        found = np.asarray(engine.logits(TOKENS[0])).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("config", [QatConfig.pit2(activation_bits=8), QatConfig.piq3(activation_bits=8)])
def test_layers_with_rounded_activations_multiply_as_the_engine_does(config: QatConfig) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Linear(300, 20, bias=False))
    layer = prepare_qat(linear, config)[0]
    x = torch.randn(3, 300)
    q = ruvq.QuantizedTensor(config.format, (20, 300), layer.quantizer.data())
    turned = np.asarray(ruvq.hadamard(x.numpy(), config.seed)) if config.turn else x.numpy()
    expected = np.stack([np.asarray(ruvq.matvec(q, np.ascontiguousarray(row))) for row in turned])
    with torch.no_grad():
        found = linear(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_names_and_parameters_stay_what_they_were() -> None:
    model = tiny_llama()
    names = [n for n, _ in model.named_parameters()]
    weights = dict(model.named_parameters())
    prepare_qat(model, QatConfig.pit2())
    assert [n for n, _ in model.named_parameters()] == names
    assert all(p is weights[n] for n, p in model.named_parameters())
    assert isinstance(model.model.embed_tokens, QuantEmbedding)
    assert isinstance(model.lm_head, QuantLinear)
    assert model.lm_head.quantizer is model.model.embed_tokens.quantizer


def test_embeddings_and_named_layers_may_stay_floats() -> None:
    model = prepare_qat(
        tiny_llama(), QatConfig.pit2(embeddings=False), skip=("model.layers.0.self_attn.q_proj",)
    )
    quantized = {name for name, _ in quantized_layers(model)}
    assert "lm_head" not in quantized
    assert "model.embed_tokens" not in quantized
    assert "model.layers.0.self_attn.q_proj" not in quantized
    assert "model.layers.1.self_attn.q_proj" in quantized


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}])
def test_codes_follow_every_optimiser(options: dict[str, bool]) -> None:
    """Fused ones don't raise autograd's version counters."""
    model = prepare_qat(tiny_llama(), QatConfig.pit2()).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, **options)
    tokens = torch.randint(0, 61, (2, 16))
    before = [layer.quantizer.codes.clone() for _, layer in quantized_layers(model)]
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()
    model(tokens)
    after = [layer.quantizer.codes for _, layer in quantized_layers(model)]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


class Odd(torch.nn.Module):
    """A matrix that isn't a linear layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Conv1d(3, 3, 3)
        self.linear = torch.nn.Linear(3, 3)


def test_layers_that_cant_be_quantized_are_listed() -> None:
    with pytest.raises(ModelError) as caught:
        prepare_qat(Odd(), QatConfig.pit2())
    assert caught.value.subject == "inner"
    assert "Conv1d" in caught.value.actual
    assert [
        n for n, _ in quantized_layers(prepare_qat(Odd(), QatConfig.pit2(), allow_float_layers=True))
    ] == ["linear"]


def test_export_refuses_what_it_cant_write(data_dir: Path, tmp_path: Path) -> None:
    with source_of(data_dir) as source:
        with pytest.raises(UsageError, match="no quantized layer"):
            export_gguf(story_model(source), tmp_path / "x.gguf", source)
        model = prepare_qat(story_model(source), QatConfig.ternary())
        (tmp_path / "x.gguf").write_bytes(b"there")
        with pytest.raises(StorageError, match="exists"):
            export_gguf(model, tmp_path / "x.gguf", source)
        with pytest.raises(StorageError, match="folder"):
            export_gguf(model, tmp_path / "none" / "x.gguf", source)
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3"])
def test_qwen_models_are_trained_and_exported_too(data_dir: Path, tmp_path: Path, kind: str) -> None:
    """Biases and head norms as floats, rows of q and k in Hugging Face's order."""
    import transformers

    values = {
        "vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64,
    }  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**values))
    trained(model.float(), QatConfig.pit3())
    with source_of(data_dir) as stories:
        source = Source(
            path=tmp_path / "model", kind="test", name=kind, parameters=parameters_of(model), tensors={},
            tokenizer=stories.tokenizer,
        )  # fmt: skip
        export_gguf(model, tmp_path / "qwen.gguf", source)
    assert_file_holds(tmp_path / "qwen.gguf", model)
    with torch.no_grad():
        expected = model.eval()(torch.tensor(TOKENS)).logits[0].numpy()
    with ruvq.Model.open(tmp_path / "qwen.gguf", kv="f32") as engine:
        found = np.asarray(engine.logits(TOKENS[0])).reshape(expected.shape)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
