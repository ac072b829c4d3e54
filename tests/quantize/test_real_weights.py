"""Quality on real matrices: GPT-2's attention projections, outliers and all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gguf
import ruvq


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """float32 tensors of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data, "<f4", int(np.prod(t["shape"])), 8 + length + t["data_offsets"][0]).reshape(
            t["shape"]
        )
        for name, t in header.items()
    }


@pytest.fixture(scope="module")
def matrices(data_dir: Path) -> dict[str, np.ndarray]:
    """Every third row of each matrix: (256, 768)."""
    return {
        name: np.ascontiguousarray(w[::3])
        for name, w in read_safetensors(data_dir / "gpt2_attention" / "layers_0_5.safetensors").items()
    }


@pytest.fixture(scope="module")
def comparisons(matrices: dict[str, np.ndarray]) -> dict[str, dict[str, ruvq.quantize.Comparison]]:
    """By format and matrix."""
    names = ("pi-t3", "pi-t2", "pi-x3", "pi-x2", "pi-q3", "pi-q2", "ternary")
    return {
        f: {m: ruvq.compare(w, ruvq.dequantize(ruvq.quantize(w, f))) for m, w in matrices.items()}
        for f in names
    }


@pytest.mark.parametrize(("trellis", "uniform"), [("pi-t3", "pi-q3"), ("pi-t2", "pi-q2")])
def test_trellis_has_less_than_0_70_of_the_uniform_grids_error(
    comparisons: dict, trellis: str, uniform: str
) -> None:
    """The uniform grid with the same search is pi-q: pi is only a scale."""
    for name, c in comparisons[trellis].items():
        assert c.mse < 0.70 * comparisons[uniform][name].mse, name


@pytest.mark.parametrize(
    ("name", "mean", "worst"),
    [
        ("pi-t3", 16.4, 16.0),
        ("pi-x3", 16.8, 16.4),
        ("pi-x2", 11.0, 10.5),
        ("pi-q3", 13.7, 12.7),
        ("pi-t2", 10.5, 10.0),
        ("pi-q2", 8.3, 7.7),
        ("ternary", 6.9, 6.3),
    ],
)
def test_signal_to_noise_ratios_reach_their_floors(
    comparisons: dict, name: str, mean: float, worst: float
) -> None:
    snr = [c.snr_db for c in comparisons[name].values()]
    assert np.mean(snr) >= mean
    assert min(snr) >= worst


def test_searched_scales_beat_the_fixed_rules(matrices: dict[str, np.ndarray]) -> None:
    for name, w in matrices.items():
        snr = {
            rule: ruvq.compare(w, ruvq.dequantize(ruvq.quantize(w, "pi-q3", scale=rule))).snr_db
            for rule in ("mse", "mse-unsigned", "rms", "absmax")
        }
        assert snr["mse"] > snr["mse-unsigned"] > max(snr["rms"], snr["absmax"]), name


def test_trellis_keeps_outliers_better_than_the_searched_grid(comparisons: dict) -> None:
    for name, c in comparisons["pi-t3"].items():
        assert c.outlier_retention > comparisons["pi-q3"][name].outlier_retention, name
        assert c.outlier_retention > 0.85, name


def test_importance_of_real_columns_lowers_the_output_error(matrices: dict[str, np.ndarray]) -> None:
    """With activations whose columns differ by a known spread, E|W x - W' x|^2 is the weighted error."""
    rng = np.random.default_rng(1)
    importance = np.exp(rng.normal(size=768) * 1.5).astype(np.float32)
    w = matrices["blk.5.attn_value.weight"]
    errors = [
        float((np.square(w.astype(np.float64) - ruvq.dequantize(q)) * importance).sum())
        for q in (ruvq.quantize(w, "pi-t3"), ruvq.quantize(w, "pi-t3", importance=importance))
    ]
    assert errors[1] < 0.92 * errors[0]


def test_q8_0_of_real_weights_is_byte_for_byte_ggmls(matrices: dict[str, np.ndarray]) -> None:
    for w in matrices.values():
        assert ruvq.quantize(w, "q8_0").data == gguf.quantize(w, gguf.GGMLQuantizationType.Q8_0).tobytes()
