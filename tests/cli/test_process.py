"""The command as a process: interrupts, kills, full disks, closed pipes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ruvq.gguf import GGUFFile
from sources.tiny_models import TINY, random_weights, write_huggingface

COMMAND = [sys.executable, "-m", "ruvq.cli"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that encoding takes a while: 6 million weights."""
    parameters = replace(TINY, vocab_size=4096, width=512, heads=8, head_width=64, ff_width=1024)
    return write_huggingface(
        tmp_path_factory.mktemp("source") / "model", random_weights(parameters), parameters
    )


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository / "py")}


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".*.work/part"))


def heed_interrupts() -> None:
    """As in a terminal: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def quantizing(model: Path, target: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    words = [*COMMAND, "quantize", "--input", str(model), "--output", str(target), "--threads", "1"]
    process = subprocess.Popen(
        words,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    try:
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size > 200_000 for p in parts(target.parent)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_removes_what_was_begun(
    model: Path, tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    for process in quantizing(model, tmp_path / "a.gguf", environment):
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.splitlines()[-1] == "ruvq: interrupted"
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_only_a_folder_that_a_rerun_removes(
    model: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    target = tmp_path / "a.gguf"
    for process in quantizing(model, target, environment):
        process.kill()
        process.communicate(timeout=60)
    assert [p.name for p in tmp_path.iterdir()] == [".a.gguf.work"]
    words = [*COMMAND, "quantize", "--input", str(model), "--output", str(target), "--format", "f16"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    with GGUFFile.open(target) as file:
        assert file.verify().ok
    assert list(tmp_path.iterdir()) == [target]


def run(words: list[Any], environment: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], env=environment, text=True, capture_output=True, timeout=120, **options
    )


def test_a_disk_that_fills_up_leaves_nothing(
    model: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    words = ["quantize", "--input", model, "--output", tmp_path / "a.gguf", "--json"]
    result = run(words, environment, preexec_fn=small_files)
    assert result.returncode == 4
    assert json.loads(result.stdout.splitlines()[-1])["error"] == "StorageError"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_error(tmp_path: Path, environment: dict[str, str]) -> None:
    source = write_huggingface(tmp_path / "model", random_weights())
    run(["quantize", "--input", source, "--output", tmp_path / "a.gguf"], environment)
    words = [*COMMAND, "inspect", str(tmp_path / "a.gguf"), "--tensors", "--metadata"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_text_of_any_language_survives_a_plain_terminal(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "модель"
    write_huggingface(folder, random_weights())
    plain = {**environment, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = run(["quantize", "--input", folder, "--output", tmp_path / "a.gguf", "--json"], plain)
    assert result.returncode == 0
    assert json.loads(result.stdout.splitlines()[-1])["format"] == "pi-t3"


def test_starting_up_imports_neither_numpy_nor_the_engine(environment: dict[str, str]) -> None:
    code = "import sys; from ruvq.cli import main; main(['--version'])"
    unwanted = "sorted({'numpy', 'torch', 'cffi'} & set(sys.modules))"
    check = f"import atexit, sys; atexit.register(lambda: print({unwanted})); {code}"
    result = subprocess.run([sys.executable, "-c", check], env=environment, text=True, capture_output=True)
    assert result.stdout.splitlines()[-1] == "[]"
