"""ruvq doctor says what is there; ruvq completion completes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from ruvq.cli import doctor_command, main
from ruvq.cli.completion_command import SHELLS, commands
from ruvq.cli.main import COMMANDS, NOT_INSTALLED


def test_doctor_finds_what_these_tests_run_on(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    by_name = {f["name"]: f for f in found["findings"]}
    assert found["ok"] is True
    assert by_name["python"]["found"] in sys.version
    assert "self-test passed" in by_name["native library"]["found"]
    assert by_name["node"]["ok"] is (shutil.which("node") is not None)
    assert all(f["hint"] for f in found["findings"] if not f["ok"])


def test_doctor_says_how_to_get_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    missing = doctor_command.Finding("cffi", False, "not installed", True, "pip install ruvq brings it")
    monkeypatch.setattr(doctor_command, "_package", lambda name, needed, hint: missing)
    assert main(["doctor"]) == NOT_INSTALLED
    text = capfd.readouterr().out
    assert "MISSING cffi" in text
    assert "apt-get install chromium" in text
    assert "apt-get install nodejs npm" in text


def test_completion_knows_every_command_and_flag() -> None:
    found = {command.name: command for command in commands()}
    assert list(found) == list(COMMANDS)
    names = {name for flag in found["quantize"].flags for name in flag.names}
    assert {"--input", "--format", "--json", "--help"} <= names
    (kv,) = (flag for flag in found["run"].flags if "--kv" in flag.names)
    assert kv.values == ("auto", "f16", "f32")
    for script in (make(list(found.values())) for make in SHELLS.values()):
        assert "quantize" in script
        assert "incoherence" in script


def bash_completes(line: str) -> list[str]:
    words = line.split(" ")
    script = SHELLS["bash"](commands())
    program = f"{script}\nCOMP_WORDS=({' '.join(words)} )\nCOMP_CWORD={len(words) - 1}\n"
    if not words[-1]:
        program = program.replace(" )\n", ' "")\n', 1)
    program += '_ruvq\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_flags_and_values() -> None:
    assert bash_completes("ruvq quan") == ["quantize"]
    assert bash_completes("ruvq run --temp") == ["--temperature"]
    assert bash_completes("ruvq run --kv f") == ["f16", "f32"]
    assert bash_completes("ruvq completion z") == ["zsh"]
