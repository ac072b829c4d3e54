"""Metrics against direct NumPy: Parseval's theorem, rings of the spectrum, products, attention scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ruvq.evaluate.metrics import (
    BANDS,
    TILE,
    attention_score_snr_db,
    mean,
    measure,
    output_snr_db,
    spectra,
)


def matrices(rows: int = 40, width: int = 24, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    a = random.normal(size=(rows, width)).astype(np.float32)
    return a, (a + noise * random.normal(size=a.shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 7), (40, 24), (TILE + 3, 16)])
def test_over_all_bins_the_spectrum_is_the_squared_error(shape: tuple[int, int]) -> None:
    a, b = matrices(*shape)
    noise, signal = spectra(a, b)
    assert noise.sum() == pytest.approx(np.sum((a.astype(float) - b) ** 2), rel=1e-9)
    assert signal.sum() == pytest.approx(np.sum(a.astype(float) ** 2), rel=1e-9)
    found = measure(a, b)
    assert found.spectral_distortion_db == pytest.approx(-found.snr_db, abs=1e-6)


def test_a_slow_error_lies_in_the_first_ring_and_a_fast_one_in_the_last() -> None:
    a, _ = matrices(32, 32)
    slow = a + np.float32(0.5)
    fast = a + np.float32(0.5) * (-1) ** np.add.outer(np.arange(32), np.arange(32)).astype(np.float32)
    assert int(np.argmax(spectra(a, slow)[0])) == 0
    assert int(np.argmax(spectra(a, fast.astype(np.float32))[0])) == BANDS - 1


def test_an_exact_copy_has_no_distortion_anywhere() -> None:
    a, _ = matrices()
    found = measure(a, a)
    assert found.mse == 0
    assert found.spectral_distortion_db == -math.inf
    assert found.cosine == pytest.approx(1)


def test_products_are_measured_as_if_with_the_inputs_themselves() -> None:
    a, b = matrices()
    random = np.random.default_rng(5)
    x = random.normal(size=(500, 24)) @ random.normal(size=(24, 24))
    moment = (x.T @ x).astype(np.float32)
    products, error = x @ a.T, x @ (a.astype(float) - b).T
    expected = 10 * math.log10(np.sum(products**2) / np.sum(error**2))
    assert output_snr_db(a, b, moment) == pytest.approx(expected, abs=1e-3)
    diagonal = np.ones(24, np.float32)
    assert output_snr_db(a, b, diagonal) == pytest.approx(measure(a, b).snr_db, abs=1e-3)


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("kind", ["white", "diagonal", "whole"])
def test_attention_scores_are_those_of_all_pairs_of_inputs(key_heads: int, kind: str) -> None:
    heads, head_width, width = 4, 6, 24
    q = matrices(heads * head_width, width, 0.2)
    k = matrices(key_heads * head_width, width, 0.1)
    random = np.random.default_rng(7)
    x = np.eye(width) * math.sqrt(width)  # of second moments 1 exactly
    if kind == "diagonal":
        x = x * random.uniform(0.5, 2, width)
    if kind == "whole":
        x = random.normal(size=(64, width)) @ random.normal(size=(width, width))
    whole = x.T @ x / len(x)
    moment = {"white": None, "diagonal": np.diagonal(whole), "whole": whole}[kind]
    signal = noise = 0.0
    for head in range(heads):
        at = head // (heads // key_heads)
        scores = [
            (x @ qs[head * head_width : (head + 1) * head_width].T)
            @ (x @ ks[at * head_width : (at + 1) * head_width].T).T
            for qs, ks in zip(q, k, strict=True)
        ]
        signal += np.sum(scores[0] ** 2)
        noise += np.sum((scores[0] - scores[1]) ** 2)
    expected = 10 * math.log10(signal / noise)
    assert attention_score_snr_db(q, k, heads, moment) == pytest.approx(expected, abs=1e-6)


def test_the_mean_over_matrices_counts_weights_for_the_mse_only() -> None:
    a, b = measure(*matrices(10, 24)), measure(*matrices(30, 24, 0.3))
    found = mean([a, b], [240, 720])
    assert found.mse == pytest.approx((240 * a.mse + 720 * b.mse) / 960)
    assert found.snr_db == pytest.approx((a.snr_db + b.snr_db) / 2)
    assert found.output_snr_db is None
