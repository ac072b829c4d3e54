"""Calibration end to end on real weights: the artifact, what it does to a quantized file, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf
import ruvq
from ruvq.calibrate import calibrate
from ruvq.calibrate.samples import Sample, choose, read_samples
from ruvq.errors import ModelError, StorageError, UsageError
from ruvq.evaluate import perplexity
from ruvq.gguf import GGUFFile
from ruvq.quantize.calibration import Calibration

TOKENS = 4096


@pytest.fixture(scope="module")
def source(data_dir: Path) -> dict[str, Any]:
    folder = data_dir / "stories260K"
    return {"input": folder / "stories260K.bin", "tokenizer": folder / "tok512.bin"}


@pytest.fixture(scope="module")
def artifact(source: dict[str, Any], data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "calibration.gguf"
    text = str(data_dir / "text" / "tiny_stories_train.txt")
    report = calibrate(
        source["input"], [text], path, tokenizer=source["tokenizer"], max_tokens=TOKENS, timestamp="t"
    )
    assert (report.tokens, report.domains) == (TOKENS, {"language": report.samples})
    return path


def quantized(source: dict[str, Any], path: Path, format: str, **options: Any) -> Any:
    return ruvq.quantize_model(
        source["input"], path, format, tokenizer=source["tokenizer"], progress=False, timestamp="t", **options
    )


def test_the_artifact_holds_moments_importance_and_where_they_come_from(artifact: Path) -> None:
    with Calibration.open(artifact) as calibration:
        assert (calibration.tokens, len(calibration.digest)) == (TOKENS, 64)
        moment = calibration.moment("blk.0.attention", 64)
        assert np.array_equal(moment, moment.T)
        assert np.linalg.eigvalsh(moment.astype(float)).min() > -1e-3 * np.trace(moment)
        importance = calibration.importance("blk.0.attn_q.weight", 64)
        assert importance is not None
        np.testing.assert_allclose(importance, np.diagonal(moment) / TOKENS, rtol=1e-6)
        with pytest.raises(ModelError, match="another model"):
            calibration.moment("blk.0.attention", 128)


@pytest.mark.parametrize("format", ["pi-t2", "pi-q3"])
def test_error_feedback_lowers_perplexity_and_never_depends_on_threads(
    source: dict[str, Any], artifact: Path, data_dir: Path, tmp_path: Path, format: str
) -> None:
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    plain, one, two = (tmp_path / f"{name}.gguf" for name in ("plain", "one", "two"))
    quantized(source, plain, format)
    report = quantized(source, one, format, calibration=artifact, threads=1)
    quantized(source, two, format, calibration=artifact, threads=2)
    assert one.read_bytes() == two.read_bytes()
    assert all(t.output_snr_db and t.output_snr_db > t.snr_db for t in report.tensors if len(t.shape) > 1)
    values = []
    for path in (plain, one):
        with ruvq.Model.open(path) as model:
            values.append(float(perplexity(model, text, max_tokens=2000)))
    assert values[1] < 0.9 * values[0]


def test_scales_that_are_sought_thoroughly_lower_the_error_of_products(
    source: dict[str, Any], artifact: Path, tmp_path: Path
) -> None:
    usual = quantized(source, tmp_path / "usual.gguf", "pi-t2", calibration=artifact)
    long = quantized(source, tmp_path / "long.gguf", "pi-t2", calibration=artifact, thorough=True)
    pairs = [
        (a.output_snr_db, b.output_snr_db)
        for a, b in zip(usual.tensors, long.tensors, strict=True)
        if len(a.shape) > 1
    ]
    assert np.mean([b - a for a, b in pairs]) > 0.1
    assert usual.tensor_bytes == long.tensor_bytes
    with GGUFFile.open(tmp_path / "long.gguf") as file:
        assert json.loads(file.metadata["ruvq.recipe"])["options"]["effort"] == 8


def test_an_importance_matrix_alone_weighs_the_columns(
    source: dict[str, Any], data_dir: Path, tmp_path: Path
) -> None:
    text = str(data_dir / "text" / "tiny_stories_train.txt")
    imatrix = tmp_path / "imatrix.gguf"
    options = {"tokenizer": source["tokenizer"], "max_tokens": 1024, "diagonal": True}
    calibrate(source["input"], [text], imatrix, **options)
    quantized(source, tmp_path / "a.gguf", "pi-q3", calibration=imatrix)
    quantized(source, tmp_path / "b.gguf", "pi-q3")
    assert (tmp_path / "a.gguf").read_bytes() != (tmp_path / "b.gguf").read_bytes()


def test_the_artifact_reads_as_llama_cpps_importance_matrix(artifact: Path) -> None:
    reader = gguf.GGUFReader(artifact)
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["tiny_stories_train.txt"]
    assert reader.fields["imatrix.chunk_size"].contents() == 256
    assert reader.fields["imatrix.chunk_count"].contents() > TOKENS // 256
    for name in ("imatrix.chunk_size", "imatrix.chunk_count"):
        assert reader.fields[name].types == [gguf.GGUFValueType.UINT32]
    tensors = {t.name: t for t in reader.tensors}
    sums, counts = tensors["blk.0.ffn_down.weight.in_sum2"], tensors["blk.0.ffn_down.weight.counts"]
    assert (sums.tensor_type, list(sums.shape)) == (gguf.GGMLQuantizationType.F32, [172])
    assert (list(counts.shape), list(counts.data)) == ([1], [TOKENS])
    assert np.all(sums.data > 0)
    matrices = [t for t in tensors if t.endswith(".in_sum2")]
    assert len(matrices) == 5 * 7 + 1


def test_llama_cpps_importance_matrix_is_read(source: dict[str, Any], artifact: Path, tmp_path: Path) -> None:
    """One as llama-imatrix writes it (its keys, its order), made with llama.cpp's own package."""
    theirs = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(theirs, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["wiki.train.raw"])
    writer.add_uint32("imatrix.chunk_count", 4)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in gguf.GGUFReader(artifact).tensors:
        if tensor.name.endswith((".in_sum2", ".counts")):
            writer.add_tensor(tensor.name, np.array(tensor.data).reshape(1, -1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    weighted_path, plain_path = tmp_path / "weighted.gguf", tmp_path / "plain.gguf"
    quantized(source, weighted_path, "pi-q3", calibration=theirs)
    quantized(source, plain_path, "pi-q3")
    with GGUFFile.open(weighted_path) as weighted, GGUFFile.open(plain_path) as unweighted:
        names = [t.name for t in weighted.tensors if len(t.shape) > 1]
        assert all(weighted.tensor_bytes(n) != unweighted.tensor_bytes(n) for n in names)


def test_samples_are_chosen_by_domain_and_always_the_same(tmp_path: Path) -> None:
    records = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(5)]
    path = tmp_path / "math.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    samples = [*read_samples([f"math={path}"]), Sample("code", "x"), Sample("code", "y")]
    chosen = choose(samples, {"math": 2}, None, ["math", "code"], 0)
    assert [s.domain for s in chosen] == ["math", "math", "code", "code"]
    assert choose(samples[::-1], {"math": 2}, None, ["math", "code"], 0) == chosen
    with pytest.raises(UsageError, match="too few samples"):
        choose(samples, None, None, ["reasoning"], 0)


def test_what_is_no_text_is_refused(source: dict[str, Any], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"nothing": 1}\n')
    with pytest.raises(UsageError, match="has no text"):
        read_samples([str(bad)])
    with pytest.raises(StorageError, match="can't be read"):
        read_samples([str(tmp_path / "absent.txt")])
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time.")
    with pytest.raises(UsageError, match="too little text"):
        calibrate(source["input"], [str(short)], tmp_path / "c.gguf", tokenizer=source["tokenizer"])
    assert not (tmp_path / "c.gguf").exists()
