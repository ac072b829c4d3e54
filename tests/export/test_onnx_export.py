"""Exported decoders run in onnxruntime and give what the engine gives; read again they give the same file."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import ruvq
from ruvq import cli
from ruvq.errors import DataError, MissingDependencyError, RuvqError, StorageError, UsageError
from ruvq.export import export_onnx, int4, onnx_model
from ruvq.quantize.pipeline import quantize_model
from ruvq.sources import LlamaParameters, RopeScaling, open_source
from ruvq.sources.huggingface import huggingface_name
from sources.numpy_llama import logits as numpy_logits
from sources.test_onnx_source import QWEN2, QWEN3, tensor_bytes
from sources.tiny_models import TINY, llama2c_bytes, random_weights, write_huggingface, write_tokenizer

BIASED = dataclasses.replace(TINY, tied=False, attention_bias=True)
LINEAR = dataclasses.replace(TINY, rope_scaling=RopeScaling("linear", 4.0))
MODELS = {"llama": TINY, "biased": BIASED, "linear": LINEAR, "qwen2": QWEN2, "qwen3": QWEN3}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
TOKENS = [1, 40, 201, 17, 5, 99, 260, 33, 3, 3, 150, 271]
# Logits are sums of some hundred products of size 1: float32 rounds each to 6e-8 of it, and the two engines
# add in different orders. Measured: at most 8e-7 of the largest logit.
ROUNDING = 5e-6


def folder_of(tmp_path: Path, parameters: LlamaParameters, **changes: object) -> Path:
    return write_huggingface(tmp_path / "hf", random_weights(parameters), parameters, **changes)


def scaling_of(parameters: LlamaParameters) -> dict[str, object]:
    scaling = parameters.rope_scaling
    return {} if scaling is None else {"rope_scaling": {"type": "linear", "factor": scaling.factor}}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def run(path: Path, tokens: list[int]) -> np.ndarray:
    """(tokens, vocab_size), without a cache."""
    return session(path).run(["logits"], {"input_ids": np.array([tokens], np.int64)})[0][0]


def engine_logits(gguf: Path, tokens: list[int]) -> np.ndarray:
    with ruvq.Model.open(gguf, kv="f32") as model:
        return np.asarray(model.logits(tokens))


def assert_close(found: np.ndarray, wanted: np.ndarray, share: float = ROUNDING) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < share * np.abs(wanted).max()


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_gives_the_engines_logits(tmp_path: Path, name: str) -> None:
    parameters = MODELS[name]
    folder = folder_of(tmp_path, parameters, **scaling_of(parameters))
    gguf, out = tmp_path / "m.gguf", tmp_path / "m.onnx"
    quantize_model(folder, gguf, "f32", progress=False)
    export_onnx(gguf, out)
    found = run(out, TOKENS)
    assert_close(found, engine_logits(gguf, TOKENS))
    divisors = [4.0] if name == "linear" else [1.0]
    assert_close(found, numpy_logits(random_weights(parameters), parameters, TOKENS, divisors))


def test_llama_3s_frequency_factors_are_in_the_graph_and_come_back(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TINY, rope_scaling=LLAMA3)
    first, out, second = tmp_path / "m.gguf", tmp_path / "m.onnx", tmp_path / "n.gguf"
    quantize_model(folder, first, "f32", progress=False)
    export_onnx(first, out)
    assert_close(run(out, TOKENS), engine_logits(first, TOKENS))
    quantize_model(out, second, "f32", progress=False)
    assert tensor_bytes(first) == tensor_bytes(second)
    assert "rope_freqs.weight" in tensor_bytes(second)


def test_a_real_models_logits(tmp_path: Path, data_dir: Path) -> None:
    source, tokenizer = data_dir / "stories260K" / "stories260K.bin", data_dir / "stories260K" / "tok512.bin"
    gguf, out = tmp_path / "m.gguf", tmp_path / "m.onnx"
    quantize_model(source, gguf, "f32", tokenizer=tokenizer, progress=False)
    export_onnx(source, out, tokenizer=tokenizer)
    with ruvq.Model.open(gguf, kv="f32") as model:
        tokens = model.tokenizer.encode(
            "Once upon a time, there was a little girl named Lily.", add_special=True
        )
        wanted = np.asarray(model.logits(tokens))
    found = run(out, tokens)
    assert_close(found, wanted)
    np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


@pytest.mark.parametrize("head_width", [8, 16])
@pytest.mark.parametrize("format", ["f32", "matmulnbits"])
def test_a_cache_in_pieces_gives_what_the_whole_gives(tmp_path: Path, format: str, head_width: int) -> None:
    """In 4 bits and with heads of 16 that is onnxruntime's fused attention against plain operators."""
    parameters = dataclasses.replace(QWEN3, head_width=head_width)
    folder = folder_of(tmp_path, parameters)
    whole, cached = tmp_path / "whole.onnx", tmp_path / "cached.onnx"
    export_onnx(folder, whole, format)
    export_onnx(folder, cached, format, cache=True)
    fused = any(n.op_type == "GroupQueryAttention" for n in onnx.load(cached).graph.node)
    assert fused == (format == "matmulnbits" and head_width == 16)
    running = session(cached)
    names = [i.name for i in running.get_inputs()[1:]]
    assert names[:2] == ["past_key_values.0.key", "past_key_values.0.value"]
    past = {name: np.zeros((1, QWEN3.kv_heads, 0, head_width), np.float32) for name in names}
    pieces = []
    for piece in (TOKENS[:5], TOKENS[5:6], TOKENS[6:]):
        out = running.run(None, {"input_ids": np.array([piece], np.int64), **past})
        pieces.append(out[0][0])
        past = dict(zip(names, out[1:], strict=True))
    assert past[names[0]].shape[2] == len(TOKENS)
    assert_close(np.concatenate(pieces), run(whole, TOKENS))


