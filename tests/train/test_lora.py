"""Adapters: INV-6, the error as a start, PEFT's format, merging, a packed base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import stream, tiny_llama

from ruvq.errors import FileFormatError, UsageError
from ruvq.train import QatConfig, RunOptions, Trainer, prepare_qat
from ruvq.train.layers import quantized_layers
from ruvq.train.lora import (
    Adapter,
    PackedLinear,
    adapted,
    add_adapters,
    load_adapters,
    merge,
    pack_base,
    save_adapters,
)
from ruvq.train.teacher import ModelTeacher

CONFIG = QatConfig.pit2(use_lora=True, lora_rank=4, lora_alpha=8.0, batch_size=4, gradient_accumulation=1)
TOKENS = torch.arange(24).reshape(2, 12)


def adapted_model(config: QatConfig = CONFIG, filled: bool = True) -> Any:
    """A tiny model with adapters, of random values if `filled`."""
    model = add_adapters(prepare_qat(tiny_llama(), config), config)
    if filled:
        for number, (_, adapter) in enumerate(adapted(model)):
            torch.manual_seed(number)
            torch.nn.init.normal_(adapter.lora_B, std=0.05)
    return model.eval()


def test_inv_6_a_rank_above_the_dimensions_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        adapted_model(CONFIG.changed(lora_rank=13))  # k and v have 12 rows
    assert (caught.value.subject, caught.value.expected) == ("lora_rank", "at most 12")


def test_only_adapters_train_and_they_train() -> None:
    teacher = ModelTeacher(tiny_llama(), 61)
    model = adapted_model(filled=False)
    frozen = {n: p.clone() for n, p in model.named_parameters() if ".adapter." not in n}
    options = RunOptions(window=16, steps=25, auto_rate=0.02, eval_every=1000)
    t = Trainer(model, CONFIG, options, stream(), stream(200, seed=1), teacher)
    before = t.evaluate().kl
    t.run()
    after = t.evaluate().kl
    assert before is not None
    assert after is not None
    assert after < before
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert {n.split(".")[-1] for n, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_an_adapter_may_start_from_the_error() -> None:
    config = CONFIG.changed(lora_init="error")
    adapter = Adapter(20, 30, config, torch.device("cpu"))
    error = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    adapter.start_from(error)
    s = torch.linalg.svdvals(error)
    assert float((error - adapter.delta()).detach().square().sum()) == pytest.approx(
        float(s[4:].square().sum()), rel=1e-3
    )


def test_peft_reads_what_is_saved(tmp_path: Path) -> None:
    from peft import PeftModel

    model = adapted_model()
    save_adapters(model, tmp_path, "tiny")
    theirs = PeftModel.from_pretrained(tiny_llama(), str(tmp_path))
    for name, adapter in adapted(model):
        layer = theirs.get_submodule(f"base_model.model.{name}")
        torch.testing.assert_close(layer.get_delta_weight("default"), adapter.delta())


def test_adapters_are_read_again_and_others_refused(tmp_path: Path) -> None:
    model, other = adapted_model(), adapted_model(filled=False)
    save_adapters(model, tmp_path)
    load_adapters(other, tmp_path)
    assert torch.equal(model(TOKENS).logits, other(TOKENS).logits)
    wide = adapted_model(CONFIG.changed(lora_rank=5))
    with pytest.raises(FileFormatError, match="another model"):
        load_adapters(wide, tmp_path)


def test_merging_changes_nothing_that_is_computed() -> None:
    model = adapted_model()
    before = model(TOKENS).logits
    merge(model)
    assert not list(adapted(model))
    torch.testing.assert_close(model(TOKENS).logits, before, rtol=1e-3, atol=1e-3)


def test_a_packed_base_computes_the_same_and_passes_gradients() -> None:
    """Beside the base: the adapter's product is added to that of the quantized matrix."""
    model = prepare_qat(tiny_llama(), CONFIG)
    add_adapters(model, CONFIG)
    plain = model.eval()(TOKENS).logits.detach()  # lora_B is 0: the adapters add nothing yet
    pack_base(model)
    torch.testing.assert_close(model(TOKENS).logits, plain, rtol=1e-4, atol=1e-4)
    model(TOKENS, labels=TOKENS).loss.backward()
    for name, adapter in adapted(model):
        assert adapter.lora_B.grad is not None, name
        assert float(adapter.lora_B.grad.abs().max()) > 0, name
    layers = [m for m in model.modules() if isinstance(m, PackedLinear)]
    assert layers
    packed = sum(m.packed.data.numel() for m in layers)
    assert packed * 8 / sum(m.packed.shape[0] * m.packed.shape[1] for m in layers) < 4  # tails of 36 weights


def test_layers_without_the_names_are_told_of() -> None:
    config = CONFIG.changed(target_modules=("query",))
    with pytest.raises(UsageError) as caught:
        add_adapters(prepare_qat(tiny_llama(), config), config)
    assert "q_proj" in caught.value.expected
    assert list(quantized_layers(prepare_qat(tiny_llama(), config)))


@pytest.mark.parametrize("incoherence", ["hadamard", "none"])
def test_the_engine_computes_what_a_packed_base_with_adapters_computes(
    incoherence: str, tmp_path: Path
) -> None:
    """Base and adapter as they are exported, against torch: the order of rows, the transform, scales."""
    import numpy as np

    import ruvq
    from engine import tiny
    from ruvq.adapters.gguf_adapter import to_gguf, write_gguf_adapter
    from ruvq.sources import open_source
    from ruvq.train import export_gguf, load_model
    from ruvq.train.lora import lora_of

    wide = {"width": 192, "ff": 256, "heads": 6, "kv_heads": 2, "vocab": 320, "layers": 2}
    start = tiny.write(tmp_path / "start.gguf", tiny.with_vocabulary(tiny.random_llama(**wide)))
    config = CONFIG.changed(incoherence=incoherence, format="pi-t3")
    tokens = list(range(40))
    with open_source(start) as source:
        model = add_adapters(prepare_qat(load_model(source), config), config)
        for number, (_, adapter) in enumerate(adapted(model)):
            torch.manual_seed(number)
            torch.nn.init.normal_(adapter.lora_B, std=0.2)
        pack_base(model).eval()
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0].numpy()
        export_gguf(model, tmp_path / "base.gguf", source)
        write_gguf_adapter(tmp_path / "adapter.gguf", to_gguf(lora_of(model), source.parameters), type="f32")
    with ruvq.Model.open(tmp_path / "base.gguf", kv="f32") as opened:
        plain = np.array(opened.logits(tokens))
        opened.load_adapter(tmp_path / "adapter.gguf")
        found = np.array(opened.logits(tokens))
    step = np.abs(plain - expected).std()
    assert step > 0.2 * expected.std()
    assert np.abs(found - expected).std() < 0.05 * step  # the engine rounds activations to 8 bits
