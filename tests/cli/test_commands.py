"""Every command: the JSON keys that scripts rely on, exit codes, one clear message for each failure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvq.cli import files, main
from ruvq.cli.main import COMMANDS
from sources.tiny_models import random_weights, safetensors_bytes, write_huggingface, write_tokenizer


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of standard output."""
        return json.loads(self.out.splitlines()[-1])


Run = Callable[..., Result]


@pytest.fixture
def ruvq(capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> Result:
        capfd.readouterr()
        code = main([str(w) for w in words])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "model", random_weights())


@pytest.fixture
def made(model: Path, tmp_path: Path, ruvq: Run) -> Path:
    target = tmp_path / "made.gguf"
    assert ruvq("quantize", "--input", model, "--format", "pi-t3", "--output", target, "--quiet").code == 0
    return target


# ---- what each command gives ----


def test_quantize_reports_bits_and_errors_of_every_tensor(model: Path, tmp_path: Path, ruvq: Run) -> None:
    target = tmp_path / "a.gguf"
    result = ruvq("quantize", "--input", model, "--format", "PI_T3", "--output", target, "--json")
    assert result.code == 0
    assert len(result.out.splitlines()) == 1
    found = result.json
    assert found["bits_per_weight"] == 3.0625
    assert found["bits_per_weight_actual"] > found["bits_per_weight"]
    assert len(found["tensors"]) == 20
    for tensor in found["tensors"]:
        assert {"name", "format", "bpw", "mse", "snr_db", "seconds"} <= tensor.keys()
        assert (tensor["mse"] > 0) == (tensor["format"] == "pi-t3")
    assert "nominal" in result.err  # the plan
    assert "dB SNR" in result.err  # the report
    assert target.is_file()


def test_the_plan_alone_writes_nothing(model: Path, tmp_path: Path, ruvq: Run) -> None:
    result = ruvq("quantize", "--input", model, "--format", "pi-t2", "--plan", "--json")
    assert result.code == 0
    assert result.json["bits_per_weight"] == 2.0625
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    table = ruvq("quantize", "--input", model, "--format", "pi-t2", "--plan").out
    assert "blk.*.ffn_down.weight (2)" in table
    assert "pi-t2 + hadamard" in table


def test_the_command_is_recorded_without_folders(model: Path, tmp_path: Path, ruvq: Run) -> None:
    target = tmp_path / "a.gguf"
    ruvq("quantize", "--input", model, "--format", "pi-q3", "--k", 5, "--output", target, "--threads", 1)
    recipe = ruvq("inspect", target, "--json").json["recipe"]
    assert recipe["command"] == "ruvq quantize --input model --format pi-q3 --k 5"


def test_inspect_lists_tensors_and_bits(made: Path, ruvq: Run) -> None:
    found = ruvq("inspect", made, "--json").json
    assert found["architecture"] == "llama"
    assert found["bits_per_weight"] == 3.0625
    assert found["bits_per_weight_actual"] > 3.0625
    assert found["tensors"][0]["name"] == "token_embd.weight"
    assert found["tensors"][0]["format"] == "pi-t3"
    text = ruvq("inspect", made, "--metadata").out
    assert "blk.*.attn_q.weight (2)" in text
    assert "llama.block_count = 2" in text
    assert "blk.1.attn_q.weight" in ruvq("inspect", made, "--tensors").out


def test_quantize_and_inspect_agree_on_bits(model: Path, tmp_path: Path, ruvq: Run) -> None:
    target = tmp_path / "a.gguf"
    arguments = ("--format", "pi-t3", "--embeddings", "f16", "--output", target, "--json")
    report = ruvq("quantize", "--input", model, *arguments).json
    found = ruvq("inspect", target, "--json").json
    for key in ("bits_per_weight", "bits_per_weight_actual"):
        assert found[key] == pytest.approx(report[key])


def test_verify_tells_an_intact_file_from_a_damaged_one(made: Path, ruvq: Run) -> None:
    good = ruvq("verify", made, "--json")
    assert (good.code, good.json["ok"], good.json["problems"]) == (0, True, [])
    content = bytearray(made.read_bytes())
    content[-40] ^= 1
    made.write_bytes(content)
    bad = ruvq("verify", made, "--json")
    assert (bad.code, bad.json["ok"]) == (1, False)
    assert bad.json["problems"][0]["error"] == "IntegrityError"
    assert "output_norm.weight" in bad.err


