"""The gates: figures as `ruvq.compare` has them, verdicts by the rule, baselines, exit codes, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq
from ruvq.calibrate import calibrate
from ruvq.cli import main
from ruvq.errors import UsageError
from ruvq.evaluate import ggml_peer
from ruvq.evaluate.gate_g1 import ABSMAX, SEARCHED, better, gate_g1
from ruvq.evaluate.gate_g3 import CANDIDATES, CASES, GateG3, Row, gate_g3
from ruvq.evaluate.metrics import Metrics
from ruvq.evaluate.round_trip import write_round_trip
from ruvq.evaluate.schemes import Matrices, Matrix, Scheme, apply
from ruvq.gguf import GGUFFile
from ruvq.quantize.pipeline import quantize_model
from sources.tiny_models import random_weights, safetensors_bytes, write_huggingface


@pytest.fixture
def matrices_file(tmp_path: Path) -> Path:
    random = np.random.default_rng(11)
    path = tmp_path / "layers.safetensors"
    tensors = {f"m{i}": random.standard_t(4, (24, 256)).astype(np.float32) for i in range(2)}
    path.write_bytes(safetensors_bytes({**tensors, "bias": np.ones(4, np.float32)}))
    return path


@pytest.fixture(scope="module")
def stories(data_dir: Path) -> dict[str, Any]:
    folder = data_dir / "stories260K"
    return {"input": folder / "stories260K.bin", "tokenizer": str(folder / "tok512.bin")}


@pytest.fixture(scope="module")
def artifact(stories: dict[str, Any], data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "calibration.gguf"
    texts = [str(data_dir / "text" / "tiny_stories_train.txt")]
    calibrate(stories["input"], texts, path, tokenizer=stories["tokenizer"], max_tokens=4096)
    return path


def call(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main([str(w) for w in words])
    out, err = capfd.readouterr()
    return code, out, err


# ---- G1 ----


def test_g1_has_the_figures_of_compare_and_both_baselines(matrices_file: Path) -> None:
    with Matrices(matrices_file, rows=16) as matrices:
        assert [t.name for t in matrices.tensors] == ["m0", "m1"]
        values = [m.values for m in matrices]
        assert matrices.weights == sum(v.size for v in values) == 2 * 16 * 256
        found = gate_g1(matrices, peers=False)
    rows = {(r.scheme.label, r.scheme.preparation): r for r in found.rows}
    for label, scale in ((ABSMAX, "absmax"), (SEARCHED, "mse-unsigned"), ("pi-q3", "search")):
        row = rows[label, "none"]
        decoded = [ruvq.dequantize(ruvq.quantize(v, "pi-q3", scale=scale)) for v in values]
        snr = [ruvq.compare(v, d).snr_db for v, d in zip(values, decoded, strict=True)]
        assert row.metrics.snr_db == pytest.approx(np.mean(snr))
        assert row.bits == 3.0625
    assert {v.baseline for v in found.verdicts} == {ABSMAX, SEARCHED}
    assert {v.preparation for v in found.verdicts} == {"none", "hadamard"}
    for verdict in found.verdicts:
        ours = rows[verdict.candidate, verdict.preparation].metrics
        theirs = rows[verdict.baseline, verdict.preparation].metrics
        assert ("mse" in verdict.better) == (ours.mse < theirs.mse)
        assert verdict.go == (len(verdict.better) >= 2)
    assert rows["pi-t3", "none"].metrics.mse < 0.7 * rows[SEARCHED, "none"].metrics.mse


def metrics(mse: float, spectral: float, cosine: float, kept: float) -> Metrics:
    return Metrics(mse, -spectral, spectral, (), cosine, kept)


def test_a_measure_is_won_by_being_better_not_equal() -> None:
    base = metrics(1.0, -10, 0.9, 0.8)
    assert better(metrics(0.5, -12, 0.95, 0.7), base) == ("mse", "spectral_distortion_db", "cosine")
    assert better(base, base) == ()
    assert better(metrics(2.0, -8, 0.8, 0.9), base) == ("outlier_retention",)


def test_g1_gives_the_products_of_held_out_text_under_every_preparation(
    stories: dict[str, Any], artifact: Path
) -> None:
    options: dict[str, Any] = {"calibration": artifact, "held_out": artifact, "rows": 32, "most": 6}
    with Matrices(stories["input"], tokenizer=stories["tokenizer"], **options) as matrices:
        assert len(matrices.tensors) == 6
        assert matrices.calibrated
        found = gate_g1(matrices, "pi-t3", peers=False)
    assert {r.scheme.preparation for r in found.rows} == {"none", "hadamard", "hadamard + feedback"}
    assert all(r.metrics.output_snr_db is not None for r in found.rows)
    by = {(r.scheme.label, r.scheme.preparation): r.metrics.output_snr_db for r in found.rows}
    assert (by["pi-t3", "hadamard + feedback"] or 0) > (by["pi-t3", "hadamard"] or 0)
    flat = [r for r in found.rows if r.scheme.flat]
    assert flat  # widths of 64: ggml's formats need rows of 256, so ruvq's are shown in them too
    assert all(r.bits == 3.0625 for r in flat)


def test_feedback_needs_whole_rows_with_second_moments() -> None:
    matrix = Matrix("m", np.ones((4, 64), np.float32))
    with pytest.raises(UsageError, match="second moments"):
        apply(Scheme("x", "pi-t3", feedback=True), matrix)
    with pytest.raises(UsageError, match="rows of 256"):
        apply(Scheme("x", "pi-t3", flat=True), Matrix("m", np.ones((3, 64), np.float32)))


def test_g1_on_the_command_line(matrices_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["gate", "g1", "--input", matrices_file, "--rows", 8, "--no-peers"]
    code, out, err = call(capfd, *words, "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == (0 if found["go"] else 1)
    assert found["candidate"] == "pi-q3"
    assert "G1, pi-q3: " in err
    code, out, _ = call(capfd, *words, "--format", "pi-t3", "--table", "--quiet")
    assert code == 0
    assert out.splitlines()[1].startswith("| --- |")


def test_a_no_go_is_exit_code_1_and_says_what_the_plan_advises(
    matrices_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ruvq.evaluate.gate_g1.NEEDED", 5)  # of 4
    code, out, err = call(capfd, "gate", "g1", "--input", matrices_file, "--rows", 8, "--no-peers", "--json")
    found = json.loads(out.splitlines()[-1])
    assert (code, found["go"]) == (1, False)
    assert "de-scope to research" in found["advice"]
    assert "no-go" in err


def test_missing_peers_are_a_note_and_nothing_else(
    matrices_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUVQ_LLAMA_PYTHON", "/nowhere/python")
    with Matrices(matrices_file, rows=4) as matrices:
        found = gate_g1(matrices)
    assert not any(r.scheme.peer for r in found.rows)
    assert any("RUVQ_LLAMA_PYTHON" in note for note in found.notes)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["gate", "g4", "--input", "x"], 2, "invalid choice"),
        (["gate", "g1"], 2, "--input"),
        (["gate", "g1", "--input", "missing.safetensors"], 3, "missing.safetensors"),
        (["gate", "g1", "--input", "{file}", "--format", "pi-t2"], 2, "isn't compared"),
        (["gate", "g1", "--input", "{file}", "--format", "pi-z9"], 2, "unknown format"),
        (["gate", "g1", "--input", "{file}", "--rows", "0"], 2, "expected 1"),
        (["gate", "g1", "--input", "{empty}"], 2, "no matrices"),
        (["gate", "g3", "--input", "{file}", "--calibration", "x"], 2, "--text"),
        (["gate", "g3", "--input", "{file}", "--text", "{text}"], 2, "--calibration"),
        (["gate", "g3", "--input", "x", "--text", "none.txt", "--calibration", "y"], 3, "none.txt"),
    ],
)
def test_bad_input_is_named(
    matrices_file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    empty, text = tmp_path / "empty.safetensors", tmp_path / "text.txt"
    empty.write_bytes(safetensors_bytes({"bias": np.ones(4, np.float32)}))
    text.write_text("some text")
    found = call(capfd, *(w.format(file=matrices_file, empty=empty, text=text) for w in words))
    assert found[0] == code
    assert message in found[2]
    assert len(found[2].splitlines()) == 1


# ---- G3 ----


def g3(**perplexities: float) -> GateG3:
    names = {"f32": "f32", "pi_t2": "pi-t2", "pi_q2": "pi-q2", "q3_k": "q3_k"}
    rows = [Row(names[k], names[k], "x", 2.0, (v, v), 0.1) for k, v in perplexities.items()]
    return GateG3(rows, 1.3, 100)


def test_g3_goes_within_the_limit_of_float_or_of_q3_k() -> None:
    assert g3(f32=10, pi_t2=12, pi_q2=13).go
    assert not g3(f32=10, pi_t2=12, pi_q2=13.1).go
    found = g3(f32=10, pi_t2=12, pi_q2=15, q3_k=12)
    assert found.go
    assert found.verdicts()["pi-q2"] == {"of_float": 1.5, "of_q3_k": 1.25, "go": True}
    lost = g3(f32=10, pi_t2=12, pi_q2=16, q3_k=12)
    assert not lost.go
    assert "training" in lost.as_dict()["advice"]
    assert "no-go" in lost.statement()


@pytest.mark.slow
def test_g3_measures_every_case_on_real_weights(
    stories: dict[str, Any], artifact: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUVQ_LLAMA_PYTHON", "/nowhere/python")
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    seen: list[tuple[int, int, str]] = []
    found = gate_g3(
        stories["input"],
        text,
        artifact,
        tokenizer=stories["tokenizer"],
        embeddings="f16",
        max_tokens=1000,
        seeds=2,
        progress=lambda *now: seen.append(now),
    )
    rows = {row.label: row for row in found.rows}
    assert rows["f32"].perplexity < rows["pi-t3"].perplexity < rows["pi-t2"].perplexity
    assert rows["pi-t2"].perplexity < rows["pi-q2"].perplexity < rows["uniform, absmax"].perplexity
    assert len(rows["pi-t2"].perplexities) == 2
    assert len(set(rows["pi-t2"].perplexities)) == 2
    assert not found.go  # 2 bits without training: not on a model this small
    assert found.peer_row is None
    assert any("Q3_K is missing" in note for note in found.notes)
    assert seen[-1] == (15, 15, "")
    assert "range over seeds" in found.table(markdown=True)


@pytest.mark.slow
def test_g3_rounds_as_well_as_quantize_can(
    stories: dict[str, Any], artifact: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ruvq.evaluate.gate_g3.CASES", [c for c in CASES if c.label in CANDIDATES])
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    options: dict[str, Any] = {
        "tokenizer": stories["tokenizer"],
        "max_tokens": 1000,
        "peers": False,
    }
    plain, best = (
        gate_g3(stories["input"], text, artifact, **options, seeds=1, sequential=wanted, thorough=wanted)
        for wanted in (False, True)
    )
    assert best.verdicts()["pi-t2"]["of_float"] < 0.9 * plain.verdicts()["pi-t2"]["of_float"]
    assert {row.preparation for row in best.rows} == {"none", "hadamard + feedback, sequential, thorough"}


def test_a_round_trip_changes_matrices_and_nothing_else(tmp_path: Path) -> None:
    model = write_huggingface(tmp_path / "model", random_weights())
    whole, copy = tmp_path / "whole.gguf", tmp_path / "copy.gguf"
    quantize_model(model, whole, "f32", progress=False)
    doubled = "blk.0.attn_q.weight"
    write_round_trip(whole, copy, lambda name, values: values * 2 if name == doubled else values)
    with GGUFFile.open(whole) as a, GGUFFile.open(copy) as b:
        for tensor in a.tensors:
            before = np.frombuffer(a.tensor_bytes(tensor.name), np.float32)
            after = np.frombuffer(b.tensor_bytes(tensor.name), np.float32)
            factor = 2 if tensor.name == doubled else 1
            assert np.array_equal(after, factor * before)
    quantize_model(model, tmp_path / "half.gguf", "f16", progress=False)
    with pytest.raises(UsageError, match="only floats"):
        write_round_trip(tmp_path / "half.gguf", copy, lambda name, values: values)


def test_peers_of_g3_go_through_rows_of_256_where_they_must(
    stories: dict[str, Any], artifact: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: set[tuple[int, ...]] = set()

    def quantize(rows: np.ndarray, format: str, importance: np.ndarray | None = None) -> np.ndarray:
        shapes.add(rows.shape)
        return rows

    monkeypatch.setattr(ggml_peer, "available", lambda: True)
    monkeypatch.setattr(ggml_peer, "quantize", quantize)
    monkeypatch.setattr("ruvq.evaluate.schemes._peer_with_feedback", lambda s, m, rows, *rest: rows)
    monkeypatch.setattr("ruvq.evaluate.gate_g3.CASES", ())
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    found = gate_g3(stories["input"], text, artifact, tokenizer=stories["tokenizer"], max_tokens=200, seeds=1)
    assert {shape[1] for shape in shapes} == {256}
    plain = [r for r in found.rows if r.format == "q3_k" and r.preparation == "none"]
    assert all(r.perplexity == found.float_row.perplexity for r in plain)  # nothing was lost on the way
    assert all(3.43 < r.bits < 3.6 for r in plain)  # with the vectors in f32
