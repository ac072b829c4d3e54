"""The same bits whatever the batch, the kernels, the history or the host's floating-point mode."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import gguf
from engine import tiny
from ruvq import Model
from ruvq.gguf import GGUFFile
from ruvq.runtime.engine import Engine, Sampling

TOKENS = np.random.default_rng(5).integers(0, 131, 75).tolist()
OWN_FORMATS = ["pi-q3", "pi-q2", "pi-t3", "pi-t2", "pi-x3", "pi-x2", "ternary", "pi-ternary"]
GGML_FORMATS = ["F32", "F16", "BF16", "Q8_0"]


def write(path: Path, format: str, **sizes: int) -> Path:
    model = tiny.random_llama(**({"width": 96, "ff": 160} if format == "Q8_0" else {}), **sizes)
    if format in OWN_FORMATS:
        return tiny.write(path, model, encoded=tiny.encode_all(model, format))
    kind = gguf.GGMLQuantizationType[format]
    return tiny.write(path, model, dtypes=dict.fromkeys(tiny.matrix_names(model), kind))


def compute(path: Path, tokens: list[int] = TOKENS, **options: object) -> tuple[bytes, list[int]]:
    with Model.open(path, hashes=True, **options) as model:  # type: ignore[arg-type]
        return np.array(model.logits(tokens)).tobytes(), model.hashes()


@pytest.mark.parametrize("kv", ["f16", "f32"])
@pytest.mark.parametrize("format", OWN_FORMATS + GGML_FORMATS)
def test_simd_and_scalar_give_the_same_bits(format: str, kv: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", format)
    assert compute(path, kv=kv) == compute(path, kv=kv, scalar=True)


@pytest.mark.parametrize("format", ["F32", "pi-t3"])
def test_norms_of_heads_and_biases_give_the_same_bits_in_both_kernels_and_any_batch(
    format: str, tmp_path: Path
) -> None:
    """Heads of 22 elements end in the middle of a round of 16 lanes."""
    sizes = {"key_width": 22, "value_width": 22, "rope_width": 22}
    model = tiny.random_llama(architecture="qwen3", neox=True, head_norms=True, biases=True, **sizes)
    encoded = None if format == "F32" else tiny.encode_all(model, format)
    path = tiny.write(tmp_path / "m.gguf", model, encoded=encoded)
    expected = compute(path, batch=1)
    assert compute(path, batch=16) == expected
    assert compute(path, batch=16, scalar=True) == expected


@pytest.mark.parametrize("kernels", ["simd128", "avx2"])
@pytest.mark.parametrize("format", OWN_FORMATS + GGML_FORMATS)
def test_narrower_kernels_give_the_same_bits(format: str, kernels: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", format)
    file = GGUFFile.open(path)
    with Model(file, Engine(file, hashes=True, kernels=kernels)) as model:
        found = np.array(model.logits(TOKENS)).tobytes(), model.hashes()
    assert found == compute(path)


@pytest.mark.parametrize("kv", ["f16", "f32"])
@pytest.mark.parametrize("head_width", [16, 64, 80])
def test_attention_in_wide_vectors_gives_the_same_bits(head_width: int, kv: str, tmp_path: Path) -> None:
    """Heads of whole vectors, for which the widest kernels have loops of their own."""
    path = write(tmp_path / "m.gguf", "F32", width=6 * head_width)
    found = [compute(path, kv=kv, batch=batch) for batch in (1, 16)]
    assert found == [compute(path, kv=kv, scalar=True)] * 2


@pytest.mark.parametrize("batch", [3, 16, 75])
@pytest.mark.parametrize("format", ["pi-t3", "F32", "Q8_0"])
def test_batches_give_the_bits_of_one_token_at_a_time(format: str, batch: int, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", format)
    assert compute(path, batch=batch) == compute(path, batch=1)


def test_hashes_differ_from_the_layer_on_where_a_weight_differs(tmp_path: Path) -> None:
    model = tiny.random_llama()
    _, before = compute(tiny.write(tmp_path / "a.gguf", model))
    model.tensors["blk.1.ffn_up.weight"][3, 4] += np.float32(0.5)
    _, after = compute(tiny.write(tmp_path / "b.gguf", model))
    assert before[:2] == after[:2]
    assert all(a != b for a, b in zip(before[2:], after[2:], strict=True))
    assert len(set(before)) == len(before) == model.layers + 2


def test_hashes_do_not_depend_on_which_logits_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "pi-t3")
    _, expected = compute(path)
    with GGUFFile.open(path) as file, Engine(file, hashes=True) as engine:
        engine.feed(TOKENS)
        while engine.step():
            pass
        assert engine.hashes() == expected


def test_rewinding_and_going_on_gives_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "pi-t2")
    with GGUFFile.open(path) as file, Engine(file) as engine:

        def advance(tokens: list[int]) -> bytes:
            engine.feed(tokens)
            while engine.step():
                pass
            return engine.logits()

        expected = advance(TOKENS)
        engine.truncate(30)
        assert engine.position == 30
        advance([3] * 20)
        engine.truncate(17)
        assert advance(TOKENS[17:]) == expected
        engine.truncate(75)  # nothing to forget
        assert engine.position == 75
        engine.feed([1, 2])
        engine.truncate(76)  # one that waited
        assert engine.step() == 0
        assert engine.position == 76


def test_a_shared_prefix_in_the_cache_changes_nothing(tmp_path: Path) -> None:
    model = tiny.with_vocabulary(tiny.random_llama(vocab=400))
    path = tiny.write(tmp_path / "m.gguf", model)
    first, second = [1, 300, 301, 302, 303], [1, 300, 301, 350, 351, 352]
    with Model.open(path) as warm, Model.open(path) as cold:
        warm.generate(first, 10, seed=1).close()
        "".join(warm.generate(first, 10, seed=1))
        generation = warm.generate(second, 20, seed=2)
        assert "".join(generation) == "".join(cold.generate(second, 20, seed=2))
        assert generation.stats.cached_tokens == 3
        again = warm.generate(second, 20, seed=2)
        assert "".join(again) == generation.text
        assert again.stats.cached_tokens == len(second) - 1


@pytest.fixture(scope="module")
def mxcsr(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Reads and sets the x86 floating-point control register of this thread."""
    import platform

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("x86's control register")
    compiler = shutil.which("clang-19") or shutil.which("cc")
    assert compiler, "a C compiler builds the library under test, so one is needed here too"
    folder = tmp_path_factory.mktemp("mxcsr")
    (folder / "m.c").write_text(
        "unsigned get_it(void) { return __builtin_ia32_stmxcsr(); }\n"
        "void set_it(unsigned v) { __builtin_ia32_ldmxcsr(v); }\n"
    )
    library = folder / "m.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, folder / "m.c"], check=True)
    return ctypes.CDLL(str(library))