def test_a_batch_gives_what_each_row_gives_alone(tmp_path: Path) -> None:
    export_onnx(folder_of(tmp_path, TINY), tmp_path / "m.onnx")
    rows = [TOKENS, TOKENS[::-1]]
    both = session(tmp_path / "m.onnx").run(None, {"input_ids": np.array(rows, np.int64)})[0]
    for i, row in enumerate(rows):
        assert_close(both[i], run(tmp_path / "m.onnx", row))


# ---- round trips ----


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_quantizing_the_export_gives_the_bytes_that_quantizing_the_original_gives(
    tmp_path: Path, name: str, external: bool
) -> None:
    parameters = MODELS[name]
    folder = folder_of(tmp_path, parameters, **scaling_of(parameters))
    report = export_onnx(folder, tmp_path / "m.onnx", external=external)
    assert (report.data is not None) == external == (tmp_path / "m.onnx.data").exists()
    for format in ("pi-t2", "f32"):
        files = [tmp_path / f"{format}-{i}.gguf" for i in range(2)]
        for source, out in zip((folder, tmp_path / "m.onnx"), files, strict=True):
            quantize_model(source, out, format, progress=False)
        assert tensor_bytes(files[0]) == tensor_bytes(files[1])


def test_a_quantized_models_export_holds_the_floats_it_stands_for(tmp_path: Path) -> None:
    gguf, out = tmp_path / "m.gguf", tmp_path / "m.onnx"
    quantize_model(folder_of(tmp_path, TINY), gguf, "pi-t3", progress=False)
    export_onnx(gguf, out)
    with open_source(gguf, allow_requantize=True) as before, open_source(out) as after:
        assert after.parameters == before.parameters
        for name, tensor in before.tensors.items():
            np.testing.assert_array_equal(after.tensors[name].load(), tensor.load(), err_msg=name)
    quantize_model(out, tmp_path / "again.gguf", "f32", progress=False)
    texts = ["abc de", "né"]
    with ruvq.Model.open(gguf) as one, ruvq.Model.open(tmp_path / "again.gguf") as two:
        assert [one.tokenizer.encode(t) for t in texts] == [two.tokenizer.encode(t) for t in texts]


# ---- MatMulNBits ----


def test_int4_computes_with_the_weights_it_stores(tmp_path: Path) -> None:
    parameters = QWEN2
    export_onnx(folder_of(tmp_path, parameters), tmp_path / "m.onnx", "matmulnbits")
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    weights = random_weights(parameters)
    for name, values in weights.items():
        module = huggingface_name(name).removesuffix(".weight")
        if f"{module}.weight_Q4" in stored:
            codes, steps = stored[f"{module}.weight_Q4"], stored[f"{module}.weight_scales"]
            decoded = int4.decode(codes, steps.reshape(codes.shape[:2]), values.shape[1])
            assert np.sum((decoded - values) ** 2) < 0.01 * np.sum(values**2)
            weights[name] = decoded
        elif name == "token_embd.weight":
            weights[name] = values.astype(np.float16).astype(np.float32)
    # decoded q and k are in Hugging Face's order, which is GGUF's for qwen2
    assert_close(run(tmp_path / "m.onnx", TOKENS), numpy_logits(weights, parameters, TOKENS))


