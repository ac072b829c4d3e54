"""Sequential rounding on real weights: better than rounding by the float model's moments, the same bytes for
any number of threads, and least squares where it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq
from ruvq.calibrate import calibrate
from ruvq.evaluate import perplexity
from ruvq.formats.transform import Transform
from ruvq.gguf import GGUFFile
from ruvq.quantize.feedback import Guide, factorise
from ruvq.quantize.pipeline import quantize_model

TOKENS = 4096


@pytest.fixture(scope="module")
def made(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two files of each kind, of one and of two threads."""
    folder, data = tmp_path_factory.mktemp("sequential"), data_dir / "stories260K"
    source, tokenizer = data / "stories260K.bin", data / "tok512.bin"
    artifact = folder / "calibration.gguf"
    text = str(data_dir / "text" / "tiny_stories_train.txt")
    calibrate(source, [text], artifact, tokenizer=tokenizer, max_tokens=TOKENS, timestamp="t")
    out: dict[str, Any] = {}
    for sequential in (False, True):
        for threads in (1, 2):
            path = folder / f"{sequential}-{threads}.gguf"
            report = quantize_model(
                source, path, "pi-t2", tokenizer=tokenizer, embeddings="f16", calibration=artifact,
                sequential=sequential, threads=threads, progress=False, timestamp="t",
            )  # fmt: skip
            out[f"{sequential}-{threads}"] = path, report
    return out


def test_the_bytes_don_t_depend_on_threads(made: dict[str, Any]) -> None:
    assert made["True-1"][0].read_bytes() == made["True-2"][0].read_bytes()


def test_perplexity_falls_at_the_same_size(made: dict[str, Any], data_dir: Path) -> None:
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    values = []
    for kind in ("False-1", "True-1"):
        with ruvq.Model.open(made[kind][0]) as model:
            values.append(float(perplexity(model, text, max_tokens=2000)))
    assert values[1] < 0.92 * values[0]
    plain, sequential = (made[kind][1] for kind in ("False-1", "True-1"))
    assert plain.tensor_bytes == sequential.tensor_bytes


def test_only_the_layers_matrices_differ(made: dict[str, Any]) -> None:
    with GGUFFile.open(made["False-1"][0]) as a, GGUFFile.open(made["True-1"][0]) as b:
        for tensor in a.tensors:
            if tensor.name.startswith("blk.0.attn_") and "output" not in tensor.name:
                continue  # their inputs are the float model's but for the embedding's rounding
            differs = tensor.name.startswith("blk.") and len(tensor.shape) > 1
            assert (a.tensor_bytes(tensor.name) != b.tensor_bytes(tensor.name)) == differs
    assert all(t.snr_db > 3 for t in made["True-1"][1].tensors if len(t.shape) > 1)


@pytest.mark.parametrize("seed", [None, 5])
def test_the_weights_to_round_are_the_least_squares_answer(seed: int | None) -> None:
    rng = np.random.default_rng(0)
    rows, width, tokens, damping = 20, 24, 400, 0.01
    x = rng.normal(size=(tokens, width)) @ rng.normal(size=(width, width))
    z = x + 0.3 * rng.normal(size=(tokens, width))
    w = rng.normal(size=(rows, width)).astype(np.float32)
    h = z.T @ z
    d = damping * np.mean(np.diagonal(h)) * np.eye(width)
    expected = (w @ (x.T @ z + d)) @ np.linalg.inv(h + d)
    if seed is not None:
        expected = np.asarray(ruvq.hadamard(expected.astype(np.float32), seed))
    turn = None if seed is None else Transform(seed)
    factor = factorise(h.astype(np.float32), turn, damping, "test")
    cross = (x.T @ z).astype(np.float32) * factor.scale
    product = (w @ (x.T @ z)).astype(np.float32) * factor.scale
    for guide in (
        Guide(factor, cross=cross, damping=damping),
        Guide(factor, product=product, damping=damping),
    ):
        pieces = [guide.aim(first, w[first : first + 7], turn) for first in range(0, rows, 7)]
        np.testing.assert_allclose(np.concatenate(pieces), expected, atol=2e-3)
    assert Guide(factor).aim(0, w, turn) is None
