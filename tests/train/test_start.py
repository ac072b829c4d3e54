"""Training that starts from a quantized file: with its codes, scales and transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ruvq
from engine import tiny
from ruvq.errors import UsageError
from ruvq.sources import open_source
from ruvq.train import QatConfig, RunOptions, Work, export_gguf, load_model, prepare_qat, qat
from ruvq.train.start import start_model, take_codes

WIDE = {"width": 192, "ff": 256, "heads": 6, "kv_heads": 2, "vocab": 320, "layers": 2}


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    """A random float model."""
    return tiny.write(tmp_path / "float.gguf", tiny.with_vocabulary(tiny.random_llama(**WIDE)))


def started(floats: Path, quantized: Path, config: QatConfig) -> Any:
    with open_source(floats) as source:
        model = prepare_qat(start_model(quantized, source.parameters), config)
        take_codes(model, quantized, config, source.parameters)
        return model.eval()


@pytest.mark.parametrize("format", ["pi-t2", "pi-t3", "pi-x2", "pi-x3", "pi-q3", "ternary"])
@pytest.mark.parametrize("incoherence", ["hadamard", "orthogonal", "none"])
def test_what_is_exported_before_training_is_the_file(
    floats: Path, tmp_path: Path, format: str, incoherence: str
) -> None:
    """Byte for byte, also where another search would have found other codes: here scales by another rule."""
    if format in ("pi-q3", "ternary"):
        quantize = {"scale": "absmax" if format == "pi-q3" else "absmean"}
    else:
        quantize = {"k": 3}
    ptq = tmp_path / "ptq.gguf"
    ruvq.quantize_model(floats, ptq, format, incoherence=incoherence, seed=5, progress=False, **quantize)
    config = QatConfig.preset(format, incoherence=incoherence, seed=5)
    model = started(floats, ptq, config)
    with open_source(floats) as source:
        export_gguf(model, tmp_path / "back.gguf", source)
    with ruvq.GGUFFile.open(ptq) as a, ruvq.GGUFFile.open(tmp_path / "back.gguf") as b:
        for tensor in a.tensors:
            assert bytes(a.tensor_bytes(tensor.name)) == bytes(b.tensor_bytes(tensor.name)), tensor.name
        keys = [key for key in a.metadata if key.startswith("ruvq.hadamard")]
        assert [a.metadata[key] for key in keys] == [b.metadata[key] for key in keys]
    tokens = list(range(40))
    with open_source(ptq, allow_requantize=True) as source:
        expected = load_model(source)(torch.tensor([tokens])).logits
    assert torch.equal(model(torch.tensor([tokens])).logits, expected)


def test_the_next_assignment_follows_the_weights(floats: Path, tmp_path: Path) -> None:
    ptq = tmp_path / "ptq.gguf"
    ruvq.quantize_model(floats, ptq, "pi-t2", k=2, progress=False)
    model = started(floats, ptq, QatConfig.pit2(search_every=1))
    layer = model.model.layers[0].mlp.up_proj
    before = layer.quantizer.headers.clone()
    with torch.no_grad():
        layer.weight.add_(0.1 * torch.randn(layer.weight.shape))
    model(torch.tensor([[1, 2]]))
    found = ruvq.quantize(np.asarray(ruvq.hadamard(layer.weight.detach().numpy(), 0)), "pi-t2")
    assert layer.quantizer.data() == found.data
    assert not torch.equal(layer.quantizer.headers, before)


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        ({"format": "pi-t3"}, {}, "in pi-t3"),
        ({"seed": 1}, {}, "turned by"),
        ({"incoherence": "none"}, {}, "turned by None"),
        ({}, {"layers": 1}, "the model that is trained"),
    ],
)
def test_another_file_is_refused(
    floats: Path, tmp_path: Path, changes: dict[str, Any], model: dict[str, int], words: str
) -> None:
    other = tiny.write(tmp_path / "other.gguf", tiny.with_vocabulary(tiny.random_llama(**(WIDE | model))))
    ruvq.quantize_model(other, tmp_path / "ptq.gguf", "pi-t2", progress=False)
    with pytest.raises(UsageError) as caught:
        started(floats, tmp_path / "ptq.gguf", QatConfig.preset(**{"format": "pi-t2", **changes}))
    assert caught.value.subject == "--start"
    assert words in caught.value.expected


def run(data_dir: Path, folder: Path, text: Path, **work: Any) -> Any:
    stories = data_dir / "stories260K"
    return qat(
        stories / "stories260K.bin", [str(text)], folder / "out.gguf", QatConfig.pit2(batch_size=2),
        RunOptions(window=64, steps=1, eval_windows=4), Work(threads=1, **work),
        tokenizer=stories / "tok512.bin",
    )  # fmt: skip


@pytest.mark.slow
def test_ptq_first_is_better_than_the_plain_search(data_dir: Path, tmp_path: Path) -> None:
    text = tmp_path / "stories.txt"
    text.write_text((data_dir / "text/tiny_stories_train.txt").read_text()[:60000])
    (tmp_path / "plain").mkdir()
    plain = run(data_dir, tmp_path / "plain", text)
    found = run(data_dir, tmp_path, text, start="ptq")
    assert found.perplexity_start < 0.7 * plain.perplexity_start


def test_a_reference_grid_has_no_file_to_start_from(data_dir: Path, tmp_path: Path) -> None:
    from ruvq.train.start import make_start

    with pytest.raises(UsageError, match="start"):
        make_start(data_dir, [], tmp_path, QatConfig(format="uniform"))
    with pytest.raises(UsageError, match="start"):
        make_start(data_dir, [], tmp_path, QatConfig.pit2())