def test_int4_is_near_the_best_steps() -> None:
    x = np.random.default_rng(1).standard_normal((2000, 32)).astype(np.float32)
    error = np.sum((x - int4.decode(*int4.encode(x), 32)) ** 2)
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], 1)
    best = np.full(len(x), np.inf)
    for level in np.linspace(4, 10, 600):
        for step in (largest / level, -largest / level):
            best = np.minimum(best, np.sum((x - np.clip(np.rint(x / step), -8, 7) * step) ** 2, axis=1))
    assert error <= 1.01 * best.sum()


@pytest.mark.parametrize("width", [1, 31, 33, 172])
def test_int4_fills_the_last_block_up_with_zeros(width: int) -> None:
    x = np.random.default_rng(2).standard_normal((5, width)).astype(np.float32)
    codes, steps = int4.encode(x)
    assert codes.shape == (5, int4.blocks(width), 16)
    padded = np.zeros((5, int4.blocks(width) * 32), np.float32)
    padded[:, :width] = x
    np.testing.assert_array_equal(codes, int4.encode(padded)[0])
    assert int4.decode(codes, steps, width).shape == x.shape


def test_int4_keeps_zeros_and_exact_grids() -> None:
    grid = (np.arange(32, dtype=np.float32) % 16 - 8) * np.float32(0.125)
    x = np.stack([np.zeros(32, np.float32), grid, -grid])
    np.testing.assert_array_equal(int4.decode(*int4.encode(x), 32), x)


# ---- what can go wrong ----


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".part")]


def test_an_existing_file_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TINY)
    out, data = tmp_path / "m.onnx", tmp_path / "m.onnx.data"
    data.write_bytes(b"mine")
    for existing in (data, out):
        existing.write_bytes(b"mine")
        with pytest.raises(StorageError, match="exists already"):
            export_onnx(folder, out)
        assert existing.read_bytes() == b"mine"
    export_onnx(folder, out, external=True, overwrite=True)
    export_onnx(folder, out, overwrite=True)  # the weights of before go with the model that named them
    assert not data.exists()
    open_source(out).close()
    assert leftovers(tmp_path) == []


def test_nothing_is_left_when_it_fails_or_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights()
    weights["blk.1.ffn_down.weight"][3, 4] = np.nan
    source = tmp_path / "m.bin"
    source.write_bytes(llama2c_bytes(weights))
    tokenizer = write_tokenizer(tmp_path / "tok.bin")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"ffn_down\.weight\[3, 4\]"):
        export_onnx(source, tmp_path / "m.onnx", tokenizer=tokenizer, external=True)
    source.write_bytes(llama2c_bytes(random_weights()))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_onnx(source, tmp_path / "m.onnx", tokenizer=tokenizer, external=True, progress=stop)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_model, "_place", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        export_onnx(source, tmp_path / "m.onnx", tokenizer=tokenizer, external=True)
    assert caught.value.errno == 28
    assert sorted(tmp_path.iterdir()) == before


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for external in (False, True):
        seen.clear()
        export_onnx(
            folder_of(tmp_path, TINY), tmp_path / "m.onnx", "matmulnbits", external=external, overwrite=True,
            progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 0


def test_without_the_onnx_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path, TINY)
    export_onnx(folder, tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ruvq\[onnx\]'"):
        export_onnx(folder, tmp_path / "n.onnx")
    open_source(tmp_path / "m.onnx").close()  # reading needs nothing


def test_an_unknown_format_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, TINY)
    with pytest.raises(UsageError, match="f32, matmulnbits"):
        export_onnx(folder, tmp_path / "m.onnx", "int8")
    with pytest.raises(RuvqError, match="doesn't exist"):
        export_onnx(folder, tmp_path / "none" / "m.onnx")


def test_the_command_exports_and_says_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = folder_of(tmp_path, TINY), tmp_path / "m.onnx"
    words = [
        "export-onnx",
        str(folder),
        str(out),
        "--format",
        "matmulnbits",
        "--cache",
        "--external",
        "--json",
    ]
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["format"] == "matmulnbits"
    assert report["cache"] is True
    assert report["data"] == f"{out}.data"
    assert report["bytes"] == out.stat().st_size + Path(report["data"]).stat().st_size
    assert cli.main(["quantize", "--input", str(out), "--format", "q8_0", "--plan", "--json"]) == 3
    error = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "MatMulNBits" in error["actual"]