def test_run_streams_text_or_gives_json(made: Path, ruvq: Run) -> None:
    arguments = ("run", made, "--prompt", "abc", "--max-tokens", 12, "--seed", 3)
    plain = ruvq(*arguments)
    found = ruvq(*arguments, "--json", "--hashes").json
    assert plain.code == 0
    assert plain.out == found["text"] + "\n"
    assert "tokens/s" in plain.err
    assert found["tokens_per_second"] > 0
    assert found["finish_reason"] in ("length", "stop")
    assert len(found["tokens"]) == 12 or found["finish_reason"] == "stop"
    assert found["seed"] == 3
    assert found["kv"] == "f16"
    assert len(found["hashes"]) == 2 + 2
    assert all(len(h) == 8 for h in found["hashes"])


def test_the_same_seed_gives_the_same_text_and_another_one_another(made: Path, ruvq: Run) -> None:
    texts = [
        ruvq("run", made, "--prompt", "abc", "--max-tokens", 30, "--seed", seed, "--json").json["tokens"]
        for seed in (3, 3, 4)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_prompt_may_come_from_a_file(made: Path, tmp_path: Path, ruvq: Run) -> None:
    (tmp_path / "p.txt").write_text("abc", encoding="utf-8")
    common = ("--max-tokens", 8, "--temperature", 0, "--json")
    from_file = ruvq("run", made, "--prompt-file", tmp_path / "p.txt", *common).json
    assert from_file["tokens"] == ruvq("run", made, "--prompt", "abc", *common).json["tokens"]


def test_generation_ends_before_a_stop_text(made: Path, ruvq: Run) -> None:
    common = ("run", made, "--prompt", "abc", "--temperature", 0, "--max-tokens", 24, "--json")
    whole = ruvq(*common).json["text"]
    stop = whole[8:10]
    cut = ruvq(*common, "--stop", stop).json
    assert cut["text"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"


@pytest.mark.parametrize(("format", "kv"), [("f32", "f32"), ("bf16", "f32"), ("pi-q2", "f16")])
def test_the_cache_is_f32_for_float_models_unless_told(
    model: Path, tmp_path: Path, ruvq: Run, format: str, kv: str
) -> None:
    target = tmp_path / "a.gguf"
    ruvq("quantize", "--input", model, "--format", format, "--output", target)
    assert ruvq("run", target, "--max-tokens", 2, "--json").json["kv"] == kv
    assert ruvq("run", target, "--max-tokens", 2, "--kv", "f16", "--json").json["kv"] == "f16"


def test_eval_gives_perplexity_and_its_error(made: Path, tmp_path: Path, ruvq: Run) -> None:
    text = tmp_path / "t.txt"
    text.write_text("some words<|endoftext|>and others", encoding="utf-8")
    found = ruvq("eval", made, "--text", text, "--json").json
    assert found["perplexity"] > 1
    assert math.isfinite(found["stderr"])
    assert found["windows"] == 2
    assert found["tokens"] > 10
    assert ruvq("eval", made, "--text", text).out.startswith("perplexity ")


def test_numbers_that_json_lacks_become_null(model: Path, tmp_path: Path, ruvq: Run) -> None:
    arguments = ("--format", "f32", "--output", tmp_path / "a.gguf", "--json")
    result = ruvq("quantize", "--input", model, *arguments)
    assert result.json["snr_db"] is None  # infinite: nothing was lost
    assert {t["snr_db"] for t in result.json["tensors"]} == {None}
    assert "Infinity" not in result.out
    assert "NaN" not in result.out


def test_the_known_text_comes_out(data_dir: Path, tmp_path: Path, ruvq: Run) -> None:
    folder, target = data_dir / "stories260K", tmp_path / "f32.gguf"
    source = ("--input", folder / "stories260K.bin", "--tokenizer", folder / "tok512.bin")
    assert ruvq("quantize", *source, "--format", "f32", "--output", target, "--json").code == 0
    common = ("run", target, "--prompt", "", "--temperature", 0, "--max-tokens", 257, "--json")
    found = ruvq(*common).json
    assert found["text"] == (folder / "greedy_expected.txt").read_text(encoding="utf-8")
    assert found["kv"] == "f32"


# ---- help ----


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_and_exit_codes(
    command: str, ruvq: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capfd.readouterr().out
    assert f"  ruvq {command}" in text
    assert "130  interrupted" in text
    assert "--json" in text


def test_without_a_command_the_commands_are_listed(ruvq: Run) -> None:
    result = ruvq()
    assert result.code == 2
    assert all(c in result.out for c in COMMANDS)


# ---- bad input: (exit code, what the message says) ----


def html(path: Path) -> Path:
    path.write_bytes(b"<!DOCTYPE html><html><head><title>404</title></head></html>")
    return path


def zipped(path: Path) -> Path:
    path.write_bytes(b"PK\x03\x04" + bytes(64))
    return path


def tensors_file(path: Path) -> Path:
    path.write_bytes(safetensors_bytes({"a": np.zeros((2, 2), np.float32)}))
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("command", ["run", "inspect", "verify", "eval"])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (html, "an HTML page"),
        (zipped, "zip archive"),
        (tensors_file, "safetensors"),
        (empty, "an empty file"),
    ],
)
def test_a_foreign_file_is_named(
    tmp_path: Path, ruvq: Run, command: str, make: Callable[[Path], Path], found: str
) -> None:
    extra = ("--text", tmp_path / "t.txt") if command == "eval" else ()
    (tmp_path / "t.txt").write_text("text", encoding="utf-8")
    result = ruvq(command, make(tmp_path / "x.gguf"), *extra, "--json")
    assert result.code == 3
    assert found in result.err
    assert result.err.startswith("ruvq: ")
    assert len(result.err.splitlines()) == 1
    assert result.json["error"] == "FileFormatError"
    assert result.json["exit_code"] == 3


@pytest.mark.parametrize("cut", [1, 4, 24, 100, 2000, -1])
def test_a_cut_file_is_refused(made: Path, ruvq: Run, cut: int) -> None:
    made.write_bytes(made.read_bytes()[:cut])
    for command in ("run", "inspect", "verify"):
        result = ruvq(command, made, "--json")
        assert result.code == 3
        assert result.json["expected"]


USAGE = [
    (("quantise",), "did you mean `ruvq quantize`"),
    (("zzz",), "lists the commands"),
    (("quantize",), "--input"),
    (("quantize", "--input", "{model}"), "--output FILE"),
    (("quantize", "--input", "{model}", "--output", "{out}", "--fromat", "f16"), "--fromat"),
    (("quantize", "--input", "{model}", "--output", "{out}", "--form", "f16"), "--form"),
    (("quantize", "--input", "{model}", "--output", "{out}", "--format", "pit33"), "did you mean pi-t3"),
    (("quantize", "--input", "{model}", "--output", "{out}", "--format", "pi-q3", "--k", "9"), "2 to 5"),
    (
        ("quantize", "--input", "{model}", "--output", "{out}", "--format", "f16", "--k", "3"),
        "k has no meaning",
    ),
    (("quantize", "--input", "{model}", "--output", "{out}", "--format", "q8_0"), "--fallback"),
    (("quantize", "--input", "{model}", "--output", "{out}", "--seed", "-1"), "found -1"),
    (("quantize", "--input", "{model}", "--output", "{out}", "--incoherence", "fft"), "hadamard"),
    (("run",), "file"),
    (("run", "{made}", "--temperature", "nan"), "found nan"),
    (("run", "{made}", "--temperature", "-1"), "found -1"),
    (("run", "{made}", "--top-p", "2"), "0 to 1"),
    (("run", "{made}", "--max-tokens", "many"), "whole number"),
    (("run", "{made}", "--kv", "f8"), "f16"),
    (("run", "{made}", "--prompt", "a", "--prompt-file", "b"), "two prompts"),
    (("run", "{made}", "--prompt", "a " * 500), "context"),
    (("eval", "{made}"), "--text"),
    (("eval", "{made}", "--text", "{blank}"), "empty"),
    (("eval", "{made}", "--text", "{made}", "--window", "1"), "2 to"),
    (("serve", "--port", "70000"), "65535"),
]


@pytest.mark.parametrize(("words", "message"), USAGE)
def test_wrong_usage_says_what_would_be_right(
    model: Path, made: Path, tmp_path: Path, ruvq: Run, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "blank.txt").write_text(" \n", encoding="utf-8")
    names = {"model": model, "made": made, "out": tmp_path / "o.gguf", "blank": tmp_path / "blank.txt"}
    result = ruvq(*(w.format(**names) for w in words), "--json")
    assert result.code == 2, result.err
    assert message in result.err
    assert result.json["exit_code"] == 2
    assert not (tmp_path / "o.gguf").exists()


BAD_INPUT = [
    (("quantize", "--input", "{none}", "--output", "{out}"), "no such file"),
    (("quantize", "--input", "{html}", "--output", "{out}"), "an HTML page"),
    (("quantize", "--input", "{made}", "--tokenizer", "{tokenizer}", "--output", "{out}"), "doesn't belong"),
    (("quantize", "--input", "{model}", "--tokenizer", "{tokenizer}", "--output", "{out}"), "doesn't belong"),
    (("quantize", "--input", "{model}", "--output", "{made}"), "exists already"),
    (("quantize", "--input", "{nan}", "--output", "{out}"), "blk.0.attn_v.weight[2, 9]"),
    (("run", "{none}"), "No such file"),
    (("run", "{model}"), "folder"),
    (("run", "https://example.org/model.gguf"), "a URL"),
    (("run", "{made}", "--prompt-file", "{none}"), "prompt"),
    (("eval", "{made}", "--text", "{none}"), "text can't be read"),
    (("verify", "{none}"), "No such file"),
    (("serve", "--dir", "{none}"), "no such folder"),
]


@pytest.mark.parametrize(("words", "message"), BAD_INPUT)
def test_bad_input_says_what_was_found(
    model: Path, made: Path, tmp_path: Path, ruvq: Run, words: tuple[str, ...], message: str
) -> None:
    weights = random_weights()
    weights["blk.0.attn_v.weight"][2, 9] = np.nan
    names = {
        "model": model,
        "made": made,
        "nan": write_huggingface(tmp_path / "nan", weights),
        "html": html(tmp_path / "x.html"),
        "none": tmp_path / "none",
        "out": tmp_path / "o.gguf",
        "tokenizer": write_tokenizer(tmp_path / "tok.bin", 400),
    }
    if words[0] == "quantize" and words[2] == "{made}":  # a float file, so that only the tokenizer is wrong
        ruvq("quantize", "--input", model, "--format", "f16", "--force", "--output", made)
    before = made.read_bytes()
    result = ruvq(*(w.format(**names) for w in words), "--json")
    assert result.code == 3, result.err
    assert message in result.err
    assert result.json["exit_code"] == 3
    assert made.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".part" or p.name == "o.gguf"]


