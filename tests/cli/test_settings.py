"""ruvq.toml: the same as flags, under flags, checked to the last key, and found again in the recipe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ruvq import settings_file
from ruvq.calibrate.samples import DOMAINS
from ruvq.cli import main, settings
from ruvq.errors import UsageError
from ruvq.gguf import GGUFFile
from sources.tiny_models import random_weights, write_huggingface

Run = Callable[..., tuple[int, str, str]]

# the sections as the project's configuration has always had them
SEEDS = """
[quantization]
format = "pi-q3"
k = 4
bits = 3
mixed_constants = false

[qat]
enabled = true
lora_rank = 16

[calibration]
math_samples = 2048
code_samples = 1024
language_samples = 4096
reasoning_samples = 2048
tool_use_samples = 1024

[incoherence]
enabled = true
method = "hadamard"

[distillation]
beta_kd = 0.25

[moe]
cache_bonus = 0.5
"""


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(w) for w in words])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_huggingface(tmp_path / "model", random_weights())


def written(tmp_path: Path, text: str, name: str = "ruvq.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def configuration(run: Run, *words: object, command: str = "quantize") -> dict[str, Any]:
    code, out, err = run(command, *words, "--show-config", "--json")
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def test_the_file_of_this_folder_says_what_flags_would(run: Run, tmp_path: Path) -> None:
    written(tmp_path, SEEDS)
    found = configuration(run)
    assert found["quantization"] == {
        "format": "pi-q3",
        "k": 4,
        "embeddings": "same",
        "output_tensor": "same",
    }
    assert found["incoherence"] == {"enabled": True, "method": "hadamard", "seed": 0, "rotate": "none"}
    calibrate = configuration(run, command="calibrate")["calibration"]
    assert calibrate["math_samples"] == 2048
    assert calibrate["tool_use_samples"] == 1024
    assert "quantization" not in configuration(run, command="calibrate")


def test_flags_come_before_the_file(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path, SEEDS, "other.toml")
    assert "k" not in configuration(run)["quantization"]  # another name: not taken by itself
    found = configuration(run, "--settings", path, "--k", 2, "--incoherence", "none", "--seed", 9)
    assert found["quantization"]["k"] == 2
    assert found["incoherence"] == {"enabled": False, "seed": 9, "rotate": "none"}
    assert configuration(run, f"--settings={path}")["quantization"]["k"] == 4
    written(tmp_path, SEEDS)
    assert "k" not in configuration(run, "--settings", "none")["quantization"]


def test_a_target_flag_replaces_the_file_s_format_and_a_format_flag_its_target(
    run: Run, tmp_path: Path
) -> None:
    written(tmp_path, SEEDS)
    found = configuration(run, "--target-bpw", 2.5)["quantization"]
    assert (found.get("format"), found["target_bpw"]) == (None, 2.5)
    written(tmp_path, '[quantization]\ntarget_size = "1MB"\ncandidates = ["pi-t2", "pi-t3"]\n')
    found = configuration(run)["quantization"]
    assert (found["target_size"], found["candidates"]) == ("1MB", ["pi-t2", "pi-t3"])
    found = configuration(run, "--format", "pi-t3")["quantization"]
    assert (found["format"], found.get("target_size")) == ("pi-t3", None)


def test_lists_of_the_file_give_way_to_flags_instead_of_growing(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    path = written(
        folder, '[calibration]\ntext = ["math=a.jsonl", "b.txt"]\ndomains = ["math", "language"]\n'
    )
    found = configuration(run, "--settings", path, command="calibrate")["calibration"]
    assert found["text"] == [f"math={folder / 'a.jsonl'}", str(folder / "b.txt")]  # beside the file
    assert found["domains"] == ["math", "language"]
    found = configuration(run, "--settings", path, "--text", "c.txt", command="calibrate")["calibration"]
    assert found["text"] == ["c.txt"]


def test_what_is_shown_is_a_file_that_says_the_same(run: Run, tmp_path: Path) -> None:
    written(tmp_path, SEEDS)
    code, out, _ = run("quantize", "--show-config", "--fallback", "f16", "--strict", "--seed", 2**63)
    assert code == 0
    again = written(tmp_path, out, "again.toml")
    assert configuration(run, "--settings", again) == configuration(
        run, "--fallback", "f16", "--strict", "--seed", 2**63
    )


def test_text_of_any_kind_survives_as_toml() -> None:
    values = {"quantization": {"format": 'a"b\\c\n\u00e9\U0001f600\x7f', "k": 3, "strict": True}}
    import tomllib

    assert tomllib.loads(settings_file.to_toml(values)) == values


def test_the_effective_configuration_is_in_the_recipe(run: Run, tmp_path: Path, model: Path) -> None:
    written(tmp_path, "[quantization]\nbits = 2\n[incoherence]\nenabled = false\n")
    code, _, err = run("quantize", "--input", model, "--output", "a.gguf", "--embeddings", "f16")
    assert code == 0, err
    assert "settings: ruvq.toml" in err
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        recipe = json.loads(file.metadata["ruvq.recipe"])
    assert recipe["options"]["settings"]["quantization"]["format"] == "pi-t2"
    assert recipe["options"]["settings"]["quantization"]["embeddings"] == "f16"
    assert recipe["options"]["settings"]["incoherence"] == {"enabled": False, "seed": 0, "rotate": "none"}
    assert "--incoherence none" in recipe["command"]


def test_flags_that_a_command_needs_may_come_from_the_file(run: Run, tmp_path: Path, model: Path) -> None:
    (tmp_path / "words.txt").write_text("once upon a time " * 2000, encoding="utf-8")
    written(
        tmp_path,
        '[calibration]\ntext = ["words.txt"]\nmax_tokens = 2048\nwindow = 64\nallow_outliers = true\n',
    )
    code, out, err = run("calibrate", "--input", model, "--output", "c.gguf", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["tokens"] == 2048


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[quantisation]\nformat = 'pi-t3'\n", "unknown section", "did you mean quantization?"),
        ("[quantization]\nformt = 'pi-t3'\n", "unknown key", "did you mean format?"),
        ("[calibration]\nmaths_samples = 3\n", "unknown key", "did you mean math_samples?"),
        ("[incoherence]\nzzz = 3\n", "unknown key", "take it out"),
        ("[quantization]\nk = '4'\n", "of another type", ""),
        ("[quantization]\nk = 4.0\n", "of another type", ""),
        ("[quantization]\nk = true\n", "of another type", ""),
        ("[quantization]\ncandidates = 'pi-t3'\n", "of another type", ""),
        ("[quantization]\ncandidates = ['pi-t3', 3]\n", "of another type", ""),
        ("[quantization.format]\nname = 'pi-t3'\n", "of another type", ""),
        ("[incoherence]\nenabled = 1\n", "of another type", ""),
        ("quantization = 3\n", "this is a section", ""),
        ("format = 'pi-t3'\n", "unknown section", ""),
        ("[quantization]\nk = 9\n", "can't be used", ""),
        ("[quantization]\ntype_ids = 'upstream'\n", "can't be used", ""),
        ("[quantization]\ntarget_bpw = inf\n", "can't be used", ""),
        ("[incoherence]\nmethod = 'fourier'\n", "can't be used", ""),
        ("[calibration]\ndamping = -1\n", "can't be used", ""),
        ("[quantization]\nbits = 7\n", "no format has so many bits", "name a format"),
        ("[quantization]\nbits = 2\nformat = 'pi-q3'\n", "contradict each other", ""),
        ("[quantization]\nmixed_constants = true\n", "mixed constants are not written", "pi-quant.md"),
        ("[quantization\nformat = 3", "this isn't TOML", ""),
        ("[quantization]\nk = 3\nk = 3\n", "this isn't TOML", ""),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(
    run: Run, tmp_path: Path, text: str, message: str, hint: str
) -> None:
    path = written(tmp_path, text)
    code, out, _ = run("quantize", "--input", "x", "--output", "y", "--json")
    found = json.loads(out.splitlines()[-1])
    assert (code, found["error"]) == (2, "UsageError")
    assert message in found["message"]
    assert hint in found["hint"]
    assert path.name in found["subject"]


def test_files_that_can_t_be_read_are_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("quantize", "--settings", "missing.toml", "--show-config")
    assert code == 3
    assert "missing.toml: the settings can't be read" in err
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    code, _, err = run("quantize", "--settings", "bytes.toml", "--show-config")
    assert code == 2
    assert "this isn't TOML" in err
    (tmp_path / "long.toml").write_bytes(b"#" * (settings_file.MOST_BYTES + 1))
    with pytest.raises(UsageError, match="too long"):
        settings_file.read(tmp_path / "long.toml")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(UsageError):
        settings_file.read(path)


def test_help_doesn_t_read_the_file(run: Run, tmp_path: Path) -> None:
    written(tmp_path, "[nonsense]\n")
    with pytest.raises(SystemExit) as caught:
        run("quantize", "--help")
    assert caught.value.code == 0


def test_a_file_that_is_right_for_one_command_is_right_for_all(run: Run, tmp_path: Path) -> None:
    text = SEEDS.replace("[qat]", '[qat]\nste = "lsq"\ntarget_modules = ["q_proj"]\nlearning_rate = 2e-5')
    written(
        tmp_path, text.replace("k = 4", 'k = 4\ntarget_bpw = 2.5\ncandidates = ["pi-t2"]\nthorough = true')
    )
    assert configuration(run)["quantization"]["candidates"] == ["pi-t2"]
    assert configuration(run, command="calibrate")["calibration"]["math_samples"] == 2048
    found = configuration(run, "--lora-rank", 8, command="qat")
    assert found["quantization"] == {"format": "pi-q3", "k": 4, "embeddings": "same"}
    assert found["incoherence"] == {"enabled": True, "method": "hadamard", "seed": 0}
    assert (found["qat"]["ste"], found["qat"]["target_modules"]) == ("lsq", ["q_proj"])
    assert (found["qat"]["lora_rank"], found["qat"]["learning_rate"]) == (8, 2e-5)
    assert (found["distillation"]["beta_kd"], found["distillation"]["teacher_path"]) == (0.25, "self")
    code, out, _ = run("qat", "--show-config")
    written(tmp_path, out)
    assert code == 0
    assert configuration(run, command="qat") == json.loads(run("qat", "--show-config", "--json")[1])
    for command in ("quantize", "calibrate"):
        assert run(command, "--show-config")[0] == 0


@pytest.mark.parametrize("command", ["quantize", "calibrate", "qat"])
def test_a_mistyped_key_stops_every_command(run: Run, tmp_path: Path, command: str) -> None:
    for text in ("[qat]\nlora_rnk = 4\n", "[quantization]\nformt = 'pi-t2'\n", "[distillation]\nbeta = 1\n"):
        written(tmp_path, text)
        code, out, _ = run(command, "--show-config", "--json")
        assert (code, json.loads(out.splitlines()[-1])["error"]) == (2, "UsageError")


def test_every_flag_of_quantize_that_decides_the_bytes_has_a_key(run: Run) -> None:
    words = ("--calibration", "c.gguf", "--sequential", "--thorough")
    found = configuration(run, *words)
    assert found["calibration"]["sequential"] is True
    assert found["quantization"]["thorough"] is True


def test_other_commands_have_no_settings(run: Run, tmp_path: Path) -> None:
    written(tmp_path, "[nonsense]\n")
    assert run("doctor", "--json")[0] in (0, 5)


def test_every_domain_has_its_count_and_every_key_its_flag() -> None:
    assert {f"{d.replace('-', '_')}_samples" for d in DOMAINS} <= set(settings_file.SECTIONS["calibration"])
    from ruvq.cli.main import build_parser

    for command in ("quantize", "calibrate", "qat"):
        parser = build_parser(command)
        group = next(a for a in parser._actions if a.choices and command in a.choices)
        flags = {action.dest for action in group.choices[command]._actions}  # type: ignore[index,union-attr]
        for section, keys in settings_file.SECTIONS.items():
            named = {settings.argument_of(section, key, command) for key in keys}
            assert named - {None} <= flags


def test_a_file_named_like_the_settings_but_a_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "ruvq.toml")
    assert configuration(run)["incoherence"]["method"] == "auto"


def test_a_target_with_a_calibration_that_could_say_more_is_told_so(
    run: Run, tmp_path: Path, model: Path
) -> None:
    (tmp_path / "words.txt").write_text("once upon a time " * 2000, encoding="utf-8")
    words = ["calibrate", "--input", model, "--text", "words.txt", "--max-tokens", 2048, "--window", 64]
    quantize = ["quantize", "--input", model, "--target-bpw", 9, "--calibration", "c.gguf", "--plan"]
    assert run(*words, "--allow-outliers", "--output", "c.gguf")[0] == 0
    assert "no sensitivities" in run(*quantize)[2]
    assert run(*words, "--allow-outliers", "--output", "c.gguf", "--sensitivity", "--force")[0] == 0
    assert "no sensitivities" not in run(*quantize)[2]
