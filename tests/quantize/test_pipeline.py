"""A model in, a file out: the same bytes whatever the threads, nothing half-written, choices explicit."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gguf
import ruvq
from ruvq.errors import DataError, StorageError, UsageError
from ruvq.formats.transform import Transform
from ruvq.gguf import GGUFFile
from ruvq.quantize import writing
from ruvq.quantize.pipeline import quantize_model
from ruvq.quantize.plan import TRELLIS
from ruvq.quantize.tensors import turn_rows
from ruvq.quantize.writing import Step
from ruvq.sources import LlamaParameters, open_source
from sources.numpy_llama import logits as numpy_logits
from sources.tiny_models import TINY, llama2c_bytes, random_weights, write_huggingface

FIXED = {"timestamp": "2026-01-01T00:00:00Z", "progress": False}
OWN = ["pi-q3", "pi-q2", "pi-t3", "pi-t2", "pi-x3", "pi-x2", "ternary", "pi-ternary"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "model", random_weights())


def tensors_of(path: Path) -> dict[str, bytes]:
    with GGUFFile.open(path) as file:
        return {t.name: bytes(file.tensor_bytes(t.name)) for t in file.tensors}


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.endswith((".part", ".gguf")))


@pytest.mark.parametrize("format", ["f32", "f16", "bf16", *OWN])
def test_every_tensor_is_what_quantize_makes_of_its_rows(model: Path, tmp_path: Path, format: str) -> None:
    report = quantize_model(model, tmp_path / "out.gguf", format, seed=7, **FIXED)
    stored = tensors_of(tmp_path / "out.gguf")
    weights = random_weights()
    assert list(stored) == list(weights)
    for name, values in weights.items():
        if values.ndim == 1:
            assert stored[name] == values.tobytes()
            continue
        rows = ruvq.hadamard(values, 7) if format in TRELLIS else values
        q = ruvq.quantize(rows, format)
        assert stored[name] == q.data, name
        entry = next(t for t in report.tensors if t.name == name)
        difference = np.asarray(ruvq.dequantize(q), np.float64) - rows
        assert entry.mse == pytest.approx(float(np.mean(difference**2)), rel=1e-9, abs=1e-30)
        assert entry.bits == 8 * len(q.data) / values.size


@pytest.mark.parametrize("format", ["pi-t3", "pi-q2", "f16"])
def test_the_number_of_threads_never_changes_a_byte(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ruvq.quantize.rows.CHUNK_WEIGHTS", 500)  # many chunks a tensor
    model = write_huggingface(tmp_path / "model", random_weights())
    files = []
    for threads in (1, 2, 5):
        path = tmp_path / f"out{threads}.gguf"
        quantize_model(model, path, format, threads=threads, **FIXED)
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


def test_chunks_don_t_show_in_the_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize_model(model, tmp_path / "a.gguf", "pi-t3", **FIXED)
    monkeypatch.setattr("ruvq.quantize.rows.CHUNK_WEIGHTS", 100)
    quantize_model(model, tmp_path / "b.gguf", "pi-t3", **FIXED)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_sources_of_the_same_model_give_the_same_tensors_and_logits(model: Path, tmp_path: Path) -> None:
    """q and k permuted from Hugging Face's order compute what llama2.c's own order computes."""
    checkpoint = tmp_path / "model.bin"
    checkpoint.write_bytes(llama2c_bytes(random_weights()))
    quantize_model(model, tmp_path / "a.gguf", "f32", **FIXED)
    quantize_model(checkpoint, tmp_path / "b.gguf", "f32", tokenizer=model / "tok.bin", **FIXED)
    assert tensors_of(tmp_path / "a.gguf") == tensors_of(tmp_path / "b.gguf")
    logits = []
    for name in ("a.gguf", "b.gguf"):
        with ruvq.Model.open(tmp_path / name, kv="f32") as opened:
            logits.append(np.asarray(opened.logits([1, 5, 260, 17, 3])))
    assert np.ptp(logits[0]) > 0.1
    np.testing.assert_array_equal(logits[0], logits[1])


def test_logits_follow_the_half_rotation_of_the_source(model: Path, tmp_path: Path) -> None:
    """Against a NumPy forward pass that rotates element i with i + half, as Hugging Face does."""
    quantize_model(model, tmp_path / "a.gguf", "f32", **FIXED)
    tokens = [1, 5, 260, 17, 3, 3, 100]
    with ruvq.Model.open(tmp_path / "a.gguf", kv="f32") as opened:
        got = np.asarray(opened.logits(tokens))
    np.testing.assert_allclose(got, numpy_logits(random_weights(), TINY, tokens), rtol=1e-4, atol=1e-5)


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# of TINY's four frequencies (wavelengths 6.3, 62.8, 628, 6283) the first lies between the bounds 4 and 16
LLAMA3_DIVISORS = (1 / ((1 - (16 / (2 * np.pi) - 1) / 3) / 8 + (16 / (2 * np.pi) - 1) / 3), 8.0, 8.0, 8.0)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[float, ...]]] = {
    "untied": ({"tied": False}, {}, (1.0,)),
    "wide heads": ({"head_width": 12}, {}, (1.0,)),
    "attention biases": ({"attention_bias": True}, {}, (1.0,)),
    "one kv head": ({"kv_heads": 1}, {}, (1.0,)),
    "another base": ({"rope_base": 500.0}, {}, (1.0,)),
    "linear scaling": ({}, {"rope_scaling": {"type": "linear", "factor": 4.0}}, (4.0,)),
    "llama3 scaling": ({}, {"rope_scaling": LLAMA3}, LLAMA3_DIVISORS),
    "newer keys": (
        {},
        {"rope_parameters": {**LLAMA3, "rope_theta": 1e4}, "rope_theta": 7.0},
        LLAMA3_DIVISORS,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_architecture_compute_what_they_mean(tmp_path: Path, variant: str) -> None:
    parameter_changes, config_changes, divisors = VARIANTS[variant]
    parameters = dataclasses.replace(TINY, **parameter_changes)
    weights = random_weights(parameters)
    model = write_huggingface(tmp_path / "model", weights, parameters, **config_changes)
    quantize_model(model, tmp_path / "a.gguf", "f32", **FIXED)
    tokens = [1, 5, 260, 17, 3, 3, 100, 44, 8, 91]
    expected = numpy_logits(weights, parameters, tokens, divisors)
    quantize_model(tmp_path / "a.gguf", tmp_path / "b.gguf", "f32", **FIXED)  # and once more from GGUF
    for name in ("a.gguf", "b.gguf"):
        with ruvq.Model.open(tmp_path / name, kv="f32") as opened:
            got = np.asarray(opened.logits(tokens))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)


def test_scaling_of_the_rotary_embedding_would_show(tmp_path: Path) -> None:
    """The comparison above can tell the kinds of scaling apart."""
    tokens = [1, 5, 260, 17, 3, 3, 100, 44, 8, 91]
    plain, linear, llama3 = (
        numpy_logits(random_weights(), TINY, tokens, d) for d in ((1.0,), (4.0,), LLAMA3_DIVISORS)
    )
    assert np.abs(plain - linear).max() > 0.01
    assert np.abs(plain - llama3).max() > 0.01
    assert np.abs(linear - llama3).max() > 0.01


@pytest.mark.parametrize("first", ["f32", "bf16"])
def test_a_gguf_in_floats_is_as_good_a_source(model: Path, tmp_path: Path, first: str) -> None:
    quantize_model(model, tmp_path / "float.gguf", first, **FIXED)  # exact: 7 significant bits
    quantize_model(tmp_path / "float.gguf", tmp_path / "b.gguf", "pi-t3", **FIXED)
    quantize_model(model, tmp_path / "a.gguf", "pi-t3", **FIXED)
    assert tensors_of(tmp_path / "a.gguf") == tensors_of(tmp_path / "b.gguf")
    with GGUFFile.open(tmp_path / "a.gguf") as a, GGUFFile.open(tmp_path / "b.gguf") as b:
        for key in a.metadata:
            if key.startswith(("tokenizer.", "llama.")):
                assert a.metadata.typed(key) == b.metadata.typed(key), key


def test_a_quantized_gguf_is_refused_unless_asked_for(model: Path, tmp_path: Path) -> None:
    quantize_model(model, tmp_path / "t3.gguf", "pi-t3", seed=9, **FIXED)
    with pytest.raises(UsageError, match=r"quantized already.*--allow-requantize"):
        quantize_model(tmp_path / "t3.gguf", tmp_path / "b.gguf", "f32", **FIXED)
    assert leftovers(tmp_path) == ["t3.gguf"]
    quantize_model(tmp_path / "t3.gguf", tmp_path / "b.gguf", "f32", allow_requantize=True, **FIXED)
    with open_source(tmp_path / "b.gguf") as source:  # the transform is undone
        for name, values in random_weights().items():
            if values.ndim == 2:
                error = source.tensors[name].load() - values
                assert np.sum(error**2) < 0.05 * np.sum(values**2)
                assert np.any(error)


# ---- what the file says ----


def test_the_metadata_is_what_llama_cpp_reads(model: Path, tmp_path: Path) -> None:
    quantize_model(model, tmp_path / "a.gguf", "f16", **FIXED)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "llama",
        "general.name": "model",
        "general.type": "model",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.vocab_size": 272,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 44,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    assert {key: fields.get(key) for key in expected} == expected
    assert fields["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert len(fields["tokenizer.ggml.tokens"]) == 272
    weights = random_weights()
    for tensor in reader.tensors:
        values = weights[tensor.name]
        assert tensor.tensor_type.name == ("F16" if values.ndim == 2 else "F32")
        np.testing.assert_array_equal(np.asarray(tensor.data, np.float32).reshape(values.shape), values)


def test_q8_0_is_what_the_gguf_package_decodes(tmp_path: Path) -> None:
    parameters = dataclasses.replace(TINY, ff_width=64)
    weights = random_weights(parameters)
    model = write_huggingface(tmp_path / "model", weights, parameters)
    quantize_model(model, tmp_path / "a.gguf", "Q8_0", **FIXED)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["general.file_type"].contents() == 7
    for tensor in reader.tensors:
        values = weights[tensor.name]
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        np.testing.assert_allclose(decoded, values, atol=np.abs(values).max() / 200)


def test_the_transform_is_recorded(model: Path, tmp_path: Path) -> None:
    seed = 0xFEDCBA9876543210
    quantize_model(model, tmp_path / "a.gguf", "pi-t2", seed=seed, embeddings="f16", **FIXED)
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        assert file.metadata["ruvq.hadamard.seed"] == seed
        assert file.metadata.typed("ruvq.hadamard.seed").type == "u64"
        assert file.metadata["ruvq.hadamard.generator"] == "splitmix64"
        assert file.metadata["ruvq.hadamard.cut"] == "greedy-256"
        matrices = [t.name for t in file.tensors if len(t.shape) == 2]
        assert list(file.metadata["ruvq.hadamard.tensors"]) == matrices[1:]
        assert file.tensor("token_embd.weight").format == "f16"


@pytest.mark.parametrize(
    ("format", "incoherence", "transformed"),
    [
        ("pi-t3", "auto", True),
        ("pi-t3", "none", False),
        ("pi-q3", "auto", False),
        ("pi-q3", "hadamard", True),
    ],
)
def test_incoherence_is_automatic_for_the_trellis_only(
    model: Path, tmp_path: Path, format: str, incoherence: str, transformed: bool
) -> None:
    report = quantize_model(model, tmp_path / "a.gguf", format, incoherence=incoherence, **FIXED)
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        assert ("ruvq.hadamard.tensors" in file.metadata) == transformed
    assert report.incoherence == ("hadamard" if transformed else "none")


@pytest.mark.parametrize(("k", "recorded"), [(None, 4), (5, 5)])
def test_k_is_recorded_beside_the_formats(model: Path, tmp_path: Path, k: int | None, recorded: int) -> None:
    quantize_model(model, tmp_path / "a.gguf", "pi-q3", k=k, embeddings="pi-t3", **FIXED)
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        formats = list(file.metadata["ruvq.tensor.formats"])
        assert list(file.metadata["ruvq.tensor.k"]) == [recorded if f == "pi-q3" else 0 for f in formats]
        assert formats[0] == "pi-t3"


def test_the_recipe_names_source_seed_and_time(model: Path, tmp_path: Path) -> None:
    quantize_model(model, tmp_path / "a.gguf", "pi-t3", seed=3, command="ruvq quantize ...", **FIXED)
    recipe = ruvq.gguf.inspect(tmp_path / "a.gguf")["recipe"]
    assert recipe["command"] == "ruvq quantize ..."
    assert recipe["seed"] == 3
    assert recipe["timestamp"] == FIXED["timestamp"]
    assert recipe["versions"]["ruvq"] == ruvq.__version__
    assert recipe["source"].startswith("model sha256 ")


def test_ruvllm_type_ids_are_written_on_request(tmp_path: Path) -> None:
    parameters = LlamaParameters(
        vocab_size=272,
        width=256,
        layers=1,
        heads=4,
        kv_heads=4,
        head_width=64,
        ff_width=256,
        context=64,
        tied=True,
    )
    model = write_huggingface(tmp_path / "model", random_weights(parameters), parameters)
    quantize_model(model, tmp_path / "a.gguf", "pi-q3", type_ids="ruvllm", **FIXED)
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        assert file.metadata["ruvq.type_namespace"] == "ruvllm"
        assert file.tensor("token_embd.weight").ggml_type == 40
    narrow = write_huggingface(tmp_path / "narrow", random_weights())
    with pytest.raises(UsageError, match="width"):
        quantize_model(narrow, tmp_path / "b.gguf", "pi-q3", type_ids="ruvllm", **FIXED)


# ---- the plan ----


def test_widths_that_don_t_fit_stop_with_the_list_and_the_choices(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        quantize_model(model, tmp_path / "a.gguf", "q8_0", **FIXED)
    error = caught.value
    assert "2 of the tensors" in error.message
    assert "blk.0.ffn_down.weight (width 44), blk.1.ffn_down.weight (width 44)" in error.actual
    assert error.expected == "widths that are multiples of 32"
    assert "--fallback" in error.hint
    assert leftovers(tmp_path) == []


def test_a_fallback_is_used_where_it_must_and_nowhere_else(model: Path, tmp_path: Path) -> None:
    report = quantize_model(model, tmp_path / "a.gguf", "q8_0", fallback="f16", **FIXED)
    formats = {t.name: t.format for t in report.tensors if len(t.shape) == 2}
    assert {n for n, f in formats.items() if f == "f16"} == {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}
    assert {f for n, f in formats.items() if "ffn_down" not in n} == {"q8_0"}


def test_bits_per_weight_are_counted_exactly(model: Path, tmp_path: Path) -> None:
    report = quantize_model(model, tmp_path / "a.gguf", "pi-t3", **FIXED)
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        stored = sum(t.nbytes for t in file.tensors)
        weights = sum(t.weights for t in file.tensors)
    assert report.bits_per_weight == 98 * 8 / 256
    assert report.bits_per_weight_actual == stored * 8 / weights
    assert report.tensor_bytes == stored
    embedding = next(t for t in report.tensors if t.name == "token_embd.weight")
    assert embedding.bits == 26 * 8 / 32  # s = 2 steps: 16 bytes of 2 bits, 8 of 1, 2 of header


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "pi-t9"}, "did you mean pi-t"),
        ({"format": "q3h"}, "unknown format"),
        ({"format": "q41"}, "not written"),
        ({"format": "pi-t3", "k": 7}, "2, 3, 4 or 5"),
        ({"format": "f16", "k": 4}, "k has no meaning"),
        ({"format": "ternary", "k": 4}, "k has no meaning"),
        ({"format": "f16", "scale": "mse"}, "scale rule has no meaning"),
        ({"format": "pi-q3", "scale": "best"}, "unknown scale rule"),
        ({"format": "pi-t3", "incoherence": "fourier"}, "auto, none, hadamard"),
        ({"format": "pi-t3", "seed": -1}, "64 bits"),
        ({"format": "pi-t3", "seed": 1 << 64}, "64 bits"),
        ({"format": "pi-t3", "threads": 0}, "threads"),
        ({"format": "pi-t3", "embeddings": "q9"}, "unknown format"),
        ({"format": "pi-t3", "type_ids": "other"}, "ruvllm"),
    ],
)
def test_options_that_can_t_be_used_are_refused(
    model: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        quantize_model(model, tmp_path / "a.gguf", **options, **FIXED)
    assert leftovers(tmp_path) == []


# ---- the work ----


def test_memory_stays_bounded_by_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ruvq.quantize.rows.CHUNK_WEIGHTS", 1 << 14)
    parameters = dataclasses.replace(TINY, vocab_size=8192, width=256, head_width=64, ff_width=1024)
    model = write_huggingface(tmp_path / "model", random_weights(parameters), parameters, dtype="F16")
    tracemalloc.start()
    try:
        report = quantize_model(model, tmp_path / "a.gguf", "f16", threads=2, **FIXED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    floats = 4 * report.parameters
    assert floats > 12_000_000
    assert peak < floats / 2  # the vocabulary alone takes some; a chunk is 64 KiB of floats


def test_progress_is_told_in_bytes_up_to_all(model: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    report = quantize_model(model, tmp_path / "a.gguf", "pi-t3", progress=steps.append, timestamp="t")
    assert [s.bytes_done for s in steps] == sorted(s.bytes_done for s in steps)
    assert steps[-1].bytes_done == steps[-1].bytes_total == report.tensor_bytes


def test_nan_leaves_nothing_behind(tmp_path: Path) -> None:
    weights = random_weights()
    weights["blk.1.ffn_up.weight"][3, 4] = np.nan
    model = write_huggingface(tmp_path / "model", weights)
    with pytest.raises(DataError, match=r"blk\.1\.ffn_up\.weight\[3, 4\]"):
        quantize_model(model, tmp_path / "a.gguf", "pi-t3", **FIXED)
    assert leftovers(tmp_path) == []


def test_an_interrupt_leaves_nothing_behind_and_keeps_the_old_file(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    target.write_bytes(b"older")

    def interrupt(step: Step) -> None:
        if step.bytes_done > step.bytes_total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_model(model, target, "pi-t3", progress=interrupt, overwrite=True)
    assert leftovers(tmp_path) == ["a.gguf"]
    assert target.read_bytes() == b"older"


def test_an_existing_output_is_kept_unless_overwritten(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"
    target.write_bytes(b"older")
    with pytest.raises(StorageError, match=r"exists already.*--force"):
        quantize_model(model, target, "f16", **FIXED)
    assert target.read_bytes() == b"older"
    quantize_model(model, target, "f16", overwrite=True, **FIXED)
    with pytest.raises(UsageError, match="same file"):
        quantize_model(target, target, "f16", overwrite=True, **FIXED)


def test_places_that_can_t_be_written_are_said_before_the_work(model: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="folder doesn't exist"):
        quantize_model(model, tmp_path / "none" / "a.gguf", "f16", **FIXED)
    with pytest.raises(StorageError, match="is a folder"):
        quantize_model(model, tmp_path, "f16", **FIXED)


def test_too_little_space_is_said_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"not enough space.*1,000 bytes") as caught:
        quantize_model(model, tmp_path / "a.gguf", "f16", **FIXED)
    assert caught.value.errno == errno.ENOSPC
    assert leftovers(tmp_path) == []


def test_what_a_killed_run_left_is_removed_once_it_is_stale(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".a.gguf.0123456789ab.part"
    left.write_bytes(b"half")
    quantize_model(model, tmp_path / "a.gguf", "f16", **FIXED)
    assert left.exists()  # it may be another run's, still writing
    monkeypatch.setattr(writing, "STALE_SECONDS", -1)
    quantize_model(model, tmp_path / "a.gguf", "f16", overwrite=True, **FIXED)
    assert leftovers(tmp_path) == ["a.gguf"]


@pytest.fixture
def stories(data_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    folder = data_dir / "stories260K"
    return folder / "stories260K.bin", folder / "tok512.bin"


def test_the_trellis_beats_the_grid_on_real_weights(stories: tuple[Path, Path], tmp_path: Path) -> None:
    source, tokenizer = stories
    snr = {}
    for format in ("pi-q3", "pi-t3"):
        report = quantize_model(source, tmp_path / f"{format}.gguf", format, tokenizer=tokenizer, **FIXED)
        assert report.bits_per_weight == 3.0625
        snr[format] = report.snr_db
    assert snr["pi-t3"] > snr["pi-q3"] + 2


@pytest.mark.parametrize("method", ["hadamard", "orthogonal"])
def test_the_transform_makes_matrices_incoherent_and_the_report_says_so(method: str, tmp_path: Path) -> None:
    weights = random_weights()
    outlier = weights["blk.0.ffn_up.weight"]
    outlier[5, 3] = 100 * np.sqrt(np.mean(outlier**2))
    report = quantize_model(
        write_huggingface(tmp_path / "model", weights),
        tmp_path / "a.gguf",
        "pi-t3",
        incoherence=method,
        **FIXED,
    )
    assert report.incoherence == method
    tensor = next(t for t in report.tensors if t.name == "blk.0.ffn_up.weight").as_dict()
    rms = np.sqrt(np.mean(outlier.astype(float) ** 2))
    assert tensor["mu"] == pytest.approx(np.abs(outlier).max() / rms, rel=1e-5)
    turned = np.asarray(turn_rows(outlier, Transform(0, method)))
    assert tensor["mu_turned"] == pytest.approx(np.abs(turned).max() / rms, rel=1e-5)
    assert tensor["mu_turned"] < tensor["mu"] / (4 if method == "hadamard" else 2)
    assert "mu " in report.summary()
    norm = next(t for t in report.tensors if len(t.shape) == 1).as_dict()
    assert (norm["mu"], norm["mu_turned"]) == (None, None)
