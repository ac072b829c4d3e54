"""Gate G2: verdicts by the limits, the ladder, tasks judged by their rules, journals, bad input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ruvq.cli import main
from ruvq.errors import StorageError, UsageError
from ruvq.evaluate import gate_g2
from ruvq.evaluate.gate_g2 import Measure, Rung, Training, ladder, read_journal
from ruvq.evaluate.tasks import LongContext, Programs, Task, ToolCalls, WordProblems, fitting, runs, score

FINE = Training(True, 3.0, 2.0, 2.0, 100, 10.0, 1 << 30)


class Fake:
    """A model that answers as a function of the prompt says; its tokens are characters."""

    def __init__(self, answer: Callable[[str], str], context: int = 4096) -> None:
        self._answer = answer
        self.info = SimpleNamespace(context_tokens=context)
        self.tokenizer = SimpleNamespace(encode=list, decode="".join)

    def generate(self, prompt: str, max_tokens: int, **options: Any) -> list[str]:
        assert options["temperature"] == 0
        return [self._answer(prompt)[:max_tokens]]


def ask(task: Task, answer: Callable[[str], str], count: int = 9) -> Any:
    model: Any = Fake(answer)
    return score(model, task, fitting(model, task, count))


def test_limits_are_those_of_the_plan() -> None:
    assert Measure("perplexity", "%", 20, 5, 6, 20.0).ok
    assert not Measure("perplexity", "%", 20, 5, 6.01, 20.1).ok
    assert Measure("gsm8k", "points", 15, 40, 25, -15.0).ok
    assert not Measure("gsm8k", "points", 15, 40, 24, -16.0).ok
    assert Measure("gsm8k", "points", 15, reason="no questions").ok
    limits = {WordProblems: 15, Programs: 10, ToolCalls: 5, LongContext: 5}
    assert all(task.limit == limit for task, limit in limits.items())
    assert Rung("a", FINE, ()).go
    assert Rung("a", Training(False, 3, 3, 4, 1, 1, 0), ()).failures == ("convergence",)
    assert Rung("a", FINE, (), memory_limit=(1 << 30) - 1).failures == ("memory",)


@pytest.mark.parametrize(
    ("climb", "goes", "tried"), [(True, "c", 3), (False, "c", 1), (True, "a", 1), (True, "-", 4)]
)
def test_the_ladder_ends_with_the_first_way_that_goes(climb: bool, goes: str, tried: int) -> None:
    bad = (Measure("perplexity", "%", 20, 5, 9, 80.0),)
    found = ladder("a", "bcd", lambda way: Rung(way, FINE, () if way == goes else bad), climb)
    assert [rung.name for rung in found.rungs] == list("abcd"[:tried])
    assert found.go == (found.rungs[-1].name == goes)
    assert found.statement().endswith("G2: go" if found.go else "`--ladder` tries them")
    assert json.loads(json.dumps(found.as_dict()))["go"] == found.go


def test_the_ladder_is_rank_16_8_4_then_distillation_then_none() -> None:
    pytest.importorskip("torch")
    from ruvq.train import QatConfig
    from ruvq.train.gate import ways

    found = ways(QatConfig.pit2(use_lora=True, beta_kd=0.5))
    assert [c and (c.lora_rank, c.beta_kd) for c in found.values()] == [
        (16, 0.5), (8, 0.5), (4, 0.5), (16, 2.0), None,
    ]  # fmt: skip
    full = [c and c.use_lora for c in ways(QatConfig.pit2()).values()]
    assert full == [False, True, True, True, False, None]


def test_word_problems_are_judged_by_the_last_number(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "How many?", "answer": "1 + 1 = 2\\n#### 1,200"}\n')
    task = WordProblems(path)
    assert ask(task, lambda p: " 3 * 400\n#### 1200").right == 1
    assert ask(task, lambda p: " it is 1,200.0").right == 1
    assert ask(task, lambda p: " 1200, or rather 7").right == 0
    assert ask(task, lambda p: " none").right == 0


def test_programs_run_on_their_tests(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    record = {"prompt": "def f(x):\n", "test": "def check(f):\n    assert f(2) == 4\n", "entry_point": "f"}
    path.write_text(json.dumps(record) + "\n")
    task = Programs(path)
    assert ask(task, lambda p: "    return 2 * x\n").right == 1
    assert ask(task, lambda p: "    return x\n").right == 0
    assert ask(task, lambda p: "    import os; os._exit(0)\n").right == 0
    assert not runs("raise SystemExit(0)")
    assert not runs("x = bytearray(1 << 31)")
    assert not runs("while True: pass")


def test_calls_have_the_name_and_possible_arguments(tmp_path: Path) -> None:
    (tmp_path / "possible_answer").mkdir()
    function = [{"name": "area", "parameters": {}}]
    question = {"id": "1", "question": [[{"role": "user", "content": "?"}]], "function": function}
    (tmp_path / "t.json").write_text(json.dumps(question) + "\n")
    truth = {"id": "1", "ground_truth": [{"area": {"a": [2, 3], "unit": ["cm", ""]}}]}
    (tmp_path / "possible_answer/t.json").write_text(json.dumps(truth) + "\n")
    task = ToolCalls(tmp_path / "t.json")
    for arguments, right in (({"a": 3}, 1), ({"a": 2, "unit": "cm"}, 1), ({"a": 4}, 0), ({}, 0),
                             ({"a": 2, "b": 1}, 0), ({"a": 2, "unit": "m"}, 0)):  # fmt: skip
        call = json.dumps({"name": "area", "arguments": arguments})
        assert ask(task, lambda p, call=call: f" {call}").right == right
    for text in (' {"name": "other", "arguments": {"a": 2}}', " area(2)", "[1]", ""):
        assert ask(task, lambda p, text=text: text).right == 0


def test_the_key_is_half_a_context_back() -> None:
    task = LongContext("once upon a time " * 2000)

    def remember(prompt: str) -> str:
        assert 2048 < len(prompt) < 2300
        return " " + prompt.split("key is ")[1][:5]

    found = ask(task, remember, 3)
    assert (found.right, found.asked) == (3, 3)
    assert ask(task, lambda p: " 1").right == 0
    small: Any = Fake(str, context=512)
    assert fitting(small, task, 3) == []


def journal(path: Path, *losses: float | None, end: bool = True) -> Path:
    lines: list[dict[str, Any]] = [{"event": "eval", "step": i, "loss": x} for i, x in enumerate(losses)]
    lines += [{"event": "end", "step": 9, "seconds": 2.5, "peak_bytes": 7}] if end else []
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_journal_tells_whether_training_converged(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    found = read_journal(journal(path, 3.0, 2.0, 2.03))
    assert found == Training(True, 3.0, 2.0, 2.03, 9, 2.5, 7)
    assert not read_journal(journal(path, 3.0, 2.0, 2.5)).converged
    assert not read_journal(journal(path, 3.0, 3.0)).converged
    assert not read_journal(journal(path, 3.0, None)).converged
    for losses, end in (((3.0,), True), ((3.0, 2.0), False)):
        with pytest.raises(UsageError, match="no whole run"):
            read_journal(journal(path, *losses, end=end))
    path.write_text("no json\n")
    with pytest.raises(UsageError, match="not a journal"):
        read_journal(path)
    with pytest.raises(StorageError):
        read_journal(tmp_path / "none")


def test_what_can_t_be_measured_is_said_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "How many?", "answer": "#### 2"}\n' * 4)
    answers = WordProblems(path)
    weak, able = Fake(lambda p: " 3"), Fake(lambda p: " 2")
    found = gate_g2._task(weak, able, answers, 4)  # type: ignore[arg-type]
    assert found.change is None
    assert "answers none of 4" in found.reason
    found = gate_g2._task(able, weak, answers, 4)  # type: ignore[arg-type]
    assert (found.before, found.after, found.change, found.ok) == (100, 0, -100, False)
    tiny = Fake(lambda p: " 2", context=20)
    assert "context of 20" in gate_g2._task(tiny, able, answers, 4).reason  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_trains_climbs_and_says_no(
    data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = data_dir / "stories260K"
    (tmp_path / "t.txt").write_text((data_dir / "text/tiny_stories_train.txt").read_text()[:40000])
    words = [
        "gate", "g2", "--input", str(model / "stories260K.bin"), "--tokenizer", str(model / "tok512.bin"),
        "--train-text", str(tmp_path / "t.txt"), "--text", str(data_dir / "text/tiny_stories_test.txt"),
        "--max-tokens", "300", "--steps", "1", "--lora-rank", "4", "--threads", "1", "--quiet", "--json",
        "--gsm8k", str(data_dir / "gsm8k/test.jsonl"), "--questions", "1",
        "--output", str(tmp_path / "kept.gguf"), "--ladder",
    ]  # fmt: skip
    code = main(words)
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (code, found["go"], found["gate"]) == (1, False, "g2")
    assert [rung["name"] for rung in found["rungs"]] == [
        "LoRA-QAT, rank 4", "LoRA-QAT, rank 4, KD weight 4", "PTQ",
    ]  # fmt: skip
    for rung in found["rungs"]:
        measures = {m["name"]: m for m in rung["measures"]}
        assert measures["perplexity"]["change"] > 20
        assert all(measures[name]["reason"] for name in ("gsm8k", "humaneval", "tool use", "long context"))
    first = found["rungs"][0]["training"]
    assert first["steps"] == 1
    assert first["peak_bytes"] > 1 << 26
    assert math.isfinite(first["best"])
    assert (tmp_path / "kept.gguf").is_file()


def test_it_says_which_file_it_needs(capfd: pytest.CaptureFixture[str]) -> None:
    for words, flag in (
        (["--text", "x"], "--train-text"),
        ([], "--text"),
        (["--text", "x", "--trained", "y"], "--events"),
    ):
        assert main(["gate", "g2", "--input", "m", *words, "--json"]) == 2
        assert json.loads(capfd.readouterr().out.splitlines()[-1])["subject"] == flag