def test_a_model_larger_than_memory_is_refused_before_it_is_opened(
    made: Path, ruvq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "available_memory", lambda: 50_000)
    result = ruvq("run", made, "--json")
    assert result.code == 4
    assert result.json["error"] == "MemoryLimitError"
    assert "available" in result.err


def test_memory_is_measured_on_this_machine() -> None:
    free = files.available_memory()
    assert free is None or free > 1 << 20


@pytest.mark.parametrize(
    ("group", "available"),
    [
        ({}, 8000 * 1024),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 8000 * 1024),
        ({"memory.max": "3000000\n", "memory.current": "1000000\n"}, 2_000_000),
        (
            {
                "memory.max": "3000000\n",
                "memory.current": "2900000\n",
                "memory.stat": "anon 5\nactive_file 700000\ninactive_file 1000000\n",
            },
            1_800_000,
        ),
        ({"memory.max": "3000\n", "memory.current": "9000\n"}, 0),
    ],
)
def test_a_containers_limit_counts_without_its_file_cache(
    tmp_path: Path, group: dict[str, str], available: int
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:   8000 kB\n")
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    for name, text in group.items():
        (tmp_path / "sys" / "fs" / "cgroup" / name).write_text(text)
    assert files.available_memory(tmp_path) == available


def test_a_system_that_says_nothing_refuses_nothing(tmp_path: Path) -> None:
    assert files.available_memory(tmp_path) is None


def test_no_space_has_its_own_exit_code(
    model: Path, tmp_path: Path, ruvq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    result = ruvq("quantize", "--input", model, "--output", tmp_path / "a.gguf", "--json")
    assert result.code == 4
    assert "not enough space" in result.err
