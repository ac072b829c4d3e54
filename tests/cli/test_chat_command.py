"""ruvq chat, as a terminal's user and a script see it."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ruvq as library
from chat.chat_models import quantized, write_chat_model
from ruvq.cli import main

ASKED = '[{"role": "user", "content": "the cat"}]'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    return quantized(write_chat_model(folder / "model"), folder / "chat.gguf")


def run(
    words: list[object], given: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    capfd.readouterr()
    code = main([str(word) for word in words])
    out, err = capfd.readouterr()
    return code, out, err


def last_json(out: str) -> Any:
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize(
    "given",
    ["the cat\n", ASKED, f'{{"messages": {ASKED}}}'],
)
def test_one_turn_as_json(
    model: Path, given: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["chat", model, "--json", "--max-tokens", 9, "--temperature", 0, "--system", "the"]
    code, out, _ = run(words, given, monkeypatch, capfd)
    found = last_json(out)
    messages = [{"role": "system", "content": "the"}, {"role": "user", "content": "the cat"}]
    with library.Model.open(model, kv="f32") as opened:
        expected = opened.chat(messages, 9, temperature=0)
        assert found["text"] == "".join(expected)
        assert found["prompt_tokens"] == expected.stats.prompt_tokens
    assert code == 0
    assert found["messages"] == [*messages, {"role": "assistant", "content": found["text"]}]
    assert found["context_left"] == found["context"] - found["prompt_tokens"] - found["answer_tokens"]


def test_lines_are_turns_and_commands_are_obeyed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "talk.json"
    lines = f"one\ntwo\n/reset\nthree\n/save {saved}\n/help\n/save\n/quit\nnever\n"
    words = ["chat", model, "--system", "s", "--max-tokens", 3, "--temperature", 0]
    code, out, err = run(words, lines, monkeypatch, capfd)
    assert code == 0
    messages = json.loads(saved.read_text())["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant"]
    assert messages[1]["content"] == "three"
    assert messages[2]["content"] in out
    assert "/reset" in err
    assert "needs a file name" in err
    assert err.count("ended by") == 3


REFUSED = [
    ([], "", 2, "nothing was asked"),
    ([], "{", 2, "begins like JSON"),
    ([], '{"messages": 3}', 2, "not a conversation"),
    ([], "x" * 400, 2, "outgrown"),
    (["--var", "x"], "hi", 2, "NAME=VALUE"),
    (["--template", "nope"], "hi", 3, "no chat template of this name"),
    (["--template", "{{ raise_exception('no') }}"], "hi", 3, "refuses"),
]


@pytest.mark.parametrize(("flags", "given", "code", "message"), REFUSED)
def test_refusals_say_why(
    model: Path,
    flags: list[str],
    given: str,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    found, out, err = run(["chat", model, "--json", *flags], given, monkeypatch, capfd)
    assert found == code, err
    assert message in err
    assert last_json(out)["exit_code"] == code


def test_a_model_without_a_template_says_what_to_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = quantized(write_chat_model(tmp_path / "model", template=None), tmp_path / "plain.gguf")
    code, _, err = run(["chat", plain], "hello\n", monkeypatch, capfd)
    assert code == 3
    assert "template=" in err
    (tmp_path / "own.jinja").write_text("{{ messages[-1].content }}{{ mark }}")
    words = [
        "chat",
        plain,
        "--template",
        tmp_path / "own.jinja",
        "--var",
        "mark=1",
        "--json",
        "--max-tokens",
        2,
    ]
    assert run(words, "hello\n", monkeypatch, capfd)[0] == 0


def test_ctrl_c_stops_the_answer_and_not_the_conversation(model: Path, tmp_path: Path) -> None:
    control, terminal = pty.openpty()
    words = [sys.executable, "-m", "ruvq.cli", "chat", str(model), "--seed", "1", "--context", "320"]
    environment = {**os.environ, "TERM": "dumb"}
    child = subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, env=environment
    )
    os.close(terminal)
    seen = b""

    def wait_for(what: bytes, since: int = 0) -> None:
        nonlocal seen
        deadline = time.monotonic() + 120
        while what not in seen[since:]:
            assert time.monotonic() < deadline, seen
            seen += os.read(control, 4096)

    try:
        wait_for(b"> ")
        os.write(control, b"hello\n")
        wait_for(b"hello\r\n")
        begun = len(seen)
        while len(seen) < begun + 2:  # the answer has begun
            seen += os.read(control, 64)
        os.kill(child.pid, signal.SIGINT)
        wait_for(b"ended by", begun)
        wait_for(b"> ", begun)
        os.write(control, b"/quit\n")
        assert child.wait(60) == 0
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        os.close(control)
