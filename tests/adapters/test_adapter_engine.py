"""LoRA adapters in the engine: what they add is what merging adds, with the same bits everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gguf
from adapters import lora
from engine import tiny
from ruvq import Model
from ruvq.errors import DataError, FileFormatError, ModelError, UsageError
from ruvq.gguf import GGUFFile
from ruvq.runtime.engine import Engine

TOKENS = np.random.default_rng(5).integers(0, 131, 60).tolist()
HADAMARD = {
    "ruvq.hadamard.seed": (77, "u64"),
    "ruvq.hadamard.generator": ("splitmix64", "str"),
    "ruvq.hadamard.cut": ("greedy-256", "str"),
}
TOLERANCE = 2e-4  # of logits of about 10: products in another order


def logits(path: Path, *adapters: tuple[Path, float], **options: object) -> np.ndarray:
    with Model.open(path, kv="f32", **options) as model:  # type: ignore[arg-type]
        for adapter, scale in adapters:
            model.load_adapter(adapter, scale)
        return np.array(model.logits(TOKENS))


@pytest.fixture
def base(tmp_path: Path) -> tuple[tiny.Llama, Path]:
    model = tiny.random_llama(biases=True)
    return model, tiny.write(tmp_path / "base.gguf", model)


@pytest.mark.parametrize("rank", [1, 3, 16, 20])
@pytest.mark.parametrize("scale", [1.0, -0.3])
def test_an_adapter_gives_what_merged_weights_give(
    rank: int, scale: float, base: tuple[tiny.Llama, Path], tmp_path: Path
) -> None:
    model, path = base
    pairs = lora.random_pairs(model, rank)
    adapter = lora.write(tmp_path / "a.gguf", pairs, alpha=6.0)
    merged = tiny.write(tmp_path / "merged.gguf", lora.merged(model, pairs, scale * 6.0 / rank))
    expected = logits(merged)
    assert np.abs(expected - logits(path)).max() > 0.1
    np.testing.assert_allclose(
        logits(path, (adapter, scale)), expected, atol=TOLERANCE * np.abs(expected).max()
    )


def test_the_output_matrix_can_be_adapted(tmp_path: Path) -> None:
    model = tiny.random_llama(tied=False)
    path = tiny.write(tmp_path / "base.gguf", model)
    rng = np.random.default_rng(2)
    pairs = {"output.weight": tuple(rng.standard_normal(s).astype(np.float32) for s in ((2, 60), (131, 2)))}
    adapter = lora.write(tmp_path / "a.gguf", pairs, alpha=2.0)  # type: ignore[arg-type]
    expected = logits(tiny.write(tmp_path / "m.gguf", lora.merged(model, pairs, 1.0)))  # type: ignore[arg-type]
    np.testing.assert_allclose(
        logits(path, (adapter, 1.0)), expected, atol=TOLERANCE * np.abs(expected).max()
    )


def test_without_alpha_products_are_not_scaled(base: tuple[tiny.Llama, Path], tmp_path: Path) -> None:
    model, path = base
    pairs = lora.random_pairs(model, 4)
    bare = lora.write(tmp_path / "a.gguf", pairs, alpha=None)
    same = lora.write(tmp_path / "b.gguf", pairs, alpha=4.0)
    assert np.array_equal(logits(path, (bare, 1.0)), logits(path, (same, 1.0)))


@pytest.mark.parametrize("format", ["pi-t2", "pi-t3", "ternary", "q8_0"])
def test_adapters_act_on_the_input_before_the_transform(format: str, tmp_path: Path) -> None:
    """A quantized base with the Hadamard transform: the difference that the adapter makes is that of the same
    weights in floats, within the rounding of activations."""
    model = tiny.random_llama(width=96, ff=160, heads=6, kv_heads=2)
    pairs = lora.random_pairs(model, 8)
    adapter = lora.write(tmp_path / "a.gguf", pairs)
    names = tiny.matrix_names(model)
    if format == "q8_0":
        kinds = dict.fromkeys(names, gguf.GGMLQuantizationType.Q8_0)
        path = tiny.write(tmp_path / "base.gguf", model, dtypes=kinds)
        decoded = {
            n: gguf.quants.dequantize(gguf.quants.quantize(model.tensors[n], kinds[n]), kinds[n])
            for n in names
        }
    else:
        path, decoded = _turned(tmp_path, model, format)
    model.tensors.update(decoded)
    expected = logits(tiny.write(tmp_path / "merged.gguf", lora.merged(model, pairs, 1.0)))
    plain = logits(tiny.write(tmp_path / "floats.gguf", model))
    scale = np.abs(expected - plain).std()
    assert np.abs(logits(path, (adapter, 1.0)) - expected).std() < 0.05 * scale
    assert np.abs(logits(path) - expected).std() > 0.8 * scale


def _turned(folder: Path, model: tiny.Llama, format: str) -> tuple[Path, dict[str, np.ndarray]]:
    """The model in one of ruvq's formats behind the transform, and what its weights decode to."""
    import ruvq

    names = [n for n in tiny.matrix_names(model) if n != "token_embd.weight"]
    encoded, decoded = {}, {}
    for name in names:
        turned = ruvq.hadamard(model.tensors[name], seed=77)
        quantized = ruvq.quantize(turned, format)
        encoded[name] = (format, tiny.encode(turned, format))
        assert bytes(quantized.data) == encoded[name][1].tobytes()
        decoded[name] = ruvq.hadamard(ruvq.dequantize(quantized), seed=77, inverse=True)
    changes = HADAMARD | {"ruvq.hadamard.tensors": (names, "arr")}
    return tiny.write(folder / "turned.gguf", model, encoded=encoded, changes=changes), decoded


