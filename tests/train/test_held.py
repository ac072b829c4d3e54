"""A frozen base that is held in its format, and in 16 bits where adapters are added to it: the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small import stream

from ruvq.sources import Source, open_source
from ruvq.train import QatConfig, RunOptions, Trainer, export_gguf, held, load_model, prepare_qat
from ruvq.train.held import HeldLinear, hold_frozen, prepare_lora
from ruvq.train.lora import PackedEmbedding, adapted, add_adapters, merge
from ruvq.train.teacher import ModelTeacher
from sources.tiny_models import TINY, random_weights, write_huggingface

CONFIG = QatConfig.pit2(use_lora=True, lora_rank=4, batch_size=2, gradient_accumulation=1)
OPTIONS = RunOptions(window=16, steps=3, auto_rate=0.01, eval_every=2, eval_windows=2)
QWEN = replace(TINY, architecture="qwen2", tied=True, attention_bias=True)
VOCAB = TINY.vocab_size


def source_of(folder: Path, dtype: str = "BF16", parameters: Any = TINY) -> Source:
    """A random model in `dtype`, whose weights any float type holds."""
    write_huggingface(folder, random_weights(parameters), parameters, dtype)
    return open_source(folder, folder / "tok.bin")


def in_floats(source: Source, config: QatConfig) -> Any:
    return add_adapters(prepare_qat(load_model(source), config), config)


def held_at_once(source: Source, config: QatConfig) -> Any:
    return prepare_lora(load_model(source, halves=True), config)


def held_afterwards(source: Source, config: QatConfig) -> Any:
    return hold_frozen(in_floats(source, config))


def run(make: Callable[[Source, QatConfig], Any], source: Source, config: QatConfig, path: Path) -> Any:
    """Losses and norms of three steps, an evaluation and the file; the teacher is held like the model."""
    torch.manual_seed(1)
    model = make(source, config)
    teacher = ModelTeacher(load_model(source, halves=make is held_at_once), VOCAB)
    trainer = Trainer(model, config, OPTIONS, stream(vocab=VOCAB), stream(100, VOCAB, 1), teacher)
    losses = [trainer.step() for _ in range(3)]
    found = trainer.evaluate()
    export_gguf(model, path, source, overwrite=True, timestamp="2026-01-01T00:00:00Z")
    return losses, found, path.read_bytes()


@pytest.mark.parametrize("make", [held_at_once, held_afterwards])
@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, TINY),
        ({"ste": "lsq", "format": "pi-q3", "lora_init": "error"}, replace(TINY, tied=False)),
        ({"format": "ternary", "ste": "clipped", "activation_bits": 8}, QWEN),
        ({"format": "pi-t3", "embeddings": False, "activation_bits": 8}, QWEN),
        ({"format": "pi-x2", "ste": "lsq", "lora_init": "error"}, TINY),
    ],
)
def test_losses_and_file_are_those_of_a_base_in_floats(
    make: Any, changes: dict[str, Any], parameters: Any, tmp_path: Path
) -> None:
    config = CONFIG.changed(**changes)
    with source_of(tmp_path / "model", parameters=parameters) as source:
        expected = run(in_floats, source, config, tmp_path / "a.gguf")
        found = run(make, source, config, tmp_path / "b.gguf")
    assert found[0] == expected[0]
    assert found[1:] == expected[1:]
    assert expected[0][0] != expected[0][2]  # it trained


@pytest.mark.parametrize(("dtype", "kind"), [("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_matrices_of_16_bits_stay_so_and_compute_the_same(
    dtype: str, kind: torch.dtype, tmp_path: Path
) -> None:
    tokens = torch.arange(24).reshape(2, 12)
    with source_of(tmp_path / "model", dtype) as source:
        floats, halves = load_model(source), load_model(source, halves=True)
    assert {p.dtype for p in halves.parameters() if p.dim() > 1} == {kind}
    assert {p.dtype for p in halves.parameters() if p.dim() == 1} == {torch.float32}
    assert torch.equal(floats(tokens).logits, halves(tokens).logits)


def test_a_source_in_float32_stays_in_float32(tmp_path: Path) -> None:
    with source_of(tmp_path / "model", "F32") as source:
        model = load_model(source, halves=True)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_only_what_adapters_are_added_to_is_held_in_floats(tmp_path: Path) -> None:
    with source_of(tmp_path / "model") as source:
        model = prepare_lora(load_model(source, halves=True), CONFIG)
    matrices = {n: p for n, p in model.named_parameters() if p.dim() > 1 and ".adapter." not in n}
    assert {n.split(".")[-2] for n in matrices} == set(CONFIG.target_modules)
    assert {p.dtype for p in matrices.values()} == {torch.bfloat16}
    kinds = [type(m) for m in model.modules() if isinstance(m, (HeldLinear, PackedEmbedding))]
    assert kinds.count(HeldLinear) == 3 * TINY.layers + 1
    assert kinds.count(PackedEmbedding) == 1


def test_the_best_state_has_only_what_may_change(tmp_path: Path) -> None:
    with source_of(tmp_path / "model") as source:
        model = prepare_lora(load_model(source, halves=True), CONFIG)
    trainer = Trainer(model, CONFIG, OPTIONS, stream(vocab=VOCAB), stream(100, VOCAB, 1))
    trainer.run()
    assert any(name.endswith("lora_B") for name in trainer.best)
    assert all(".adapter." in name or ".quantizer." in name for name in trainer.best)


def test_adapters_merge_into_16_bits_without_rounding_to_them(tmp_path: Path) -> None:
    with source_of(tmp_path / "model") as source:
        model = prepare_lora(load_model(source, halves=True), CONFIG.changed(lora_init="error"))
    name, adapter = next(adapted(model))
    layer: Any = model.get_submodule(name)
    expected = layer.weight.float() + adapter.delta()
    merge(model)
    assert torch.equal(layer.weight, expected.detach())


def test_a_matrix_in_parts_gives_the_same_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with source_of(tmp_path / "model") as source:
        model = prepare_lora(load_model(source, halves=True), CONFIG)
    layer = next(m for m in model.modules() if isinstance(m, HeldLinear))
    rows, width = layer.packed.shape
    whole = held.decoded(layer.packed, slice(None))
    x = torch.randn(2, 3, width, requires_grad=True)
    monkeypatch.setattr(held, "PART", 7 * width)
    y = layer(x)
    torch.testing.assert_close(y, F.linear(x, whole), rtol=1e-5, atol=1e-6)
    g = torch.randn(2, 3, rows)
    torch.testing.assert_close(torch.autograd.grad(y, x, g)[0], g @ whole, rtol=1e-5, atol=1e-6)
