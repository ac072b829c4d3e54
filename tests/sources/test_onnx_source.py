"""ONNX decoders of the usual exporters give the tensors that their Hugging Face originals have."""

from __future__ import annotations

import dataclasses
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from attacks.onnx_files import DATA, onnx
from ruvq.errors import FileFormatError, ModelError, RuvqError, StorageError, TokenizerError, UsageError
from ruvq.quantize.pipeline import quantize_model
from ruvq.sources import onnx_file, open_source, protobuf
from ruvq.sources.onnx_file import OnnxFile
from ruvq.sources.onnx_source import open_onnx
from sources.onnx_models import onnx_decoder, write_onnx
from sources.test_sources_open import assert_same, loaded
from sources.tiny_models import TINY, random_weights, write_huggingface

STYLES = ("torch", "dynamo", "dynamo-folded", "genai", "nameless")
QWEN2 = dataclasses.replace(TINY, architecture="qwen2", tied=False)
QWEN3 = dataclasses.replace(TINY, architecture="qwen3")
UNTIED = dataclasses.replace(TINY, tied=False)
MODELS = {"tied llama": TINY, "llama": UNTIED, "qwen2": QWEN2, "qwen3": QWEN3}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("style", STYLES)
def test_every_exporter_gives_the_models_tensors(tmp_path: Path, style: str, name: str) -> None:
    parameters = MODELS[name]
    weights = random_weights(parameters)
    path = write_onnx(tmp_path / "m", onnx_decoder(weights, parameters, style), parameters)
    with open_source(path) as source:
        assert source.parameters == parameters
        assert source.kind == "ONNX file"
        assert bool(source.notes) == (style == "nameless")
        assert_same(loaded(source), weights)


