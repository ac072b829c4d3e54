"""Adapters from PEFT's format to GGUF and back: the engine computes what PEFT computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ruvq
from adapters import lora as written
from engine import tiny
from ruvq.adapters import Lora, convert_adapter, read_adapter, write_adapter
from ruvq.adapters.peft_folder import CONFIG, WEIGHTS
from ruvq.errors import DataError, FileFormatError, ModelError, StorageError, UsageError

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small llama with a vocabulary, as GGUF in f32."""
    model = tiny.with_vocabulary(tiny.random_llama(vocab=320))
    return tiny.write(tmp_path_factory.mktemp("base") / "base.gguf", model)


def transformers_model(base: Path) -> Any:
    pytest.importorskip("torch")
    from ruvq.sources import open_source
    from ruvq.train import load_model

    with open_source(base) as source:
        return load_model(source)


def peft_adapter(folder: Path, base: Path, **options: Any) -> Any:
    """A random adapter that PEFT has saved; the model with it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS, "init_lora_weights": False} | options
    model = get_peft_model(transformers_model(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    model.save_pretrained(str(folder))
    return model.eval()


def logits_of(model: Any, tokens: list[int]) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 3}, "alpha_pattern": {"k_proj": 9.5}},
        {"layers_to_transform": [1]},
    ],
    ids=["plain", "rank-stabilised", "patterns", "one layer"],
)
def test_the_engine_computes_what_peft_computes(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    tokens = np.random.default_rng(4).integers(0, 320, 40).tolist()
    model = peft_adapter(tmp_path / "peft", base, **options)
    expected = logits_of(model, tokens)
    convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base, type="f32")
    with ruvq.Model.open(base, kv="f32") as opened:
        plain = np.array(opened.logits(tokens))
        opened.load_adapter(tmp_path / "a.gguf")
        found = np.array(opened.logits(tokens))
    assert np.abs(plain - expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=3e-4 * np.abs(expected).max())


def test_there_and_back_is_the_same_adapter_for_peft(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    tokens = list(range(30))
    model = peft_adapter(tmp_path / "peft", base, alpha_pattern={"v_proj": 3})
    convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base, type="f32")
    convert_adapter(tmp_path / "a.gguf", tmp_path / "again", base)
    again = PeftModel.from_pretrained(transformers_model(base), str(tmp_path / "again")).eval()
    np.testing.assert_allclose(logits_of(again, tokens), logits_of(model, tokens), rtol=1e-5, atol=3e-5)
    first, second = read_adapter(tmp_path / "peft"), read_adapter(tmp_path / "again")
    assert first.pairs.keys() == second.pairs.keys()


def test_f16_is_the_default_and_refuses_what_it_can_not_hold(base: Path, tmp_path: Path) -> None:
    peft_adapter(tmp_path / "peft", base)
    convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base)
    with ruvq.GGUFFile.open(tmp_path / "a.gguf") as file:
        assert {t.format for t in file.tensors} == {"f16"}
        assert file.metadata["adapter.lora.alpha"] == 6.0
        assert file.verify().ok
    lora = read_adapter(tmp_path / "a.gguf")
    name = next(iter(lora.pairs))
    large = Lora({name: type(lora.pairs[name])(lora.pairs[name].a * 1e6, lora.pairs[name].b, 1.0)}, "llama")
    with pytest.raises(DataError, match="too large"):
        write_adapter(tmp_path / "large.gguf", large)
    assert not list(tmp_path.glob("*large*"))


def test_files_that_llama_cpp_makes_are_read(tmp_path: Path) -> None:
    """The gguf package's writer stands in for llama.cpp's converter."""
    model = tiny.random_llama()
    pairs = written.random_pairs(model)
    lora = read_adapter(written.write(tmp_path / "a.gguf", pairs, alpha=8.0))
    assert lora.architecture == "llama"
    assert lora.pairs.keys() == pairs.keys()
    for name, (a, b) in pairs.items():
        assert np.array_equal(lora.pairs[name].a, a)
        assert np.array_equal(lora.pairs[name].b, b)
        assert lora.pairs[name].scale == 2.0


def test_an_alpha_that_is_no_number_is_refused(tmp_path: Path) -> None:
    pairs = written.random_pairs(tiny.random_llama(vocab=320))
    path = written.write(tmp_path / "a.gguf", pairs, alpha=None, keys={"adapter.lora.alpha": "4"})
    with pytest.raises(FileFormatError, match="expected a number"):
        read_adapter(path)


def test_adapters_of_another_base_are_refused(base: Path, tmp_path: Path) -> None:
    peft_adapter(tmp_path / "peft", base)
    narrow = tiny.with_vocabulary(tiny.random_llama(vocab=320, width=48))
    other = tiny.write(tmp_path / "narrow.gguf", narrow)
    with pytest.raises(ModelError, match="another base"):
        convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", other)
    shallow = tiny.write(tmp_path / "s.gguf", tiny.with_vocabulary(tiny.random_llama(vocab=320, layers=1)))
    with pytest.raises(ModelError, match=r"layers\.[12]\."):
        convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", shallow)
    assert not (tmp_path / "a.gguf").exists()


def _changed(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"lora_alpha": "many"}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"alpha_pattern": 3}, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj": "many"}}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 3}}, "alpha_pattern"),
        ({"alpha_pattern": {"(.*a)*b": 3}}, "alpha_pattern"),
        ({"alpha_pattern": {".*.*.*_proj": 3}}, "alpha_pattern"),
    ],
)
def test_other_kinds_of_adapters_are_refused_by_the_setting(
    changes: dict[str, Any], subject: str, base: Path, tmp_path: Path
) -> None:
    peft_adapter(tmp_path / "peft", base)
    with pytest.raises(FileFormatError, match=subject):
        read_adapter(_changed(tmp_path / "peft", **changes))


def test_damaged_folders_are_refused(base: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    peft_adapter(tmp_path / "peft", base)
    tensors = load_file(tmp_path / "peft" / WEIGHTS)
    name = next(n for n in tensors if n.endswith("lora_A.weight"))
    cases = {
        "half a pair": {n: t for n, t in tensors.items() if n != name},
        "NaN": tensors | {name: np.full_like(tensors[name], np.nan)},
        "don't fit": tensors | {name: tensors[name][:2].copy()},
        "can't apply": tensors
        | {name.replace("lora_A.weight", "lora_magnitude_vector"): np.ones(3, np.float32)},
        "empty": {},
    }
    for words, changed in cases.items():
        save_file(changed, tmp_path / "peft" / WEIGHTS)
        with pytest.raises((FileFormatError, DataError), match=words):
            read_adapter(tmp_path / "peft")
    (tmp_path / "peft" / WEIGHTS).write_bytes(b"{}")
    with pytest.raises(FileFormatError):
        read_adapter(tmp_path / "peft")
    (tmp_path / "peft" / WEIGHTS).unlink()
    (tmp_path / "peft" / "adapter_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(StorageError, match="pickle"):
        read_adapter(tmp_path / "peft")
    with pytest.raises(StorageError, match="no such adapter"):
        read_adapter(tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match="is it the model itself"):
        read_adapter(base)


def test_outputs_are_not_replaced_unasked(base: Path, tmp_path: Path) -> None:
    peft_adapter(tmp_path / "peft", base)
    convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base)
    before = (tmp_path / "a.gguf").read_bytes()
    with pytest.raises(StorageError, match="exists"):
        convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base, type="f32")
    assert (tmp_path / "a.gguf").read_bytes() == before
    convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base, type="f32", overwrite=True)
    assert (tmp_path / "a.gguf").stat().st_size > 1.5 * len(before)
    shutil.copytree(tmp_path / "peft", tmp_path / "taken")
    with pytest.raises(StorageError, match="exists"):
        convert_adapter(tmp_path / "a.gguf", tmp_path / "taken", base)
    with pytest.raises(UsageError, match="other kind"):
        write_adapter(tmp_path / "b.gguf", read_adapter(tmp_path / "peft"))


# ---- the command line ----


def test_the_commands_convert_merge_and_run(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ruvq.cli import main

    def call(*words: object) -> dict[str, Any]:
        code = main([*map(str, words), "--json", "--quiet"])
        return {"exit": code, **json.loads(capsys.readouterr().out.splitlines()[-1])}

    peft_adapter(tmp_path / "peft", base)
    made = call("adapter", "convert", tmp_path / "peft", "--base", base, "-o", tmp_path / "a.gguf")
    assert (made["exit"], made["kind"], made["matrices"], made["rank"]) == (0, "gguf", 21, 4)
    merged = call("adapter", "merge", tmp_path / "a.gguf", tmp_path / "a.gguf", "--weights", 0.25, 0.75,
                  "-o", tmp_path / "b.gguf")  # fmt: skip
    assert (merged["exit"], merged["rank"]) == (0, 8)

    run = ("run", base, "--prompt", "abc", "--temperature", 0, "--max-tokens", 12, "--hashes")
    plain, adapted = call(*run), call(*run, "--adapter", tmp_path / "a.gguf")
    assert adapted["exit"] == 0
    assert adapted["hashes"] != plain["hashes"]
    assert call(*run, "--adapter", f"{tmp_path / 'a.gguf'}:0")["tokens"] == plain["tokens"]
    halves = [f"--adapter={tmp_path / 'a.gguf'}:0.5"] * 2
    assert call(*run, *halves)["tokens"] == adapted["tokens"]

    text = tmp_path / "text.txt"
    text.write_text("abc def ghi " * 20)
    found = [call("eval", base, "--text", text, "--against", base, *more)
             for more in ((), ("--adapter", tmp_path / "a.gguf"))]  # fmt: skip
    assert found[0]["kl_divergence"] == 0.0
    assert found[1]["kl_divergence"] > 0.0

    for words, code, error in (
        (("run", base, "--adapter", base), 3, "ModelError"),
        (("run", tmp_path / "a.gguf"), 3, "ModelError"),
        (("run", base, "--adapter", tmp_path / "none.gguf"), 3, "StorageError"),
        (("run", base, "--adapter", f"{tmp_path / 'a.gguf'}:inf"), 2, "UsageError"),
        (("adapter", "convert", tmp_path / "peft", "-o", tmp_path / "c.gguf"), 2, "UsageError"),
        (("adapter", "merge", tmp_path / "peft", tmp_path / "a.gguf", "-o", tmp_path / "c"), 2, "UsageError"),
    ):
        refused = call(*words)
        assert (refused["exit"], refused["error"]) == (code, error), words
