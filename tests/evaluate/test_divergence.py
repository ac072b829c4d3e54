"""Predictions of two models compared: against NumPy on their logits, and what can't be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq
from ruvq.cli import main
from ruvq.errors import UsageError
from ruvq.evaluate import eval_windows, perplexity
from ruvq.evaluate.divergence import compare_models, mean_over
from ruvq.quantize.pipeline import quantize_model
from sources.tiny_models import random_weights, write_huggingface

TEXT = "some words to be predicted<|endoftext|>and a few others, of another piece<|endoftext|>the end of it"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    model = write_huggingface(tmp_path / "model", random_weights())
    out = {}
    for format in ("f32", "pi-t2"):
        out[format] = tmp_path / f"{format}.gguf"
        quantize_model(model, out[format], format, progress=False)
    return out


def probabilities(model: ruvq.Model, tokens: list[int]) -> np.ndarray:
    logits = np.asarray(model.logits(tokens), np.float64)[:-1]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_divergence_agreement_and_ratio_are_what_the_logits_say(files: dict[str, Path]) -> None:
    seen: list[Any] = []
    with ruvq.Model.open(files["pi-t2"]) as model, ruvq.Model.open(files["f32"], kv="f32") as reference:
        found = compare_models(model, reference, TEXT, window=16, progress=lambda *now: seen.append(now))
        kl, same, ratio = [], [], []
        for tokens in eval_windows(TEXT, model.tokenizer, 16):
            p, q = probabilities(reference, tokens), probabilities(model, tokens)
            kl.append(np.sum(p * np.log(p / q), axis=1))
            same.append(p.argmax(axis=1) == q.argmax(axis=1))
            rows = np.arange(len(tokens) - 1)
            ratio.append(np.log(p[rows, tokens[1:]] / q[rows, tokens[1:]]))
        plain = perplexity(model, TEXT, window=16)
    assert found.kl.value == pytest.approx(np.concatenate(kl).mean(), rel=1e-9)
    assert found.same_top.value == pytest.approx(np.concatenate(same).mean())
    assert found.log_ratio.value == pytest.approx(np.concatenate(ratio).mean(), rel=1e-9)
    assert float(found.perplexity) == pytest.approx(float(plain), rel=1e-5)
    assert found.perplexity.stderr == pytest.approx(plain.stderr, rel=1e-4)
    assert float(found.reference) * math.exp(found.log_ratio.value) == pytest.approx(float(found.perplexity))
    assert found.kl_percentiles[100] == pytest.approx(np.concatenate(kl).max())
    assert found.kl_percentiles[50] == pytest.approx(np.median(np.concatenate(kl)))
    assert (found.tokens, found.windows) == (plain.tokens, plain.windows)
    assert seen[-1][:2] == (plain.tokens, plain.tokens)
    assert seen[-1][2] == pytest.approx(float(plain), rel=1e-5)


def test_errors_are_taken_over_windows() -> None:
    windows = [[1.0, 2.0, 3.0], [5.0], [2.0, 2.0]]
    found = mean_over(windows)
    flat = np.concatenate(windows)
    spread = sum((sum(w) - flat.mean() * len(w)) ** 2 for w in windows) * 3 / 2
    assert found.value == pytest.approx(flat.mean())
    assert found.stderr == pytest.approx(math.sqrt(spread) / len(flat))
    one = mean_over([[1.0, 2.0, 4.0]])  # a single window: over its tokens
    assert one.stderr == pytest.approx(np.std([1.0, 2.0, 4.0], ddof=1) / math.sqrt(3))
    assert mean_over([[7.0]]).stderr == 0


def test_a_model_against_itself_has_no_divergence(files: dict[str, Path]) -> None:
    with ruvq.Model.open(files["pi-t2"]) as model, ruvq.Model.open(files["pi-t2"]) as again:
        found = compare_models(model, again, TEXT)
    assert (found.kl.value, found.same_top.value, found.log_ratio.value) == (0, 1, 0)


def test_other_vocabularies_are_refused(files: dict[str, Path], data_dir: Path, tmp_path: Path) -> None:
    folder, other = data_dir / "stories260K", tmp_path / "other.gguf"
    tokenizer = folder / "tok512.bin"
    quantize_model(folder / "stories260K.bin", other, "f32", tokenizer=tokenizer, progress=False)
    with (
        ruvq.Model.open(files["pi-t2"]) as model,
        ruvq.Model.open(other) as reference,
        pytest.raises(UsageError, match="different vocabularies"),
    ):
        compare_models(model, reference, TEXT)


def test_nothing_to_predict_is_refused(files: dict[str, Path]) -> None:
    with (
        ruvq.Model.open(files["pi-t2"]) as model,
        ruvq.Model.open(files["f32"]) as reference,
        pytest.raises(UsageError, match="nothing to predict"),
    ):
        compare_models(model, reference, "<|endoftext|>")


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main([str(w) for w in words])
    out, err = capfd.readouterr()
    return code, out, err


def test_eval_against_the_float_model_prints_and_gives_all_figures(
    files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    words = ["eval", files["pi-t2"], "--against", files["f32"], "--text", text, "--window", 16]
    code, out, _ = run(capfd, *words, "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0
    assert found["kl_divergence"] > found["kl_stderr"] > 0
    assert 0 <= found["same_top_token"] <= 1
    assert found["perplexity_ratio"] == pytest.approx(found["perplexity"] / found["reference_perplexity"])
    assert list(found["kl_percentiles"]) == ["50", "90", "95", "99", "100"]
    code, out, _ = run(capfd, *words)
    assert code == 0
    for part in ("perplexity", "float model", "KL divergence", "same top token"):
        assert part in out
    code, out, _ = run(capfd, *words[:3], tmp_path / "missing.gguf", *words[4:], "--json")
    assert code == 3
    assert json.loads(out.splitlines()[-1])["error"] == "StorageError"
