"""A rotated residual stream: the same logits from other weights, and less error in few bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq
from quantize.test_real_weights import read_safetensors
from ruvq.errors import UsageError
from ruvq.gguf import GGUFFile
from ruvq.quantize import rotation
from ruvq.quantize.pipeline import quantize_model
from ruvq.sources import open_source
from sources.tiny_models import TINY, random_weights, write_huggingface

FIXED = {"timestamp": "2026-01-01T00:00:00Z", "progress": False}
TOKENS = [1, 5, 260, 17, 3, 3, 100, 44, 8, 91]
MODELS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tied": False},
    "wide heads": {"head_width": 12},
    "odd pieces": {"width": 44, "head_width": 8},
    "biases": {"attention_bias": True},
    "qwen2": {"architecture": "qwen2"},
    "qwen3": {"architecture": "qwen3"},
}


def logits_of(path: Path) -> np.ndarray:
    with ruvq.Model.open(path, kv="f32") as model:
        return np.asarray(model.logits(TOKENS), np.float64)


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    with GGUFFile.open(path) as file:
        return {
            t.name: np.frombuffer(file.tensor_bytes(t.name), "<f4").reshape(t.shape) for t in file.tensors
        }


@pytest.mark.parametrize("rotate", ["residual", "values", "all"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_rotated_float_model_computes_the_same(tmp_path: Path, kind: str, rotate: str) -> None:
    parameters = dataclasses.replace(TINY, **MODELS[kind])
    model = write_huggingface(tmp_path / "model", random_weights(parameters), parameters)
    quantize_model(model, tmp_path / "a.gguf", "f32", **FIXED)
    quantize_model(model, tmp_path / "b.gguf", "f32", rotate=rotate, seed=3, **FIXED)
    before, after = logits_of(tmp_path / "a.gguf"), logits_of(tmp_path / "b.gguf")
    np.testing.assert_allclose(after, before, atol=2e-4 * np.abs(before).max())
    plain, rotated = tensors_of(tmp_path / "a.gguf"), tensors_of(tmp_path / "b.gguf")
    for name, w in rotated.items():
        if name.endswith(("attn_norm.weight", "ffn_norm.weight", "output_norm.weight")):
            assert (w == 1).all() == (rotate != "values")
        elif w.ndim == 2 and name in plain:
            turned = rotate != "values" or "attn_v" in name or "attn_output" in name
            assert (np.abs(w - plain[name]).max() > 0.1 * np.abs(w).max()) == turned, name


def test_matrices_keep_their_energy_once_gains_are_absorbed(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    quantize_model(model, tmp_path / "a.gguf", "f32", **FIXED)
    quantize_model(model, tmp_path / "b.gguf", "f32", rotate="residual", **FIXED)
    plain, rotated = tensors_of(tmp_path / "a.gguf"), tensors_of(tmp_path / "b.gguf")
    for layer in range(TINY.layers):
        for name, norm in (("attn_q", "attn_norm"), ("ffn_up", "ffn_norm"), ("ffn_down", None)):
            w = plain[f"blk.{layer}.{name}.weight"]
            if norm:
                w = w * plain[f"blk.{layer}.{norm}.weight"]
            energy = np.square(rotated[f"blk.{layer}.{name}.weight"].astype(np.float64)).sum()
            assert energy == pytest.approx(np.square(w.astype(np.float64)).sum(), rel=1e-5)


def test_chunks_and_threads_don_t_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    quantize_model(model, tmp_path / "a.gguf", "pi-q3", rotate="residual", threads=1, **FIXED)
    monkeypatch.setattr("ruvq.quantize.rows.CHUNK_WEIGHTS", 300)
    quantize_model(model, tmp_path / "b.gguf", "pi-q3", rotate="residual", threads=3, **FIXED)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_an_outlier_channel_is_spread_over_many(tmp_path: Path) -> None:
    """One channel of the residual stream a hundred times as large, as trained models have it."""
    weights = random_weights()
    weights["token_embd.weight"][:, 5] *= 100
    weights["blk.0.attn_norm.weight"][5] /= 100
    model = write_huggingface(tmp_path / "model", weights)
    quantize_model(model, tmp_path / "float.gguf", "f32", **FIXED)
    exact, errors = logits_of(tmp_path / "float.gguf"), []
    for rotate in ("none", "residual"):
        quantize_model(model, tmp_path / "q.gguf", "pi-q3", rotate=rotate, overwrite=True, **FIXED)
        errors.append(float(np.square(logits_of(tmp_path / "q.gguf") - exact).sum()))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("format", ["q2_k", "q3_k", "q4_k"])
def test_real_matrices_lose_less_in_few_bits(data_dir: Path, format: str) -> None:
    """GPT-2's attention projections, their rows turned as those of matrices that read the stream are."""
    matrices = read_safetensors(data_dir / "gpt2_attention" / "layers_0_5.safetensors")
    gains = []
    for w in matrices.values():
        rows = np.ascontiguousarray(w[::12])
        before, after = (
            ruvq.compare(x, ruvq.dequantize(ruvq.quantize(x, format))).snr_db
            for x in (rows, ruvq.hadamard(rows, 0))
        )
        gains.append(after - before)
    assert min(gains) > -0.03
    assert np.mean(gains) > 0.08
    assert max(gains) > 0.3  # the matrix with the largest outliers


# ---- what is told and refused ----


def test_a_tied_embedding_is_said_to_be_stored_twice(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    with open_source(model) as source:
        turned = rotation.apply(source, "residual", 0)
        assert any("tied" in note for note in turned.notes)
        assert "output.weight" in turned.tensors
        assert rotation.apply(source, "none", 0) is source


def test_what_can_t_be_rotated_is_refused(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    with pytest.raises(UsageError, match="none, residual, values, all"):
        quantize_model(model, tmp_path / "a.gguf", "pi-q3", rotate="queries", **FIXED)
    with pytest.raises(UsageError, match="calibrate that"):
        quantize_model(model, tmp_path / "a.gguf", "pi-q3", rotate="residual", calibration="c.gguf", **FIXED)
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize("option", [{"rotate": "residual"}, {"calibration": "c.gguf"}])
def test_what_browsers_packages_leave_out_is_refused_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, str]
) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    monkeypatch.setattr(type(ruvq.core.get()), "host", "wasm")
    with pytest.raises(UsageError, match="on the desktop"):
        quantize_model(model, tmp_path / "a.gguf", "pi-q3", **option, **FIXED)
