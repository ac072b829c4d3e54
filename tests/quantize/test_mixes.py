"""Files in ggml's formats: the mixes' rule, what is done where a width doesn't fit, and who can read them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import gguf
import ruvq
from formats.oracle import GGML_WRITTEN
from ruvq.errors import UsageError
from ruvq.gguf import GGUFFile
from ruvq.quantize.mixes import MIXES, find, in_turn
from ruvq.quantize.pipeline import quantize_model
from ruvq.quantize.plan import make_plan
from ruvq.sources import open_source
from sources.tiny_models import TINY, random_weights, write_huggingface

FIXED = {"timestamp": "2026-01-01T00:00:00Z", "progress": False}
WIDE = dataclasses.replace(TINY, width=256, heads=4, head_width=64, ff_width=256, layers=4)
SHORT = dataclasses.replace(WIDE, layers=2)
TOKENS = [1, 5, 260, 17, 3, 3, 100, 44, 8, 91]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 256, as ggml's blocks want them."""
    return write_huggingface(tmp_path_factory.mktemp("wide") / "model", random_weights(SHORT), SHORT)


def test_every_eighth_at_the_ends_and_every_third_between_them_are_in_turn() -> None:
    assert [n for n in range(16) if in_turn(n, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]
    assert [n for n in range(4) if in_turn(n, 4)] == [2, 3]
    assert [n for n in range(1) if in_turn(n, 1)] == [0]
    share = sum(in_turn(n, 32) for n in range(32))
    assert share == 16


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_gives_each_tensor_the_format_of_the_rule(tmp_path: Path, mix: str, tied: bool) -> None:
    parameters = dataclasses.replace(WIDE, tied=tied)
    source = write_huggingface(tmp_path / "model", random_weights(parameters), parameters)
    with open_source(source) as opened:
        plan = make_plan(opened.tensors.values(), mix.upper())
    found = {t.name: t.format for t in plan.tensors}
    most = MIXES[mix].most
    larger = {f"blk.{n}.{kind}.weight" for n in (2, 3) for kind in ("attn_v", "ffn_down")}
    larger.add("token_embd.weight" if tied else "output.weight")
    assert {name for name, format in found.items() if format == "q6_k"} == larger
    vectors = {t.name for t in plan.tensors if not t.is_matrix}
    assert {found[name] for name in vectors} == {"f32"}
    assert {found[name] for name in set(found) - vectors - larger} == {most}
    assert plan.format == mix
    assert plan.nominal_bits > 4.5 if mix == "q4_k_m" else plan.nominal_bits > 5.5


def test_names_of_mixes_match_whatever_their_case_and_punctuation() -> None:
    assert find("Q4_K_M") is find("q4km") is find("q4-k-m") is MIXES["q4_k_m"]
    assert find("q4_k") is None


@pytest.mark.parametrize("format", [*GGML_WRITTEN, *MIXES])
def test_a_file_runs_here_and_is_read_by_the_gguf_package(model: Path, tmp_path: Path, format: str) -> None:
    quantize_model(model, tmp_path / "a.gguf", format, **FIXED)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    weights = random_weights(SHORT)
    error = squares = 0.0
    for tensor in reader.tensors:
        w = weights[tensor.name].astype(np.float64)
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(w.shape)
        error += float(((decoded - w) ** 2).sum())
        squares += float((w**2).sum())
    assert error < 0.25 * squares
    with ruvq.Model.open(tmp_path / "a.gguf", kv="f32") as opened:
        assert np.isfinite(np.asarray(opened.logits(TOKENS))).all()


def test_a_mix_is_named_in_the_metadata_and_near_the_float_model(model: Path, tmp_path: Path) -> None:
    logits = {}
    for format in ("f32", "q4_k", "q4_k_m", "q5_k_m"):
        quantize_model(model, tmp_path / "a.gguf", format, overwrite=True, **FIXED)
        with ruvq.Model.open(tmp_path / "a.gguf", kv="f32") as opened:
            logits[format] = np.asarray(opened.logits(TOKENS), np.float64)
        with GGUFFile.open(tmp_path / "a.gguf") as file:
            number = {"f32": 0, "q4_k": 14, "q4_k_m": 15, "q5_k_m": 17}[format]
            assert file.metadata["general.file_type"] == number
    error = {f: float(((logits[f] - logits["f32"]) ** 2).sum()) for f in logits}
    assert error["q5_k_m"] < error["q4_k_m"] < error["q4_k"] < 0.1 * float((logits["f32"] ** 2).sum())


def test_the_number_of_threads_never_changes_a_byte(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ruvq.quantize.rows.CHUNK_WEIGHTS", 4000)
    for threads in (1, 3):
        quantize_model(model, tmp_path / f"{threads}.gguf", "q4_k_m", threads=threads, **FIXED)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "3.gguf").read_bytes()


# ---- widths that don't fit ----


def test_a_width_that_doesn_t_fit_stops_the_plan(tmp_path: Path) -> None:
    narrow = write_huggingface(tmp_path / "model", random_weights())
    with pytest.raises(UsageError, match=r"can't hold.*multiples of 256.*--fallback"):
        quantize_model(narrow, tmp_path / "a.gguf", "q4_k_m", **FIXED)
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize(
    ("format", "thirty_two"),
    [("q4_k", "iq4_nl"), ("q2_k", "iq4_nl"), ("iq2_xxs", "iq4_nl"), ("q6_k", "q8_0")],
)
def test_the_automatic_fallback_is_told_in_the_plan(tmp_path: Path, format: str, thirty_two: str) -> None:
    narrow = write_huggingface(tmp_path / "model", random_weights())  # widths 32 and 44
    with open_source(narrow) as source:
        plan = make_plan(source.tensors.values(), format, fallback="auto")
    for tensor in plan.tensors:
        if tensor.is_matrix:
            assert tensor.format == ("f16" if tensor.shape[-1] == 44 else thirty_two)
            assert tensor.instead_of == format
    table = plan.table()
    assert f"{thirty_two}, not {format}: width 32" in table
    assert f"f16, not {format}: width 44" in table


def test_no_fallback_where_every_width_fits(model: Path) -> None:
    with open_source(model) as source:
        tensors = list(source.tensors.values())
        assert make_plan(tensors, "q4_k_m", fallback="auto") == make_plan(tensors, "q4_k_m")


@pytest.mark.parametrize("name", ["q4_k_x", "q9_k", "q4_1"])
def test_the_mixes_are_among_the_names_of_an_error(model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        quantize_model(model, tmp_path / "a.gguf", name, **FIXED)
    assert "q4_k_m, q5_k_m" in caught.value.expected
