"""The matrix functions of ruvq.js give, to the bit, what those of Python give natively."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq

ROWS, WIDTH = 7, 96


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(4).normal(0, 0.7, (ROWS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def answer(
    weights: np.ndarray, node: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, models: Path
) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("quant") / "weights.f32"
    path.write_bytes(weights.tobytes())
    return node("node_quant.mjs", path, models / "pi-t3.gguf")


def test_bytes_weights_and_products_are_the_native_ones(weights: np.ndarray, answer: dict[str, Any]) -> None:
    assert len(answer["formats"]) == 7
    for name, found in answer["formats"].items():
        tensor = ruvq.quantize(weights, name)
        assert found["data"] == tensor.data.hex(), name
        assert found["shape"] == [ROWS, WIDTH]
        assert found["bitsPerWeight"] == tensor.bits_per_weight
        restored = np.asarray(ruvq.dequantize(tensor, as_numpy=True))
        assert np.array_equal(np.array(found["weights"], np.float32).reshape(ROWS, WIDTH), restored), name
        product = np.asarray(ruvq.matvec(tensor, weights[0], as_numpy=True))
        assert np.array_equal(np.array(found["product"], np.float32), product), name
        comparison = ruvq.compare(weights, restored)
        assert found["comparison"]["mse"] == comparison.mse
        assert found["comparison"]["cosine"] == comparison.cosine
        assert found["comparison"]["outlierRetention"] == comparison.outlier_retention


def test_the_pi_grid_is_an_object(weights: np.ndarray, answer: dict[str, Any]) -> None:
    pi = answer["pi"]
    assert (pi["bitsPerWeight"], pi["two"]) == (3.0625, 2.0625)
    assert pi["stepSize"] == math.pi / 5
    assert pi["json"] == '{"bits":3,"k":5}'
    assert pi["again"] == [3, 5]
    tensor = ruvq.quantize(weights, "pi-q3", k=5)
    assert pi["data"] == tensor.data.hex()
    comparison = ruvq.compare(weights, ruvq.dequantize(tensor, as_numpy=True))
    assert (pi["mse"], pi["spectral"]) == (comparison.mse, comparison.spectral_distortion_db)


def test_what_cannot_be_is_a_typed_error(answer: dict[str, Any]) -> None:
    assert answer["early"] == {"name": "UsageError", "subject": "", "typed": True}
    names = [error.get("name") for error in answer["refused"]]
    assert names == ["UsageError"] * 5 + ["DataError"] + ["UsageError"] * 3


def test_the_benchmark_measures_every_format_and_sorts_them(answer: dict[str, Any]) -> None:
    assert [result["format"] for result in answer["bench"]] == ["q8_0", "pi-t3", "pi-t2"]
    for result in answer["bench"]:
        assert min(result[f"{kind}Millions"] for kind in ("encode", "decode", "product")) > 0
        assert result["spectralDistortionDb"] == pytest.approx(-result["snrDb"])
    assert {"pi-t3", "pi-t2", "pi-q3", "pi-q2", "ternary", "q8_0", "f32"} <= set(answer["all"])


def test_a_tokenizer_opens_without_a_model(answer: dict[str, Any], models: Path) -> None:
    tokenizer = ruvq.Tokenizer.from_gguf(models / "pi-t3.gguf")
    assert answer["ids"] == tokenizer.encode("Once upon a time")
    assert answer["text"] == "Once upon a time"