def test_several_adapters_add_up_and_come_off(base: tuple[tiny.Llama, Path], tmp_path: Path) -> None:
    model, path = base
    one, two = (
        lora.random_pairs(model, 4, seed=1),
        lora.random_pairs(model, 2, seed=2, parts=("attn_q", "ffn_up")),
    )
    files = lora.write(tmp_path / "1.gguf", one, alpha=4.0), lora.write(tmp_path / "2.gguf", two, alpha=2.0)
    both = lora.merged(lora.merged(model, one, 0.5), two, 2.0)
    expected = logits(tiny.write(tmp_path / "merged.gguf", both))
    plain, alone = logits(path), logits(path, (files[0], 0.5))
    with Model.open(path, kv="f32") as opened:
        first = opened.load_adapter(files[0])
        second = opened.load_adapter(files[1], 2.0)
        assert opened.adapters == (first, second)
        assert first.name == "a test"
        assert first.nbytes > 0
        first.scale = 0.5
        assert first.scale == 0.5
        np.testing.assert_allclose(opened.logits(TOKENS), expected, atol=TOLERANCE * np.abs(expected).max())
        second.unload()
        second.unload()
        assert np.array_equal(opened.logits(TOKENS), alone)
        assert opened.adapters == (first,)
        opened.unload_adapter()
        assert np.array_equal(opened.logits(TOKENS), plain)
        assert opened.adapters == ()
        with pytest.raises(UsageError, match="unloaded"):
            first.scale = 1.0
        opened.load_adapter(files[0], 0.5)
        assert np.array_equal(opened.logits(TOKENS), alone)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("format", ["f32", "pi-t2"])
def test_the_same_bits_for_any_batch_kernel_and_number_of_threads(
    format: str, kind: str, tmp_path: Path
) -> None:
    model = tiny.random_llama(width=96, ff=160, heads=6, kv_heads=2, biases=True)
    encoded = None if format == "f32" else tiny.encode_all(model, format)
    changes = HADAMARD | {"ruvq.hadamard.tensors": (tiny.matrix_names(model), "arr")}
    path = tiny.write(tmp_path / "base.gguf", model, encoded=encoded, changes=changes)
    pairs = lora.random_pairs(model, 32)
    adapter = lora.write(tmp_path / "a.gguf", pairs, kind=gguf.GGMLQuantizationType[kind])

    def compute(**options: object) -> tuple[bytes, list[int]]:
        with (
            GGUFFile.open(path) as file,
            Engine(file, hashes=True, split_all=True, **options) as engine,  # type: ignore[arg-type]
        ):
            opened = Model(file, engine)
            opened.load_adapter(adapter, 0.7)
            result = np.array(opened.logits(TOKENS)).tobytes(), opened.hashes()
            opened.unload_adapter()
            return result

    expected = compute(batch=1)
    for options in ({"batch": 16}, {"batch": 7, "threads": 2}, {"batch": 1, "threads": 3}):
        assert compute(**options) == expected, options
    assert compute(batch=16, scalar=True) == expected


def test_a_change_forgets_the_tokens_and_ends_a_generation(tmp_path: Path) -> None:
    model = tiny.with_vocabulary(tiny.random_llama(vocab=320))
    path = tiny.write(tmp_path / "base.gguf", model)
    adapter = lora.write(tmp_path / "a.gguf", lora.random_pairs(model))
    with Model.open(path) as opened:
        running = opened.generate([5, 6, 7], 20, temperature=0)
        opened.load_adapter(adapter)
        assert list(running) == []
        again = opened.generate([5, 6, 7], 20, temperature=0)
        for _ in again:
            pass
        assert again.stats.cached_tokens == 0
    with Model.open(path) as fresh:
        fresh.load_adapter(adapter)
        expected = fresh.generate([5, 6, 7], 20, temperature=0)
        for _ in expected:
            pass
    assert again.tokens == expected.tokens


