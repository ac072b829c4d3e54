"""A size instead of a format: kept to, chosen well, refused with the least possible, nothing substituted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq
from ruvq.calibrate import calibrate
from ruvq.errors import ModelError, UsageError
from ruvq.evaluate import perplexity
from ruvq.gguf.types import TensorSpec
from ruvq.gguf.writer import write_gguf
from ruvq.quantize.calibration import Calibration, Cost
from ruvq.quantize.pipeline import quantize_model
from ruvq.quantize.sensitivity import STOCK, measure, round_trip, squared_error, take
from ruvq.quantize.target import Target, choose_formats, make_target, parse_size, plan_model
from ruvq.sources import open_source
from sources.tiny_models import random_weights, write_huggingface

FIXED: dict[str, Any] = {"timestamp": "t", "progress": False}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "model", random_weights())


@pytest.fixture(scope="module")
def stories(data_dir: Path) -> dict[str, Any]:
    folder = data_dir / "stories260K"
    return {"input": folder / "stories260K.bin", "tokenizer": folder / "tok512.bin"}


@pytest.fixture(scope="module")
def artifact(stories: dict[str, Any], data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "calibration.gguf"
    texts = [str(data_dir / "text" / "tiny_stories_train.txt")]
    calibrate(
        stories["input"], texts, path, tokenizer=stories["tokenizer"], max_tokens=8192, sensitivity=True
    )
    return path


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("130MB", 130_000_000), ("124MiB", 124 << 20), ("1.5 gb", 1_500_000_000), ("4096", 4096), ("7kb", 7000)],
)
def test_sizes_are_read_as_people_write_them(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize(
    "text", ["", "MB", "130 megabytes", "-1MB", "0", "nan", "1e9", "9999999GiB", "1.5.2MB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10MB", 2.5), "a target is a size or a number of bits"),
        ((None, float("nan")), "bits above 0"),
        ((None, -1.0), "bits above 0"),
        ((None, 2.5, ["pi-t4"]), "unknown format"),
        ((None, 2.5, ["q8_k"]), "not written"),
        ((None, None, ["pi-t3"]), "candidates belong to a target"),
    ],
)
def test_targets_that_can_t_be_meant_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_target(*arguments)


@pytest.mark.parametrize("bits", [2.9, 3.3, 5.0, 9.0])
def test_a_number_of_bits_is_met_from_below(stories: dict[str, Any], bits: float, tmp_path: Path) -> None:
    with open_source(**_opened(stories)) as source:
        plan = plan_model(source, "pi-t3", target=Target(bits=bits))
    assert bits - 0.12 < plan.actual_bits <= bits
    assert plan.format == "mixed"


def _opened(stories: dict[str, Any]) -> dict[str, Any]:
    return {"path": stories["input"], "tokenizer": stories["tokenizer"]}


@pytest.mark.parametrize("size", ["110kB", "160kB", "400kB"])
def test_the_file_takes_no_more_than_the_target(stories: dict[str, Any], size: str, tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    report = quantize_model(**stories, output=target, target_size=size, **FIXED)
    assert report.file_bytes == target.stat().st_size <= parse_size(size)
    assert report.file_bytes > parse_size(size) - 8000  # nor far less
    assert report.format == "mixed"
    with ruvq.Model.open(target) as opened:
        assert np.isfinite(np.asarray(opened.logits([1, 5, 9]))).all()


def test_the_same_target_gives_the_same_bytes_with_any_threads(
    stories: dict[str, Any], artifact: Path, tmp_path: Path
) -> None:
    files = []
    for threads in (1, 2):
        path = tmp_path / f"{threads}.gguf"
        quantize_model(**stories, output=path, target_bpw=2.9, calibration=artifact, threads=threads, **FIXED)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_a_target_that_is_too_small_says_the_least_possible(stories: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    with pytest.raises(UsageError, match="can't be met") as caught:
        quantize_model(**stories, output=path, target_bpw=1.5, **FIXED)
    least = float(caught.value.expected.split()[0])
    assert 2.2 < least < 2.4
    quantize_model(**stories, output=path, target_bpw=least, **FIXED)
    with pytest.raises(UsageError, match="can't be met") as caught:
        quantize_model(**stories, output=path, target_size="20kB", overwrite=True, **FIXED)
    least_bytes = caught.value.expected.split()[0].replace(",", "")
    report = quantize_model(**stories, output=path, target_size=least_bytes, overwrite=True, **FIXED)
    assert {t.format for t in report.tensors if len(t.shape) > 1} == {"pi-t2"}


def test_embeddings_that_are_fixed_stay_so(stories: dict[str, Any]) -> None:
    with open_source(**_opened(stories)) as source:
        plan = plan_model(source, "pi-t3", target=Target(bits=5.0), embeddings="f16")
    kinds = {t.name: t.format for t in plan.tensors}
    assert kinds["token_embd.weight"] == "f16"
    assert plan.actual_bits <= 5.0


def test_only_candidates_are_chosen(stories: dict[str, Any]) -> None:
    with open_source(**_opened(stories)) as source:
        chosen = choose_formats(source, Target(bits=3.3, candidates=("PI_Q3", "ternary", "pi-q3")))
    assert set(chosen.values()) == {"pi-q3", "ternary"}


def test_stock_candidates_are_what_llama_cpp_runs(stories: dict[str, Any]) -> None:
    with open_source(**_opened(stories)) as source:
        chosen = choose_formats(source, Target(bits=8.0, candidates=("stock",)))
    assert set(chosen.values()) == {"iq4_nl", "q8_0", "f16"}  # widths 64 and 172
    assert Target(bits=5.5, candidates=("stock", "pi-t3")).candidates == (*STOCK, "pi-t3")
    assert not any(ruvq.formats.get(name).own for name in STOCK)


def test_costs_decide_which_matrix_gets_the_bits(model: Path) -> None:
    with open_source(model) as source:
        matrices = [t for t in source.tensors.values() if len(t.shape) > 1]
        costs = {
            t.name: Cost(((1.0, 1000.0 if t.name == "blk.1.attn_v.weight" else 1e-6),)) for t in matrices
        }
        found = measure(source.tensors.values(), ("pi-t2", "f16"), costs)
        losses = {name: choices[0].loss for name, choices in found.items()}
        assert max(losses, key=lambda name: losses[name]) == "blk.1.attn_v.weight"
        tensor = source.tensors["blk.1.attn_v.weight"]
        values = tensor.load()
        exact = float(np.sum((values - round_trip(values, "pi-t2", "auto", 0)).astype(float) ** 2))
        assert squared_error(take(tensor), "pi-t2", "auto", 0) == pytest.approx(exact, rel=1e-6)
        with pytest.raises(ModelError, match="another model"):
            measure(source.tensors.values(), ("pi-t2",), {"blk.0.attn_q.weight": Cost(((1.0, 1.0),))})


def test_large_matrices_are_sampled_from_end_to_end(model: Path) -> None:
    with open_source(model) as source:
        tensor = source.tensors["token_embd.weight"]
        sample = take(tensor, tensor.width * 5)
        assert list(sample.picked) == [tensor.rows * i // 5 for i in range(5)]
        assert np.array_equal(sample.rows, tensor.load()[list(sample.picked)])
        assert len(take(tensor, 1).rows) == 1


def test_sensitivities_are_measured_stored_and_worth_it(
    stories: dict[str, Any], artifact: Path, data_dir: Path, tmp_path: Path
) -> None:
    with Calibration.open(artifact) as calibration:
        costs = calibration.sensitivities()
    assert costs is not None
    assert len(costs) == 36
    assert all(nats > 0 for cost in costs.values() for _, nats in cost.points)
    text = (data_dir / "text" / "tiny_stories_test.txt").read_text(encoding="utf-8")
    values = []
    for given in (artifact, None):  # weights alike in both: no error feedback
        with open_source(**_opened(stories)) as source, Calibration.open(artifact) as calibration:
            plan = plan_model(
                source, "pi-t3", target=Target(bits=3.1), calibration=calibration if given else None
            )
        path = tmp_path / "a.gguf"
        formats = {t.name: t.format for t in plan.tensors}
        _write(stories, path, formats)
        with ruvq.Model.open(path) as opened:
            values.append(float(perplexity(opened, text, max_tokens=2000)))
    assert values[0] < values[1]


def _write(stories: dict[str, Any], path: Path, formats: dict[str, str]) -> None:
    """A file with these formats and no calibration."""
    from ruvq.quantize import target as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "choose_formats", lambda *a, **k: formats)
        quantize_model(**stories, output=path, target_bpw=3.1, overwrite=True, **FIXED)


def test_strict_substitutes_nothing(model: Path, tmp_path: Path) -> None:
    with open_source(model) as source:
        assert plan_model(source, "pi-t3", strict=True).format == "pi-t3"
        with pytest.raises(UsageError, match="strict allows no substitute"):
            plan_model(source, "q8_0", fallback="f16", strict=True)
        target = Target(bits=10.0, candidates=("q8_0",))
        loose = choose_formats(source, Target(bits=20.0, candidates=("q8_0",)))
        assert set(loose.values()) == {"q8_0", "f16"}
        with pytest.raises(UsageError, match="no candidate holds this width"):
            plan_model(source, "pi-t3", target=target, strict=True)


def test_strict_wants_calibration_of_every_matrix(
    stories: dict[str, Any], data_dir: Path, tmp_path: Path
) -> None:
    diagonal = tmp_path / "diagonal.gguf"
    texts = [str(data_dir / "text" / "tiny_stories_train.txt")]
    calibrate(
        stories["input"], texts, diagonal, tokenizer=stories["tokenizer"], max_tokens=2048, diagonal=True
    )
    options: dict[str, Any] = {**stories, **FIXED, "calibration": diagonal, "strict": True, "overwrite": True}
    quantize_model(output=tmp_path / "a.gguf", format="pi-q3", **options)
    with pytest.raises(UsageError, match="says nothing of this matrix"):
        quantize_model(output=tmp_path / "a.gguf", format="pi-t3", **options)


@pytest.mark.parametrize("values", [np.array([[1.0, -1.0]]), np.array([[-1.0, 1.0]]), np.array([1.0])])
def test_damaged_sensitivities_are_refused(artifact: Path, values: np.ndarray, tmp_path: Path) -> None:
    path, name = tmp_path / "a.gguf", "blk.0.attn_k.weight.sensitivity"
    spec = TensorSpec(name, "f32", values.shape)
    write_gguf(path, "", {"general.type": "imatrix"}, [(spec, lambda: values.astype(np.float32))])
    with Calibration.open(path) as calibration, pytest.raises(ModelError, match="damaged"):
        calibration.sensitivities()
    data = bytearray(artifact.read_bytes())
    data[data.index(name.encode()) + len(name) - 1] = ord("z")
    path.write_bytes(data)
    with Calibration.open(path) as calibration:
        costs = calibration.sensitivities()
        assert costs is not None
        assert len(costs) == 35


def test_costs_go_through_what_was_measured() -> None:
    cost = Cost(((4.0, 2.0), (1.0, 0.5), (0.0, 0.0)))
    assert [cost.nats(e) for e in (0.0, 0.5, 1.0, 2.5, 4.0, 8.0)] == [0.0, 0.25, 0.5, 1.25, 2.0, 4.0]
    assert Cost(((0.0, 0.0),)).nats(3.0) == 0.0
