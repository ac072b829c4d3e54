"""What calibration refuses: each with what was expected, what was found, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvq.calibrate import calibrate
from ruvq.errors import DataError, ModelError, UsageError
from ruvq.gguf import GGUFFile
from ruvq.gguf.types import TensorSpec
from ruvq.gguf.writer import write_gguf
from ruvq.quantize.pipeline import quantize_model
from sources.tiny_models import random_weights, write_huggingface

WORDS = "one two three four five six seven eight nine ten "


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n<|endoftext|>\n".join(f"{i} " + WORDS * 5 for i in range(60)))
    return str(path)


def model(folder: Path, edit: Any = lambda weights: None) -> Path:
    """A GGUF file of a random model in f32, after `edit` of its weights."""
    weights = random_weights()
    edit(weights)
    path = folder / "model.gguf"
    quantize_model(write_huggingface(folder / "source", weights), path, "f32", progress=False)
    return path


def damaged(path: Path, name: str, value: float) -> Path:
    """The same file with a tensor full of one value, which no source would give."""
    with GGUFFile.open(path) as file:
        tensor = file.tensor(name)
    with open(path, "rb+") as out:
        out.seek(tensor.offset)
        out.write(np.full(tensor.nbytes // 4, value, "<f4").tobytes())
    return path


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name not in ("model.gguf", "source"))


def test_activations_that_are_not_finite_name_the_layer(text: str, tmp_path: Path) -> None:
    path = damaged(model(tmp_path), "blk.1.attn_norm.weight", 3e38)
    with pytest.raises(DataError, match=r"layer 1, attention input.*finite.*NaN or infinity"):
        calibrate(path, [text], tmp_path / "c.gguf")
    path = damaged(path, "blk.1.attn_norm.weight", np.nan)
    with pytest.raises(DataError, match=r"blk\.1\.attn_norm\.weight.*NaN or infinity"):
        calibrate(path, [text], tmp_path / "c.gguf")
    assert leftovers(tmp_path) == []


def test_layers_that_nothing_reaches_are_refused(text: str, tmp_path: Path) -> None:
    path = damaged(model(tmp_path), "blk.1.ffn_norm.weight", 0.0)
    with pytest.raises(DataError, match=r"blk\.1\.feed_forward, blk\.1\.down.*never reached"):
        calibrate(path, [text], tmp_path / "c.gguf")
    assert leftovers(tmp_path) == []


def test_too_few_samples_and_tokens_are_refused(text: str, tmp_path: Path) -> None:
    path = model(tmp_path)
    with pytest.raises(UsageError, match="too few samples of a domain") as error:
        calibrate(path, [f"math={text}"], tmp_path / "c.gguf", counts={"math": 1000})
    assert (error.value.expected, error.value.actual) == ("1000", "60")
    with pytest.raises(UsageError, match="too little text") as error:
        calibrate(path, [text], tmp_path / "c.gguf", samples=1)
    assert error.value.expected == "at least 1,024 tokens"
    with pytest.raises(UsageError, match="too few samples of a domain"):
        calibrate(path, [text], tmp_path / "c.gguf", domains=["code"])
    assert leftovers(tmp_path) == []


def test_outliers_are_refused_unless_allowed(text: str, tmp_path: Path) -> None:
    """One token of which the first layer makes far more than of all others, in one text only."""

    def edit(weights: dict[str, np.ndarray]) -> None:
        embedding = weights["token_embd.weight"]
        embedding[:, 0] = 0
        embedding[-1] = np.eye(embedding.shape[1])[0]
        weights["blk.0.attn_output.weight"][0] = 0
        weights["blk.0.ffn_gate.weight"][:, 0] = weights["blk.0.ffn_up.weight"][:, 0] = 20

    path = model(tmp_path, edit)
    with GGUFFile.open(path) as file:
        token = file.metadata["tokenizer.ggml.tokens"][-1]
    odd = tmp_path / "odd.txt"
    odd.write_text((WORDS + token) * 20)
    with pytest.raises(DataError, match=r"holds outliers.*window"):
        calibrate(path, [text, f"math={odd}"], tmp_path / "c.gguf")
    odd_only = [p for p in leftovers(tmp_path) if p != "odd.txt"]
    assert odd_only == []
    report = calibrate(path, [text, f"math={odd}"], tmp_path / "c.gguf", allow_outliers=True)
    assert report.outliers
    assert all("times the median" in outlier for outlier in report.outliers)


def test_inv_5_the_artifact_says_where_it_comes_from(text: str, tmp_path: Path) -> None:
    path = model(tmp_path)
    report = calibrate(path, [text], tmp_path / "c.gguf", seed=3, timestamp="2026-01-02T03:04:05Z")
    with GGUFFile.open(tmp_path / "c.gguf") as file:
        keys = {
            k.rpartition(".")[2]: v for k, v in file.metadata.items() if k.startswith("ruvq.calibration.")
        }
        recipe = json.loads(file.metadata["ruvq.recipe"])
    assert keys["digest"] == report.digest == recipe["calibration"]
    assert (keys["samples"], keys["tokens"], keys["seed"]) == (report.samples, report.tokens, 3)
    assert keys["timestamp"] == recipe["timestamp"] == "2026-01-02T03:04:05Z"
    assert keys["domains"] == [f"language={report.samples}"]
    assert len(keys["ids"]) == sum(keys["windows"]) == report.tokens
    quantize_model(path, tmp_path / "q.gguf", "pi-t3", calibration=tmp_path / "c.gguf", progress=False)
    with GGUFFile.open(tmp_path / "q.gguf") as file:
        recipe = json.loads(file.metadata["ruvq.recipe"])
    assert (recipe["calibration"], recipe["samples"]) == (report.digest, report.samples)


def test_sequential_rounding_wants_the_tokens_of_this_model(text: str, tmp_path: Path) -> None:
    path = model(tmp_path)
    options: dict[str, Any] = {"sequential": True, "progress": False}
    with pytest.raises(UsageError, match="runs the model on the calibration's tokens"):
        quantize_model(path, tmp_path / "q.gguf", "pi-t3", **options)
    imatrix = tmp_path / "imatrix.gguf"
    write_gguf(
        imatrix, "llama", {"general.type": "imatrix"}, [(TensorSpec("a", "f32", (4,)), lambda: bytes(16))]
    )
    with pytest.raises(UsageError, match="without tokens"):
        quantize_model(path, tmp_path / "q.gguf", "pi-t3", calibration=imatrix, **options)
    calibrate(path, [text], tmp_path / "c.gguf")
    other = damaged(path, "output_norm.weight", 0.5)
    with pytest.raises(ModelError, match="another model"):
        quantize_model(other, tmp_path / "q.gguf", "pi-t3", calibration=tmp_path / "c.gguf", **options)
    assert leftovers(tmp_path) == ["c.gguf", "imatrix.gguf"]