@pytest.mark.parametrize("external", ["", "model.onnx.data", "weights/all.bin"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_whatever_the_float_type_and_wherever_the_data(tmp_path: Path, dtype: str, external: str) -> None:
    weights = random_weights()
    (tmp_path / "m" / "weights").mkdir(parents=True)
    path = write_onnx(tmp_path / "m", onnx_decoder(weights, dtype=dtype), external=external)
    with open_source(path) as source:
        assert {t.dtype for t in source.tensors.values()} == {dtype.lower()}
        assert [p.name for p in source.files] == ["model.onnx", *([Path(external).name] if external else [])]
        assert_same(loaded(source), weights)


@pytest.mark.parametrize("style", ["torch", "genai"])
@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_rows_read_in_pieces_equal_the_whole(tmp_path: Path, style: str, step: int) -> None:
    weights = random_weights()
    with open_source(write_onnx(tmp_path / "m", onnx_decoder(weights, style=style))) as source:
        for name in ("blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.0.ffn_down.weight"):
            pieces = [values for _, values in source.tensors[name].chunks(step)]
            np.testing.assert_array_equal(np.concatenate(pieces), weights[name])


@pytest.mark.parametrize("format", ["pi-t2", "f16"])
def test_quantizing_it_gives_the_bytes_that_quantizing_the_original_gives(
    tmp_path: Path, format: str
) -> None:
    weights = random_weights(QWEN2)
    folder = write_huggingface(tmp_path / "hf", weights, QWEN2)
    path = write_onnx(tmp_path / "m", onnx_decoder(weights, QWEN2), QWEN2)
    files = []
    for source in (folder, path):
        out = tmp_path / f"{source.name}.gguf"
        quantize_model(source, out, format, progress=False)
        files.append(out)
    assert tensor_bytes(files[0]) == tensor_bytes(files[1])


def tensor_bytes(path: Path) -> dict[str, bytes]:
    from ruvq.gguf import GGUFFile

    data = path.read_bytes()
    with GGUFFile.open(path) as file:
        start = len(data) - sum(-(-t.nbytes // 32) * 32 for t in file.tensors)
        return {t.name: data[start + t.offset : start + t.offset + t.nbytes] for t in file.tensors}


def test_branches_that_share_their_weights_are_read(tmp_path: Path) -> None:
    """As optimum merges a decoder with and without a cache."""
    weights = random_weights()
    model = onnx_decoder(weights)
    branches = {
        key: helper.make_graph(model.graph.node, key, [], model.graph.output)
        for key in ("then_branch", "else_branch")
    }
    choice = helper.make_node("If", ["use_cache"], ["logits"], **branches)
    graph = helper.make_graph([choice], "merged", model.graph.input, [], model.graph.initializer)
    with open_source(write_onnx(tmp_path / "m", helper.make_model(graph))) as source:
        assert_same(loaded(source), weights)


def test_equal_tensors_stored_once_are_told_apart_by_their_nodes(tmp_path: Path) -> None:
    weights = random_weights()
    gains = [name for name in weights if name.endswith("_norm.weight")]
    weights |= {name: np.ones_like(weights[name]) for name in gains}
    model = onnx_decoder(weights)
    names = [i.name for i in model.graph.initializer if i.name.endswith("norm.weight")]
    kept = [i for i in model.graph.initializer if i.name not in names[1:]]
    copies = [helper.make_node("Identity", [names[0]], [name]) for name in names[1:]]
    nodes = [*copies, *model.graph.node]
    graph = helper.make_graph(nodes, "deduplicated", model.graph.input, model.graph.output, kept)
    with open_source(write_onnx(tmp_path / "m", helper.make_model(graph))) as source:
        assert_same(loaded(source), weights)


def test_the_reader_agrees_with_the_onnx_package(tmp_path: Path) -> None:
    model = onnx_decoder(random_weights(), dtype="F16")
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [2, 3], [1, 2, 3, 4, 5, 6.5])
    doubles = helper.make_tensor("doubles", TensorProto.DOUBLE, [2], [0.1, -1e300])
    constant = helper.make_node(
        "Constant", [], ["kept"], value=numpy_helper.from_array(np.eye(3, dtype=np.float32))
    )
    model.graph.initializer.extend([typed, doubles])
    model.graph.node.extend([constant])
    file = OnnxFile(write_onnx(tmp_path / "m", model))
    try:
        theirs = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        theirs["kept"] = np.eye(3, dtype=np.float32)
        assert set(file.tensors) == set(theirs)
        for name, values in theirs.items():
            tensor = file.tensors[name]
            assert tensor.shape == values.shape
            if tensor.start is not None and len(tensor.shape):
                rows = int(np.prod(tensor.shape[:-1]))
                with np.errstate(over="ignore"):
                    wanted = values.astype(np.float32).ravel()
                np.testing.assert_array_equal(np.asarray(file.rows(tensor, 0, rows)), wanted, err_msg=name)
        assert [n.op.split(".")[-1] for n in file.nodes] == [n.op_type for n in model.graph.node]
        assert [list(n.inputs) for n in file.nodes] == [list(n.input) for n in model.graph.node]
    finally:
        file.close()


@pytest.mark.parametrize("external", ["", "model.onnx.data"])
def test_memory_stays_far_below_the_weights(tmp_path: Path, external: str) -> None:
    parameters = dataclasses.replace(TINY, vocab_size=40_000, width=256, heads=8, head_width=32)
    weights = random_weights(parameters)
    path = write_onnx(tmp_path / "m", onnx_decoder(weights, parameters), parameters, external)
    (tmp_path / "m" / "tok.bin").unlink()
    tracemalloc.start()
    try:
        with pytest.raises(StorageError, match="tokenizer"):
            open_source(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20 < sum(p.stat().st_size for p in path.parent.iterdir()) // 20


# ---- what is refused ----


def change(edit: Callable[[ModelProto], object], style: str = "torch") -> ModelProto:
    model = onnx_decoder(random_weights(), style=style)
    edit(model)
    return model


def rename(model: ModelProto, old: str, new: str) -> None:
    """In nodes' names and outputs and in initializers."""
    for node in model.graph.node:
        node.name = node.name.replace(old, new)
        node.input[:] = [i.replace(old, new) for i in node.input]
        node.output[:] = [o.replace(old, new) for o in node.output]


def one_node(op: str, domain: str = "") -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node(op, ["input_ids"], ["more"], domain=domain))

    return edit


def scaled(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "MatMul")
    node.op_type = "Gemm"
    node.attribute.append(helper.make_attribute("alpha", 2.0))


def twice(model: ModelProto) -> None:
    rename(model, "up_proj", "gate_proj")


def without_a_layer(model: ModelProto) -> None:
    kept = [n for n in model.graph.node if "layers.1/" not in n.name]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def a_function(model: ModelProto) -> None:
    body = [helper.make_node("Identity", ["a"], ["b"])]
    made = helper.make_function("f", "f", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    model.functions.append(made)


REFUSED: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "another architecture's operators": (
        one_node("LayerNormalization"),
        "llama, mistral.*LayerNormalization",
    ),
    "a custom operator": (one_node("Steal", "evil"), "'evil.Steal' x 1"),
    "weights in MatMulNBits": (
        one_node("MatMulNBits", "com.microsoft"),
        "quantized already.*MatMulNBits x 1",
    ),
    "weights behind DequantizeLinear": (one_node("DequantizeLinear"), "quantized already"),
    "a product that belongs nowhere": (lambda m: rename(m, "o_proj", "x_proj"), "no layer.*x_proj"),
    "a product scaled by alpha": (scaled, "scaled"),
    "two tensors for one place": (twice, "the same of the model.*gate"),
    "a layer that is missing": (without_a_layer, "missing"),
    "functions": (a_function, "functions.*1 functions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_graph_that_is_no_known_decoder_is_refused(tmp_path: Path, case: str) -> None:
    edit, message = REFUSED[case]
    path = write_onnx(tmp_path / "m", change(edit))
    with pytest.raises(ModelError, match="(?s)" + message) as caught:
        open_source(path)
    assert caught.value.expected
    assert caught.value.actual


def test_a_graph_without_names_in_another_order_is_refused(tmp_path: Path) -> None:
    def reverse(model: ModelProto) -> None:
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    with pytest.raises(ModelError, match="no layer"):
        open_source(write_onnx(tmp_path / "m", change(reverse, "nameless")))


def test_it_needs_a_configuration_beside_it_or_from_the_flag(tmp_path: Path) -> None:
    weights = random_weights()
    path = write_onnx(tmp_path / "m", onnx_decoder(weights))
    config = (tmp_path / "m" / "config.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match=r"config\.json"):
        open_source(path)
    with open_source(path, None, config) as source:
        assert_same(loaded(source), weights)


def test_llama_3s_frequency_factors_are_computed_from_the_configuration(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }  # fmt: skip
    weights = random_weights()
    folder = write_huggingface(tmp_path / "hf", weights, rope_scaling=scaling)
    path = write_onnx(tmp_path / "m", onnx_decoder(weights), rope_scaling=scaling)
    with open_source(folder) as theirs, open_source(path) as ours:
        assert_same(loaded(ours), loaded(theirs))
        assert "rope_freqs.weight" in ours.tensors


def test_a_folder_with_a_decoder_in_onnx_alone_says_how_to_name_it(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m", onnx_decoder(random_weights()))
    with pytest.raises(StorageError, match="name its file") as caught:
        open_source(path.parent)
    assert str(path) in caught.value.hint


def test_another_models_configuration_or_tokenizer_is_refused(tmp_path: Path) -> None:
    wider = dataclasses.replace(TINY, width=64)
    with pytest.raises(ModelError, match=r"expected \[64\]|\[272, 64\]"):
        open_source(write_onnx(tmp_path / "a", onnx_decoder(random_weights()), wider))
    larger = dataclasses.replace(TINY, vocab_size=9000)
    path = write_onnx(tmp_path / "b", onnx_decoder(random_weights(larger), larger), larger)
    write_onnx(tmp_path / "c", onnx_decoder(random_weights()))
    with pytest.raises(TokenizerError, match="doesn't belong"):
        open_source(path, tmp_path / "c" / "tok.bin")


@pytest.mark.parametrize("name", [case.name for case in onnx()])
def test_the_corpus_of_attacks(tmp_path: Path, name: str) -> None:
    cases = {case.name: case for case in onnx()}
    for file in (name, DATA.removesuffix(".onnx")):
        (tmp_path / f"{file}.onnx").write_bytes(cases[file].data)
    case = cases[name]
    if case.code is None:
        open_onnx(tmp_path / f"{name}.onnx", None)[0].close()
        return
    with pytest.raises(RuvqError) as caught:
        open_onnx(tmp_path / f"{name}.onnx", None)
    assert case.says in str(caught.value)
    assert caught.value.expected
    assert caught.value.actual


@pytest.mark.parametrize(
    ("module", "limit", "message"),
    [
        (onnx_file, "MAX_NODES", "too many nodes"),
        (onnx_file, "MAX_TENSORS", "too many tensors"),
        (protobuf, "MAX_FIELDS", "too many fields"),
        (protobuf, "MAX_TEXTS", "too much text"),
    ],
)
def test_what_a_file_may_hold_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, limit: str, message: str
) -> None:
    path = write_onnx(tmp_path / "m", onnx_decoder(random_weights()))
    assert getattr(module, limit) > 1000
    monkeypatch.setattr(module, limit, 20)
    with pytest.raises(FileFormatError, match=message):
        open_source(path)


# ---- external data ----


def test_links_are_followed_as_far_as_the_models_own_folder(tmp_path: Path) -> None:
    """Hugging Face's cache: a folder of links to files that lie together elsewhere."""
    weights = random_weights()
    path = write_onnx(tmp_path / "m", onnx_decoder(weights), external="model.onnx.data")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for number, name in enumerate(sorted(p.name for p in path.parent.iterdir())):
        (path.parent / name).rename(blobs / f"{number}")
        (snapshot / name).symlink_to(Path("..") / "blobs" / f"{number}")
    with open_source(snapshot / "model.onnx") as source:
        assert_same(loaded(source), weights)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m", onnx_decoder(random_weights()), external="model.onnx.data")
    (tmp_path / "m" / "model.onnx.data").rename(tmp_path / "secret")
    (tmp_path / "m" / "model.onnx.data").symlink_to(tmp_path / "secret")
    with pytest.raises(FileFormatError, match="outside the model's folder"):
        open_source(path)
    (tmp_path / "m" / "model.onnx.data").unlink()
    (tmp_path / "m" / "model.onnx.data").symlink_to("model.onnx.data")
    with pytest.raises(StorageError, match="external data"):
        open_source(path)


def test_a_folder_of_the_path_may_not_be_a_link_out_either(tmp_path: Path) -> None:
    (tmp_path / "m" / "weights").mkdir(parents=True)
    path = write_onnx(tmp_path / "m", onnx_decoder(random_weights()), external="weights/all.bin")
    (tmp_path / "m" / "weights").rename(tmp_path / "elsewhere")
    (tmp_path / "m" / "weights").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileFormatError, match="outside the model's folder"):
        open_source(path)


def test_data_that_is_no_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m", onnx_decoder(random_weights()), external="model.onnx.data")
    data = tmp_path / "m" / "model.onnx.data"
    data.unlink()
    with pytest.raises(StorageError, match="external data"):
        open_source(path)
    os.mkfifo(data)  # opening it would wait for ever
    with pytest.raises(FileFormatError, match="a regular file"):
        open_source(path)
    data.unlink()
    data.mkdir()
    with pytest.raises(FileFormatError, match="a regular file"):
        open_source(path)


def test_data_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m", onnx_decoder(random_weights()), external="model.onnx.data")
    data = tmp_path / "m" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="outside its file"):
        open_source(path)


def test_a_flipped_byte_anywhere_gives_a_model_or_a_typed_error(tmp_path: Path) -> None:
    model = onnx_decoder(random_weights(), dtype="F16")
    path = write_onnx(tmp_path / "m", model)
    whole = path.read_bytes()
    refused = 0
    for at in [*range(0, 3000, 17), *range(len(whole) - 600, len(whole), 3)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            open_source(path).close()
        except RuvqError:
            refused += 1
    assert refused > 40
