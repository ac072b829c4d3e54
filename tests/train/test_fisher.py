"""Fisher information: by another way, in the artifact, as the weights of rounding, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ruvq
from engine import tiny
from ruvq.calibrate import calibrate
from ruvq.errors import DataError, MissingDependencyError, ModelError, UsageError
from ruvq.quantize.calibration import Calibration
from ruvq.sources import open_source
from ruvq.train import load_model
from ruvq.train.fisher import fisher
from ruvq.train.models import gguf_rows

WIDE = {"width": 48, "ff": 80, "heads": 3, "kv_heads": 1, "vocab": 320, "layers": 2}


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    """A random float model."""
    return tiny.write(tmp_path / "float.gguf", tiny.with_vocabulary(tiny.random_llama(**WIDE)))


def test_for_one_prediction_it_is_the_square_of_the_weights_gradient(
    floats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tokens only the first predicts, so that a weight's gradient is g x^T, and F its square; query
    and key have none, as there is nothing to choose from."""
    monkeypatch.setattr("ruvq.train.fisher._check", lambda tensor, values: None)
    found = dict(fisher(floats, [[5, 7], [9, 2]]))
    with open_source(floats) as source:
        model, parameters = load_model(source), source.parameters
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        total = torch.zeros(module.in_features, module.in_features)
        for first, second in ((5, 7), (9, 2)):
            model.zero_grad()
            logits = model(torch.tensor([[first, second]])).logits[0, :1]
            F.cross_entropy(logits, torch.tensor([second])).backward()
            grad = module.weight.grad
            assert grad is not None
            total += grad.T @ grad
        target, _ = gguf_rows(f"{name}.weight", parameters)
        expected = (total / 4).numpy()
        np.testing.assert_allclose(found[target], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_diagonal_is_that_of_the_whole(floats: Path) -> None:
    windows = [list(range(30)), list(range(40, 60))]
    whole, diagonal = dict(fisher(floats, windows)), dict(fisher(floats, windows, diagonal=True))
    assert whole.keys() == diagonal.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(np.diagonal(values), diagonal[name], rtol=1e-4)
        assert np.linalg.eigvalsh(values.astype(float)).min() > -1e-5 * np.trace(values)


def artifact(data_dir: Path, folder: Path, **options: bool) -> Path:
    stories, text = data_dir / "stories260K", folder / "stories.txt"
    text.write_text((data_dir / "text/tiny_stories_train.txt").read_text()[:12000])
    calibrate(
        stories / "stories260K.bin", [str(text)], folder / "cal.gguf", tokenizer=stories / "tok512.bin",
        max_tokens=2048, **options,
    )  # fmt: skip
    return folder / "cal.gguf"


def quantized(data_dir: Path, folder: Path, name: str, format: str = "pi-t2", **options: object) -> Path:
    stories = data_dir / "stories260K"
    ruvq.quantize_model(
        stories / "stories260K.bin", folder / name, format, tokenizer=stories / "tok512.bin",
        progress=False, **options,
    )  # fmt: skip
    return folder / name


def test_the_artifact_holds_it_and_quantize_rounds_by_it(data_dir: Path, tmp_path: Path) -> None:
    cal = artifact(data_dir, tmp_path, fisher=True)
    with Calibration.open(cal) as found:
        assert found.has_fisher()
        assert found.digest
        widths = {"blk.0.attn_q": 64, "blk.4.ffn_down": 172, "token_embd": 64}
        for name, width in widths.items():
            values = found.fisher(f"{name}.weight", width)
            assert np.array_equal(values, values.T)
            assert values.any()
    plain = quantized(data_dir, tmp_path, "plain.gguf", calibration=cal)
    weighed = quantized(data_dir, tmp_path, "weighed.gguf", calibration=cal, fisher=True)
    with ruvq.GGUFFile.open(plain) as a, ruvq.GGUFFile.open(weighed) as b:
        assert bytes(a.tensor_bytes("blk.0.attn_q.weight")) != bytes(b.tensor_bytes("blk.0.attn_q.weight"))
        assert '"fisher":true' in str(b.metadata["ruvq.recipe"]).replace(" ", "")
    with pytest.raises(UsageError, match="Fisher"):
        quantized(data_dir, tmp_path, "x.gguf", calibration=cal, fisher=True, sequential=True)


def test_columns_weigh_by_its_diagonal(data_dir: Path, tmp_path: Path) -> None:
    """The bytes are those of the public quantizer with these weights."""
    cal, name = artifact(data_dir, tmp_path, fisher=True, diagonal=True), "blk.0.ffn_up.weight"
    found = tmp_path / "q4.gguf"
    quantized(data_dir, tmp_path, found.name, format="q4_0", fallback="f16", calibration=cal, fisher=True)
    with Calibration.open(cal) as opened:
        weights, sums = opened.fisher(name, 64), opened.importance(name, 64)
        with pytest.raises(ModelError, match="doesn't know"):
            opened.fisher("blk.9.ffn_up.weight", 64)
        with pytest.raises(ModelError, match="another model"):
            opened.fisher(name, 48)
    assert weights.shape == (64,)
    with open_source(data_dir / "stories260K/stories260K.bin", data_dir / "stories260K/tok512.bin") as source:
        floats = source.tensors[name].load()
    by_gradients, by_inputs = (
        bytes(ruvq.quantize(floats, "q4_0", importance=w).data) for w in (weights, sums)
    )
    with ruvq.GGUFFile.open(found) as file:
        assert bytes(file.tensor_bytes(name)) == by_gradients != by_inputs


def test_without_it_nothing_is_rounded_by_it(data_dir: Path, tmp_path: Path) -> None:
    cal = artifact(data_dir, tmp_path)
    for options in ({}, {"calibration": cal}):
        with pytest.raises(UsageError, match="Fisher"):
            quantized(data_dir, tmp_path, "x.gguf", fisher=True, **options)
    assert not (tmp_path / "x.gguf").exists()


def test_nan_is_refused_with_the_matrix(floats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ruvq.train import fisher as module

    def damaged(source: object) -> torch.nn.Module:
        model = load_model(source)  # type: ignore[arg-type]
        with torch.no_grad():
            model.model.norm.weight[0] = float("nan")  # type: ignore[union-attr, index]
        return model

    monkeypatch.setattr(module, "load_model", damaged)
    with pytest.raises(DataError, match="not finite") as caught:
        list(module.fisher(floats, [[1, 2, 3]]))
    assert caught.value.subject.endswith(".weight")


def test_without_torch_it_says_what_to_install(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ruvq.train.fisher", None)
    with pytest.raises(MissingDependencyError) as caught:
        artifact(data_dir, tmp_path, fisher=True)
    assert "ruvq[train]" in caught.value.hint
    assert not (tmp_path / "cal.gguf").exists()