FLUSH = 0x8040 | 0x2000  # flush to zero, denormals are zero, round down


def test_denormals_count_whatever_the_host_has_set(mxcsr: ctypes.CDLL, tmp_path: Path) -> None:
    """The logits are denormal numbers here; a host that flushes them would get zeros."""
    model = tiny.random_llama()
    model.tensors["output_norm.weight"] *= np.float32(1e-38)
    model.tensors["blk.0.attn_v.weight"] *= np.float32(1e-39)
    path = tiny.write(tmp_path / "m.gguf", model)
    expected = compute(path, kv="f32")
    assert 0 < np.abs(np.frombuffer(expected[0], "<f4")).min() < np.finfo(np.float32).tiny
    before = mxcsr.get_it() & 0xFFC0
    with Model.open(path, hashes=True, kv="f32") as opened:
        engine = opened._engine
        assert engine is not None
        engine.start_sampling(Sampling(1.0, seed=1))
        engine.feed(TOKENS)
        mxcsr.set_it(before | FLUSH)
        try:
            while engine._core.raw("rq_model_step", 0, engine._memory.address) > 0:
                pass
            seen = mxcsr.get_it() & 0xFFC0
        finally:
            mxcsr.set_it(before)
        assert engine.hashes() == expected[1]
        assert seen == before | FLUSH  # given back as it was


def test_opening_and_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "pi-t3")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    def cycle() -> None:
        with Model.open(path) as model:
            model.score(TOKENS)

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc to read the resident size from")
    for _ in range(3):
        cycle()
    before = resident()
    for _ in range(20):
        cycle()
    assert resident() - before < 256  # pages


def test_the_core_keeps_no_state_between_models(tmp_path: Path) -> None:
    """Two models step in turns and get what each gets alone."""
    one, two = write(tmp_path / "1.gguf", "pi-t3"), write(tmp_path / "2.gguf", "F32", layers=2)
    alone = [compute(p, kv="f32")[1] for p in (one, two)]
    with GGUFFile.open(one) as f, GGUFFile.open(two) as g:
        engines = [Engine(file, hashes=True, kv="f32") for file in (f, g)]
        for token in TOKENS:
            for engine in engines:
                engine.feed([token])
                engine.step()
        assert [e.hashes() for e in engines] == alone
        for engine in engines:
            engine.close()


def test_models_in_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.gguf", format) for n, format in enumerate(["pi-t3", "F32", "pi-q2"])]
    alone = [compute(p) for p in paths]
    with ThreadPoolExecutor(len(paths)) as pool:
        assert list(pool.map(compute, paths)) == alone