# ---- refusals ----


def _refused(path: Path, adapter: Path | bytes, error: type[Exception], *texts: str) -> None:
    """It is refused in these words, and the model computes as before."""
    with Model.open(path, kv="f32") as model:
        before = np.array(model.logits(TOKENS))
        with pytest.raises(error) as caught:
            model.load_adapter(adapter)
        for text in texts:
            assert text in str(caught.value)
        assert model.adapters == ()
        assert np.array_equal(model.logits(TOKENS), before)


def test_files_of_another_kind_are_refused(base: tuple[tiny.Llama, Path], tmp_path: Path) -> None:
    model, path = base
    pairs = lora.random_pairs(model)
    adapter = lora.write(tmp_path / "a.gguf", pairs)
    _refused(path, path, ModelError, "general.type", "is it the model itself")
    with pytest.raises(ModelError, match="open the base model"):
        Model.open(adapter)
    other = lora.write(tmp_path / "b.gguf", pairs, keys={"adapter.type": "control_vector"})
    _refused(path, other, ModelError, "adapter.type", "control_vector")
    activated = lora.write(tmp_path / "c.gguf", pairs, keys={"adapter.alora.invocation_tokens": "5"})
    _refused(path, activated, ModelError, "can't apply such")
    _refused(path, b"GGUF", FileFormatError)
    _refused(path, adapter.read_bytes()[:-500], FileFormatError)
    _refused(path, adapter.read_bytes()[:90], FileFormatError)


def test_adapters_of_another_base_are_refused_by_name_and_shape(
    base: tuple[tiny.Llama, Path], tmp_path: Path
) -> None:
    model, path = base
    pairs = lora.random_pairs(model)
    name = "blk.1.ffn_up.weight"
    qwen = lora.write(tmp_path / "q.gguf", pairs, architecture="qwen2")
    _refused(path, qwen, ModelError, "general.architecture", "qwen2")
    neox = lora.write(tmp_path / "n.gguf", pairs, keys={"ruvq.rope.neox": True})
    _refused(path, neox, ModelError, "ruvq.rope.neox")
    deeper = lora.write(tmp_path / "d.gguf", {"blk.3.attn_q.weight": pairs["blk.0.attn_q.weight"]})
    _refused(path, deeper, ModelError, "blk.3.attn_q.weight.lora_a", "no such matrix")
    embedding = {"token_embd.weight": (np.ones((2, 60), np.float32), np.ones((131, 2), np.float32))}
    _refused(path, lora.write(tmp_path / "e.gguf", embedding), ModelError, "token_embd")
    a, b = pairs[name]
    for part, wrong in (("a", a[:, :-1]), ("b", b[:-1]), ("b", b[:, :-1])):
        file = lora.write(tmp_path / "s.gguf", pairs, more={f"{name}.lora_{part}": wrong.copy()})
        _refused(path, file, ModelError, f"{name}.lora_{part}", "another base")


def test_hostile_adapters_are_refused(base: tuple[tiny.Llama, Path], tmp_path: Path) -> None:
    model, path = base
    pairs = lora.random_pairs(model, 4, parts=("attn_k",))
    name = "blk.2.attn_k.weight"
    rows, width = model.tensors[name].shape
    large = {name: (np.ones((rows + 1, width), np.float32), np.ones((rows, rows + 1), np.float32))}
    _refused(path, lora.write(tmp_path / "r.gguf", large), ModelError, f"rank of 1 to {rows}", str(rows + 1))
    for part, bad in (("a", np.nan), ("b", np.inf)):
        values = pairs[name]["ab".index(part)].copy()
        values[1, 2] = bad
        file = lora.write(tmp_path / "n.gguf", pairs, more={f"{name}.lora_{part}": values})
        _refused(path, file, DataError, f"{name}.lora_{part}", "NaN")
    alone = {n: pair for n, pair in pairs.items() if n != name}
    for part in "ab":
        file = lora.write(
            tmp_path / "p.gguf", alone, more={f"{name}.lora_{part}": pairs[name]["ab".index(part)]}
        )
        _refused(path, file, ModelError, f"{name}.lora_{part}", ".lora_a and .lora_b")
    norm = {"blk.0.attn_norm.weight": np.ones(60, np.float32)}
    _refused(path, lora.write(tmp_path / "x.gguf", pairs, more=norm), ModelError, "attn_norm")
    _refused(path, lora.write(tmp_path / "0.gguf", {}), ModelError, "none")
    endless = lora.write(tmp_path / "i.gguf", pairs, alpha=float("inf"))
    _refused(path, endless, FileFormatError, "adapter.lora.alpha")
    file = lora.write(tmp_path / "ok.gguf", pairs)
    with Model.open(path) as opened, pytest.raises(UsageError, match="scale"):
        opened.load_adapter(file, float("nan"))
